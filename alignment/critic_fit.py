"""Fits the critic: members on labelled answers, their weights on people's labels, and one calibration.

Whatever is chosen is chosen inside the labels given, by cross-validation whose folds never share a prompt.
The combination is ours; stacking with weights of zero or more is Breiman's (1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from alignment.critic import Critic, HeldOut, LabelledAnswer
from alignment.heads import STRENGTH, Basis, Floats, fit_coefficients, fit_platt, sigmoid
from alignment.readings import Reading, Readings, member_names
from alignment.records import Principle

FOLDS = 5
STRENGTHS = (STRENGTH / 3, STRENGTH, STRENGTH * 3)
PRIOR = 0.1  # weight of an exemplar against a person's label
PRIORS = (PRIOR / 3, PRIOR, PRIOR * 3)
ENOUGH = 40  # people's labels below which nothing is chosen, and the settings above stay
HOLD = 20.0  # how strongly the members' weights are held to equal ones, in answers
FARTHEST = 5.0  # an answer's weight in the calibration, in medians: few far-fetched ones must not decide it


@dataclass(frozen=True)
class Material:
    """Rows made ready: `soft`, `weight` (of people's labels), `human`, `groups` [N]; coordinates a member [R, rank]."""

    names: list[str]
    bases: dict[str, Basis]
    rotated: dict[str, Floats]  # of all readings; rows `whole` are the N answers themselves
    readings: Readings
    whole: NDArray[np.int64]
    soft: Floats
    weight: Floats
    human: NDArray[np.bool_]
    groups: NDArray[np.str_]


def fit_critic(
    rows: Sequence[LabelledAnswer], principles: Sequence[Principle], *, seed: int, unlabelled: Sequence[Reading] = ()
) -> tuple[Critic, HeldOut]:
    """(critic, its cross-validated predictions for the human rows, in their order).

    `unlabelled` answers say what is usual where the critic is going to work: they set the coordinates, not the
    verdicts. Rows that are not human (the shipped exemplars) weigh little and less the more people have said.
    """
    if not rows:
        raise ValueError("the critic has no labelled answers to start from; ship exemplars or give labels")
    material = prepare(rows, unlabelled)
    folds = group_folds(material.groups, seed=seed)
    strength, prior = choose_settings(material, folds)
    held = held_out_logits(material, folds, strength, prior)  # [M, R]
    judged = material.human if material.human.any() else np.ones(len(rows), dtype=bool)
    at = material.whole[judged]
    centre_M, spread_M = held[:, at].mean(axis=1), held[:, at].std(axis=1)
    scale_M = np.where(spread_M > 1e-6, spread_M, 1.0)
    held = (held - centre_M[:, None]) / scale_M[:, None]
    weights = fit_weights(held[:, at], material.soft[judged], material.weight[judged])
    together = weights @ held
    worst = np.full(len(rows), -np.inf)
    np.maximum.at(worst, material.readings.owner_R, together)
    slope, offset = fit_platt(worst[judged], material.soft[judged], _stands_for(rows)[judged])

    row_weight = material.weight * np.where(material.human, 1.0, prior)
    members = {}
    for name, centre, scale in zip(material.names, centre_M, scale_M, strict=True):
        z = material.rotated[name][material.whole]
        coef, bias = fit_coefficients(z, material.soft, row_weight, strength=_own(name, strength))
        # A member that tells nothing apart stays at the middle: its bias is the calibration's to say, not the folds'.
        head = material.bases[name].head(coef, bias if coef.any() else centre)
        members[name] = head.scaled(1 / scale, -centre / scale)
    named = np.array([r.principle for r in rows])
    all_ND = material.readings.inputs("all")
    basis = Basis.of(all_ND[material.whole])
    z = basis.rotate(all_ND[material.whole])
    heads = {
        p.key: basis.head(*fit_coefficients(z, material.soft * (named == p.key), row_weight))
        for p in principles
        if p.kind == "conformity"
    }
    critic = Critic(members, dict(zip(material.names, weights.tolist(), strict=True)), heads,
                    {p.key: p.title for p in principles}, slope, offset)  # fmt: skip
    human = np.flatnonzero(material.human)
    errors = sigmoid(slope * held[:, material.whole[human]] + offset) - material.soft[human]
    return critic, HeldOut(
        [float(p) for p in sigmoid(slope * worst[human] + offset)], [float(v) for v in material.soft[human]],
        [row.id for row in rows if row.human], errors,
    )  # fmt: skip


def prepare(rows: Sequence[LabelledAnswer], unlabelled: Sequence[Reading] = ()) -> Material:
    readings = Readings.of([r.reading for r in rows])
    names = member_names(rows[0].reading)
    whole = np.searchsorted(readings.owner_R, np.arange(len(rows)))
    human = np.array([r.human for r in rows])
    here = [r.reading.whole for r in rows if r.human] + [r.whole for r in unlabelled]
    # Exemplars were written elsewhere; what is usual is learnt from the answers at hand, once there are some.
    usual = Readings.of(here if len(here) >= ENOUGH else here + [r.reading.whole for r in rows if not r.human])
    bases = {name: Basis.of(usual.inputs(name)) for name in names}
    copies = _copies(rows)
    return Material(
        names, bases, {name: bases[name].rotate(readings.inputs(name)) for name in names}, readings, whole,
        np.array([r.violates for r in rows]), np.array([r.weight for r in rows]) / np.sqrt(copies), human,
        np.array([r.prompt for r in rows]),
    )  # fmt: skip


def choose_settings(material: Material, folds: NDArray[np.int64]) -> tuple[float, float]:
    """(strength, prior) with the best held-out AUROC of one member; the defaults unless another is clearly better."""
    from sklearn.metrics import roc_auc_score

    if material.human.sum() < ENOUGH:
        return STRENGTH, PRIOR
    member = material.names[len([n for n in material.names if n.startswith("layer ")]) // 2]
    y = material.soft[material.human] >= 0.5
    if y.all() or not y.any():
        return STRENGTH, PRIOR
    priors = PRIORS if not material.human.all() else (PRIOR,)
    scores = {}
    for strength, prior in product(STRENGTHS, priors):
        logit = held_out_logits(material, folds, strength, prior, only=[member])[0, material.whole]
        scores[strength, prior] = float(roc_auc_score(y, logit[material.human]))
    best = max(scores, key=lambda key: scores[key])
    default = scores[STRENGTH, PRIOR]
    error = np.sqrt(max(default * (1 - default), 0.01) / min(y.sum(), (~y).sum()))
    return best if scores[best] > default + error / 2 else (STRENGTH, PRIOR)


def held_out_logits(
    material: Material, folds: NDArray[np.int64], strength: float, prior: float, only: Sequence[str] = ()
) -> Floats:
    """[M, R] raw logits of every reading by members that were fitted without its prompt."""
    names = list(only) or material.names
    logits = np.zeros((len(names), len(material.readings.owner_R)))
    row_weight = material.weight * np.where(material.human, 1.0, prior)
    fold_R = folds[material.readings.owner_R]
    for fold in range(FOLDS):
        train, test = folds != fold, fold_R == fold
        if not test.any() or not train.any():
            continue
        for m, name in enumerate(names):
            z = material.rotated[name]
            fitted = fit_coefficients(z[material.whole[train]], material.soft[train], row_weight[train],
                                      strength=_own(name, strength))  # fmt: skip
            logits[m, test] = z[test] @ fitted[0] + fitted[1]
    return logits


def fit_weights(logits_MN: Floats, soft_N: Floats, weight_N: Floats) -> Floats:
    """[M] weights >= 0 that sum to 1: a logistic stack on held-out logits, held to equal weights by HOLD answers."""
    from scipy.optimize import minimize

    count = len(logits_MN)
    weight_N = weight_N / weight_N.mean()

    def loss(at: Floats) -> tuple[float, Floats]:
        z = np.clip(at[:-1] @ logits_MN + at[-1], -40, 40)
        pull = at[:-1] - at[:-1].mean()
        value = weight_N @ (np.logaddexp(0, z) - soft_N * z) + HOLD * count * (pull @ pull) / 2
        error = weight_N * (sigmoid(z) - soft_N)
        return value, np.append(logits_MN @ error + HOLD * count * pull, error.sum())

    start = np.append(np.full(count, 1.5 / count), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * count + [(None, None)])
    weights = found.x[:-1]
    out: Floats = weights / weights.sum() if weights.sum() > 0 else np.full(count, 1 / count)
    return out


def group_folds(groups: NDArray[np.str_], *, seed: int) -> NDArray[np.int64]:
    """[N] a fold number a row; rows with the same prompt share a fold."""
    names = sorted(set(groups.tolist()))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {name: int(place) % FOLDS for name, place in zip(names, order, strict=True)}
    return np.array([fold_of[g] for g in groups.tolist()])


def _own(member: str, strength: float) -> float:
    """Few, plain features stand a weaker hold."""
    return 3 * strength if member == "words" else strength


def _copies(rows: Sequence[LabelledAnswer]) -> Floats:
    """[N] how many rows show the very same answer: k copies together count as its square root times one."""
    keys = [(r.prompt, r.human, np.asarray(r.reading.mean_RKD[0], dtype=np.float16).tobytes()) for r in rows]
    counts: dict[object, int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    return np.array([counts[key] for key in keys], dtype=np.float64)


def _stands_for(rows: Sequence[LabelledAnswer]) -> Floats:
    """[N] how many answers each stands for, 1/propensity, held to FARTHEST medians; 1 where the chance is unknown."""
    chance = np.array([r.propensity for r in rows])
    if not (chance > 0).any():
        return np.ones(len(rows))
    stands = np.where(chance > 0, 1 / np.where(chance > 0, chance, 1.0), 1.0)
    out: Floats = np.minimum(stands, FARTHEST * np.median(stands[chance > 0]))
    return out
