"""Percentile bootstrap intervals, by item or by cluster (all answers to one query belong together)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from alignment.metrics.result import Interval

DRAWS = 1000


def resamples(
    n: int, *, seed: int, draws: int = DRAWS, clusters: Sequence[str] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yields `draws` index arrays into n items. With `clusters` [n], whole clusters are drawn."""
    rng = np.random.default_rng(seed)
    if clusters is None:
        for _ in range(draws):
            yield rng.integers(0, n, n)
        return
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster names for {n} items; pass one per item")
    members: dict[str, list[int]] = {}
    for index, name in enumerate(clusters):
        members.setdefault(name, []).append(index)
    groups = [np.array(indices, dtype=np.int64) for indices in members.values()]
    for _ in range(draws):
        yield np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    seed: int,
    draws: int = DRAWS,
    clusters: Sequence[str] | None = None,
) -> Interval | None:
    """2.5 % and 97.5 % quantiles of `statistic(indices)` over resamples.

    Draws where the statistic is undefined (nan) are left out; where that is more than half of them,
    or n is below 2, there is no interval (None).
    """
    if n < 2:
        return None
    values = np.array([statistic(i) for i in resamples(n, seed=seed, draws=draws, clusters=clusters)])
    values = values[np.isfinite(values)]
    if len(values) * 2 < draws:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
