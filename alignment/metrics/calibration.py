"""Does a predicted 0.8 violate in 80 % of cases? Reliability bins, expected calibration error, Brier score.

`weights` (1/propensity) make the answer hold for all samples, not only for the flagged ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.metrics.bootstrap import DRAWS, bootstrap_interval
from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, measured, not_computable, same_length
from alignment.records import Metric

BINS = 10


def reliability(
    predicted: ArrayLike, observed: ArrayLike, *, weights: ArrayLike | None = None, bins: int = BINS, model: str = "new"
) -> list[Metric]:
    """For each bin "0".."9" of equal width: `calibration` (observed share) and `calibration_predicted` (mean).

    predicted [n] and observed [n] in [0, 1]; observed may be soft. The last bin contains 1. With weights,
    Wilson's interval uses Kish's effective size (sum w)^2 / sum w^2. An empty bin has no value.
    """
    p, y, w = _arrays(predicted, observed, weights)
    which = _bins(p, bins)
    rows = []
    for b in range(bins):
        inside = which == b
        n, group = int(inside.sum()), str(b)
        if n == 0:
            why = f"no prediction lies between {b / bins:g} and {(b + 1) / bins:g}"
            rows += [not_computable(m, why, group=group, model=model) for m in ("calibration", "calibration_predicted")]
            continue
        share = float(np.average(y[inside], weights=w[inside]))
        size = float(w[inside].sum() ** 2 / (w[inside] ** 2).sum())
        rows.append(measured("calibration", share, wilson(share * size, size), n, group=group, model=model))
        mean = float(np.average(p[inside], weights=w[inside]))
        rows.append(measured("calibration_predicted", mean, None, n, group=group, model=model))
    return rows


def expected_calibration_error(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    seed: int,
    weights: ArrayLike | None = None,
    bins: int = BINS,
    draws: int = DRAWS,
    model: str = "new",
) -> Metric:
    """ECE = sum over bins of (weight share of the bin) * |observed share - mean prediction|, in [0, 1].

    Bootstrap interval over answers. Biased upwards for small n: compare only values with a like n. Empty: no value.
    """
    p, y, w = _arrays(predicted, observed, weights)
    if len(p) == 0:
        return not_computable("critic_ece", "no answer has both a prediction and a label", seed=seed, model=model)
    which = _bins(p, bins)

    def statistic(items: NDArray[np.int64]) -> float:
        signed = np.bincount(which[items], weights=w[items] * (y[items] - p[items]), minlength=bins)
        return float(np.abs(signed).sum() / w[items].sum())

    interval = bootstrap_interval(statistic, len(p), seed=seed, draws=draws)
    return measured("critic_ece", statistic(np.arange(len(p))), interval, len(p), seed=seed, model=model)


def brier(
    predicted: ArrayLike,
    observed: ArrayLike,
    *,
    seed: int,
    weights: ArrayLike | None = None,
    draws: int = DRAWS,
    model: str = "new",
) -> Metric:
    """Brier score: mean of (prediction - observed)^2, in [0, 1], 0 is best, 0.25 is a constant 0.5. Empty: no value."""
    p, y, w = _arrays(predicted, observed, weights)
    if len(p) == 0:
        return not_computable("critic_brier", "no answer has both a prediction and a label", seed=seed, model=model)
    squared = (p - y) ** 2

    def statistic(items: NDArray[np.int64]) -> float:
        return float(np.average(squared[items], weights=w[items]))

    interval = bootstrap_interval(statistic, len(p), seed=seed, draws=draws)
    return measured("critic_brier", statistic(np.arange(len(p))), interval, len(p), seed=seed, model=model)


def _bins(p: Floats, bins: int) -> NDArray[np.int64]:
    return np.minimum((p * bins).astype(np.int64), bins - 1)


def _arrays(predicted: ArrayLike, observed: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """The pairs where both are known, as floats within [0, 1], and their weights (1 by default)."""
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    same_length(predicted=p, observed=y, weights=w)
    known = ~(np.isnan(p) | np.isnan(y))
    p, y, w = p[known], y[known], w[known]
    for name, values in (("predicted", p), ("observed", y)):
        if ((values < 0) | (values > 1)).any():
            raise ValueError(f"{name} holds {values[(values < 0) | (values > 1)][0]}; probabilities lie in [0, 1]")
    if (w <= 0).any():
        raise ValueError(f"weights hold {w[w <= 0][0]}; each must be above 0")
    return p, y, w
