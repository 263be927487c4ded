"""Which answers the critic may decide alone: conformal sets of verdicts with a promised risk.

Split conformal prediction for two classes. The score of a calibration answer is 1 - P(its true verdict); the
set of a new answer holds every verdict with a score of at most q, the ceil((n+1)(1-alpha))/n quantile of the
calibration scores. The true verdict lies outside it with a chance of alpha at most. With weights (Tibshirani,
Foygel Barber, Candes and Ramdas 2019) that holds for answers drawn in another way than the calibration ones.
A set of one verdict is a decision; both verdicts, or none, send the answer to people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, measured, not_computable, same_length
from alignment.records import Metric

SPLITS = 20


@dataclass(frozen=True)
class Scores:
    """Calibration scores in ascending order with their cumulated weights [n]."""

    value: Floats
    weight: Floats

    @classmethod
    def of(cls, values: Floats, weights: Floats) -> Self:
        order = np.argsort(values, kind="stable")
        return cls(values[order], np.cumsum(weights[order]))

    def quantile(self, level: float, test_weight: Floats) -> Floats:
        """[N] the least score with weight >= level * (total + test weight) at or below it; inf where none has."""
        total = float(self.weight[-1]) if len(self.weight) else 0.0
        # A hair less, so that 0.9 * 10 is reached by nine ones.
        at = np.searchsorted(self.weight, level * (total + test_weight) * (1 - 1e-12), side="left")
        return np.append(self.value, np.inf)[at]


@dataclass(frozen=True)
class Router:
    """`classes`: the scores that each verdict, [fine, violates], is compared with; `alpha`: the promised risk."""

    alpha: float
    classes: tuple[Scores, Scores]
    usual_weight: float

    @classmethod
    def fit(
        cls,
        predicted: ArrayLike,
        observed: ArrayLike,
        alpha: float,
        weights: ArrayLike | None = None,
        *,
        by_class: bool = False,
    ) -> Self:
        """From P(violates) [n] of answers whose verdict, P(violates) >= 0.5 by people, is known.

        The predictions must not come from a fit on the same labels. `weights` [n] >= 0: how many answers of the
        kind to be decided each stands for, up to a factor (1/propensity for all answers); 1 each unless given.
        `by_class` keeps the risk for each verdict on its own (Mondrian): of the violating answers, too, at most
        alpha are called fine; it needs enough labels of both. Too few labels: every set holds both verdicts.
        """
        p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64) >= 0.5
        w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
        same_length(predicted=p, observed=y, weights=w)
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; the promised risk lies between 0 and 1")
        if ((p < 0) | (p > 1) | np.isnan(p)).any() or (w < 0).any() or not np.isfinite(w).all():
            raise ValueError(
                "predicted lies in [0, 1] and weights are finite and 0 or more; leave out failed critiques"
            )
        score = np.where(y, 1 - p, p)
        parts = (~y, y) if by_class else (np.ones(len(y), dtype=bool),) * 2
        fine, violates = (Scores.of(score[part], w[part]) for part in parts)
        return cls(alpha, (fine, violates), float(w.mean()) if len(w) else 1.0)

    def sets(self, p: ArrayLike, weights: ArrayLike | None = None) -> NDArray[np.bool_]:
        """[N, 2] whether the set of an answer with P(violates) = p holds fine, and violates.

        `weights` [N] are those of these answers, on the scale of the calibration weights; their mean unless given.
        A failed critique (nan) gets both.
        """
        found = np.asarray(p, dtype=np.float64)
        w = np.full(len(found), self.usual_weight) if weights is None else np.asarray(weights, dtype=np.float64)
        same_length(p=found, weights=w)
        limits = [scores.quantile(1 - self.alpha, w) for scores in self.classes]
        failed = np.isnan(found)
        held = np.stack([found <= limits[0], 1 - found <= limits[1]], axis=1)
        return held | failed[:, None]

    def decides(self, p: ArrayLike, weights: ArrayLike | None = None) -> list[int | None]:
        """1 (violates) or 0 (fine) where the set is a single verdict, None where people must decide."""
        held = self.sets(p, weights)
        return [int(row[1]) if row.sum() == 1 else None for row in held]


def routing_coverage(
    predicted: Sequence[float], observed: Sequence[float], alpha: float, *, seed: int,
    weights: ArrayLike | None = None, groups: Sequence[str] | None = None, by_class: bool = False,
) -> Metric:  # fmt: skip
    """Share of answers whose set holds the true verdict, in 20 random halvings: fit on one half, count in the other.

    The promise is 1 - alpha or more. Halves share no group (prompt). Wilson's interval on all n answers, as the
    halvings use each many times. Weighted as the promise is. Fewer than 4 groups: no value.
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64) >= 0.5
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    index = np.unique(np.arange(len(p)) if groups is None else np.asarray(groups), return_inverse=True)[1]
    if len(p) == 0 or index.max() < 3 or w.sum() <= 0:
        return not_computable("routing_coverage", "people judged fewer than four answers", n=len(p), seed=seed)
    rng = np.random.default_rng(seed)
    held = total = 0.0
    for _ in range(SPLITS):
        order = rng.permutation(index.max() + 1)
        half = (order < (index.max() + 1) / 2)[index]
        router = Router.fit(p[half], y[half], alpha, w[half], by_class=by_class)
        right = router.sets(p[~half], w[~half])[np.arange(int((~half).sum())), y[~half].astype(int)]
        held += float((w[~half] * right).sum())
        total += float(w[~half].sum())
    share = held / total if total else 1.0
    size = float(w.sum() ** 2 / (w**2).sum())
    note = f"promised: {1 - alpha:.0%}"
    return measured("routing_coverage", share, wilson(share * size, size), len(p), seed=seed, note=note)
