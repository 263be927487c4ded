"""What makes a sample worth a person's time: one plain function a policy, from a pool to a size each.

A size is >= 0, and only ratios matter: `selection.select` turns sizes into exact chances under a budget,
with an audit floor and without near-duplicates. The mix is a weighted sum of normalised sizes.

Axes: n samples, m members of the critic, d features, k labelled samples. Owns: Pool, Mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from alignment.records import FlagReason

Floats = NDArray[np.float64]
DIMENSIONS = 48  # of the projected features: enough to tell samples apart, and 5,000 of them take 0.2 s
CENTRES = 64  # of the k-centre cover
PRIOR_PRECISION = 1.0  # of a coefficient of the model behind error_reduction, on features of unit variance
UNIT = np.log(2.0)  # the largest entropy of a yes or no, in nats


@dataclass(frozen=True)
class Pool:
    """What the critic found, one entry a sample. Entries of failed samples are ignored and may be nan.

    probability [n]: calibrated P(violates) in [0, 1]; members [m, n]: each member's own, m may be 0;
    features [n, d] place samples; failed [n]: no usable critique; labelled [k, d]: features of what already
    has labels; risk [n] >= 0: how bad a violation would be, 1 unless given; principles [n]: titles for words.
    """

    probability: Floats
    members: Floats
    features: Floats
    failed: NDArray[np.bool_]
    labelled: Floats | None = None
    risk: Floats | None = None
    principles: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.failed)
        if self.members.ndim != 2 or self.members.shape[1] != n:
            raise ValueError(f"members has shape {self.members.shape} for {n} samples; pass [members, samples]")
        for name in ("probability", "features", "risk"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise ValueError(f"{name} has {len(values)} entries for {n} samples; pass one per sample")
        if self.principles and len(self.principles) != n:
            raise ValueError(f"{len(self.principles)} principle titles for {n} samples; pass one per sample, or none")
        judged = ~self.failed
        for name, values in (("probability", self.probability[judged]), ("members", self.members[:, judged])):
            if values.size and not ((values >= 0) & (values <= 1)).all():
                raise ValueError(f"{name} holds a value outside [0, 1] for a judged sample; mark it failed")
        if not np.isfinite(self.features[judged]).all():
            raise ValueError("features hold a value that is not finite for a judged sample; mark it failed")

    def __len__(self) -> int:
        return len(self.failed)

    def judged(self) -> Pool:
        """The pool without failed samples: what policies are asked about."""
        if not self.failed.any():
            return self
        keep = np.flatnonzero(~self.failed)
        return replace(
            self, probability=self.probability[keep], members=self.members[:, keep], features=self.features[keep],
            failed=self.failed[keep], risk=None if self.risk is None else self.risk[keep],
            principles=[self.principles[int(i)] for i in keep] if self.principles else (),
        )  # fmt: skip

    @cached_property
    def placed(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(samples [n, e], labelled [k, e]) in the leading e <= 48 principal directions, each feature scaled first."""
        labelled = self.features[:0] if self.labelled is None else self.labelled
        both = project(np.concatenate([self.features, labelled], dtype=np.float32))
        return both[: len(self)], both[len(self) :]


Policy = Callable[[Pool], Floats]


def project(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, d] -> [n, min(d, 48)]: standardised, then randomised PCA (Halko, Martinsson, Tropp 2011), fixed seed.

    Scaled to a mean squared length of e, so that a feature has variance 1 on average. All alike: zeros.
    """
    n, d = features.shape
    if not n or not d:
        return features
    centred = features - features.mean(axis=0)
    scale = np.sqrt(np.einsum("nd,nd->d", centred, centred) / n)
    # A nearly constant feature is noise: it is scaled as if it varied a tenth as much as the others.
    centred /= np.maximum(scale, max(0.1 * float(scale.mean()), 1e-12))
    if d > DIMENSIONS:
        sketch = np.random.default_rng(0).standard_normal((d, DIMENSIONS + 8)).astype(np.float32)
        basis, _ = np.linalg.qr(centred.T @ (centred @ sketch))  # [d, <= 56]: one power iteration
        turned = centred @ basis
        _, vectors = np.linalg.eigh(turned.T @ turned)
        centred = turned @ vectors[:, ::-1][:, :DIMENSIONS]
    length = float(np.mean((centred**2).sum(axis=1)))
    return centred * np.float32(np.sqrt(centred.shape[1] / length)) if length > 1e-12 else centred * 0


def random(pool: Pool) -> Floats:
    """1 each."""
    return np.ones(len(pool))


def uncertainty(pool: Pool) -> Floats:
    """Entropy of P(violates), in bits."""
    return entropy(pool.probability)


def disagreement(pool: Pool) -> Floats:
    """Standard deviation of the members' P(violates); 0 where there are none."""
    return pool.members.std(axis=0) if len(pool.members) else np.zeros(len(pool))


