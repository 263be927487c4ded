"""How far raters agree: Krippendorff's alpha among people, between critic and people, and plain shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.metrics.bootstrap import DRAWS, bootstrap_interval, percentile_interval, resample_weights
from alignment.metrics.rates import share
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Metric

Scale = Literal["nominal", "ordinal", "interval", "ratio"]


def alpha(
    name: str,
    ratings: ArrayLike,
    *,
    seed: int,
    scale: Scale = "nominal",
    clusters: Sequence[str] | None = None,
    draws: int = DRAWS,
    group: str = "",
    model: str = "new",
) -> Metric:
    """Krippendorff's alpha of ratings [raters, items] (nan = not rated), 1 = perfect, 0 = chance.

    The interval is a bootstrap over items (over whole `clusters` [items] where given), not over raters.
    n counts the items with two ratings or more. No such item, or one single value throughout: no value,
    because expected disagreement is then zero.
    """
    table: Floats = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    shared = (~np.isnan(table)).sum(axis=0) >= 2
    n = int(shared.sum())
    if n == 0:
        why = "no item was rated by two or more"
        return not_computable(name, why, seed=seed, group=group, model=model)
    table = table[:, shared]
    values = np.unique(table[~np.isnan(table)])
    if len(values) < 2:
        why = f"all ratings are the same ({values[0]:g}), so that chance agreement is total"
        return not_computable(name, why, n=n, seed=seed, group=group, model=model)
    counts = np.stack([(table == v).sum(axis=0) for v in values], axis=1)

    def statistic(items: NDArray[np.int64]) -> float:
        drawn = counts[items]
        present = drawn.sum(axis=0) > 0
        if present.sum() < 2:
            return float("nan")
        return float(
            krippendorff.alpha(value_counts=drawn[:, present], value_domain=values[present], level_of_measurement=scale)
        )

    kept = None if clusters is None else [c for c, s in zip(clusters, shared, strict=True) if s]
    if scale == "nominal" and n >= 2:  # sums over items: all draws at once
        blocks = resample_weights(n, seed=seed, draws=draws, clusters=kept)
        interval = percentile_interval(np.concatenate([_nominal_alphas(counts, weights) for weights in blocks]))
    else:
        interval = bootstrap_interval(statistic, n, seed=seed, draws=draws, clusters=kept)
    note = "" if interval else "no interval: too few items with differing ratings"
    return measured(name, statistic(np.arange(n)), interval, n, seed=seed, group=group, model=model, note=note)


def _nominal_alphas(counts: NDArray[np.int64], weights: Floats) -> Floats:
    """Nominal alpha [draws] of value counts [items, values] under weights [items, draws].

    1 - (n - 1) * sum_i (m_i^2 - sum_v c_iv^2) / (m_i - 1) / (n^2 - sum_v n_v^2); nan where one value is left.
    """
    rated = counts.sum(axis=1)
    apart = (rated**2 - (counts**2).sum(axis=1)) / (rated - 1)
    of_value = counts.T @ weights
    total = of_value.sum(axis=0)
    chance = total**2 - (of_value**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance > 0, 1 - (total - 1) * (apart @ weights) / chance, np.nan)


def critic_human_alpha(
    critic: ArrayLike, human: ArrayLike, *, seed: int, clusters: Sequence[str] | None = None, model: str = "new"
) -> Metric:
    """Alpha of the critic's verdicts and people's, both cut at 0.5; nan where either gave none."""
    both = np.stack([np.asarray(critic, dtype=np.float64), np.asarray(human, dtype=np.float64)])
    cut = np.where(np.isnan(both), np.nan, (both >= 0.5).astype(np.float64))
    return alpha("critic_human_alpha", cut, seed=seed, clusters=clusters, model=model)


def agreement_share(name: str, critic: ArrayLike, human: ArrayLike, *, group: str = "", model: str = "new") -> Metric:
    """Share of answers where critic and people fall on the same side of 0.5, with Wilson's interval.

    A missing critic verdict (nan) counts as not agreeing: a critic that fails is not right. Answers that
    people left unjudged (nan) are left out. Nothing left: no value.
    """
    own, people = np.asarray(critic, dtype=np.float64), np.asarray(human, dtype=np.float64)
    if own.shape != people.shape:
        raise ValueError(f"{own.size} critic verdicts but {people.size} human ones; pass one pair per answer")
    judged = ~np.isnan(people)
    same = ~np.isnan(own) & ((own >= 0.5) == (people >= 0.5))
    return share(name, [bool(s) for s in same[judged]], group=group, model=model)
