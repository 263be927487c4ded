"""Percentile bootstrap intervals, by item or by cluster (all answers to one query belong together)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from alignment.metrics.result import Interval

DRAWS = 1000
CELLS = 4_000_000  # items times draws held at once by `resample_weights`: 32 MB


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


def resample_weights(
    n: int, *, seed: int, draws: int = DRAWS, clusters: Sequence[str] | None = None
) -> Iterator[NDArray[np.float64]]:
    """The draws of `resamples` as blocks [n, some draws]: how often each item was drawn. For sums over items."""
    names = range(n) if clusters is None else clusters
    if len(names) != n:
        raise ValueError(f"{len(names)} cluster names for {n} items; pass one per item")
    rng = np.random.default_rng(seed)
    place = {name: at for at, name in enumerate(dict.fromkeys(names))}
    cluster_of = np.array([place[name] for name in names], dtype=np.int64)
    groups, size = len(place), max(1, CELLS // max(n, 1))
    for start in range(0, draws, size):
        block = [
            np.bincount(rng.integers(0, groups, groups), minlength=groups)
            for _ in range(start, min(start + size, draws))
        ]
        yield np.stack(block, axis=1)[cluster_of].astype(np.float64)


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
    return percentile_interval(
        np.array([statistic(i) for i in resamples(n, seed=seed, draws=draws, clusters=clusters)])
    )


def percentile_interval(values: NDArray[np.float64]) -> Interval | None:
    """2.5 % and 97.5 % quantiles of the defined ones among the drawn values; None where fewer than half are."""
    defined = values[np.isfinite(values)]
    if not len(defined) or len(defined) * 2 < len(values):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(low), float(high))