def bald(pool: Pool) -> Floats:
    """Mutual information of verdict and member, H(mean p) - mean H(p), in bits (Houlsby et al. 2011)."""
    if not len(pool.members):
        return np.zeros(len(pool))
    return np.maximum(entropy(pool.members.mean(axis=0)) - entropy(pool.members).mean(axis=0), 0.0)


def error_reduction(pool: Pool) -> Floats:
    """How much the variance of all predictions of the pool falls when the sample is labelled.

    A logistic model on the projected features z, by its Laplace approximation: precision A = prior + sum over
    labelled of z z' / 4; Var(p_j) = v_j^2 z_j' A^-1 z_j, v = p (1 - p). A label of i adds v_i z_i z_i', so by
    Sherman and Morrison the sum over j falls by v_i z_i' A^-1 C A^-1 z_i / (1 + v_i z_i' A^-1 z_i) with
    C = sum_j v_j^2 z_j z_j'. After Cohn, Ghahramani and Jordan (1996); the logistic form is ours. O(n e^2).
    """
    z, labelled = (np.concatenate([np.ones((len(a), 1)), a], axis=1) for a in pool.placed)  # 1: the base rate
    v = pool.probability * (1 - pool.probability)
    precision = PRIOR_PRECISION * np.eye(z.shape[1]) + 0.25 * labelled.T @ labelled
    q = np.linalg.solve(precision, z.T).T  # [n, e]
    target = (z * (v**2)[:, None]).T @ z
    gain = ((q @ target) * q).sum(axis=1)
    return np.asarray(v * gain / (1 + v * (z * q).sum(axis=1)))


def diversity(pool: Pool) -> Floats:
    """Distance to what is covered already, by farthest-first cover (k-centre greedy, Gonzalez 1985).

    Covered are the labelled samples and the centres chosen before; a centre keeps the distance it had when it
    was chosen, what is no centre after 64 the distance to the nearest.
    """
    z, labelled = pool.placed
    size = np.zeros(len(pool))
    if not len(pool):
        return size
    nearest = _nearest_squared(z, labelled) if len(labelled) else (z**2).sum(axis=1)
    chosen = np.zeros(len(pool), dtype=bool)
    for _ in range(min(CENTRES, len(pool))):
        centre = int(np.where(chosen, -1, nearest).argmax())
        size[centre] = nearest[centre]
        chosen[centre] = True
        nearest = np.minimum(nearest, ((z - z[centre]) ** 2).sum(axis=1))
    return np.sqrt(np.where(chosen, size, nearest))


def risk(pool: Pool) -> Floats:
    """P(violates) times how bad it would be."""
    return pool.probability * (1.0 if pool.risk is None else pool.risk)


@dataclass(frozen=True)
class Mix:
    """Weights of the signals; only their ratio matters. The field names are the signals' names as reasons."""

    violation: float = 0.25
    uncertainty: float = 0.2
    disagreement: float = 0.15
    diversity: float = 0.15
    error_reduction: float = 0.25

    def __post_init__(self) -> None:
        if min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(f"mix is {self.weights.tolist()}; weights are 0 or more and at least one is above 0")

    @property
    def weights(self) -> Floats:
        """[5], in the order of SIGNALS."""
        return np.array([getattr(self, name) for name in SIGNALS], dtype=np.float64)


# Each signal of the mix: the reason it gives for a flag, and its policy.
SIGNALS: dict[FlagReason, Policy] = {
    "violation": risk,
    "uncertainty": uncertainty,
    "disagreement": disagreement,
    "diversity": diversity,
    "error_reduction": error_reduction,
}


def signal_shares(pool: Pool) -> Floats:
    """[n, 5]: each sample's share of every signal's sum, in the order of SIGNALS; columns sum to 1, or are 0."""
    return np.stack([normalised(policy(pool)) for policy in SIGNALS.values()], axis=1)


def normalised(size: Floats) -> Floats:
    """Sizes that sum to 1; zeros where there is nothing."""
    total = float(size.sum())
    return size / total if total > 0 else np.zeros(len(size))


def mix(pool: Pool) -> Floats:
    """The weighted sum of the signals' normalised sizes, with the default weights."""
    return np.asarray(signal_shares(pool) @ Mix().weights)


POLICIES: dict[str, Policy] = {
    "random": random,
    "uncertainty": uncertainty,
    "disagreement": disagreement,
    "bald": bald,
    "error_reduction": error_reduction,
    "diversity": diversity,
    "risk": risk,
    "mix": mix,
}


def entropy(p: Floats) -> Floats:
    """Entropy of a yes or no with chance p, in bits; 0 at 0 and 1."""
    inside = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)) / UNIT)


def _nearest_squared(z: NDArray[np.float32], others: NDArray[np.float32]) -> Floats:
    """[n] squared distance to the nearest of `others` [k, e], in blocks so that memory stays small."""
    best = np.full(len(z), np.inf)
    squared = (z**2).sum(axis=1)
    for start in range(0, len(others), 512):
        block = others[start : start + 512]
        distance = squared[:, None] + (block**2).sum(axis=1)[None] - 2 * z @ block.T
        best = np.minimum(best, distance.min(axis=1))
    return np.maximum(best, 0.0)
