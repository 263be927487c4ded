"""How a number, or the reason why there is none, becomes a `records.Metric`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alignment.records import Metric

Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, low <= high."""

    low: float
    high: float


def measured(
    name: str,
    value: float,
    interval: Interval | None,
    n: int,
    *,
    seed: int = 0,
    group: str = "",
    model: str = "new",
    note: str = "",
) -> Metric:
    """A Metric with a value. `note` says what a reader must know about it; `seed` is 0 where nothing is drawn."""
    low, high = (None, None) if interval is None else (float(interval.low), float(interval.high))
    return Metric(name, float(value), low, high, int(n), seed, group, note, model)


def not_computable(name: str, why: str, *, n: int = 0, seed: int = 0, group: str = "", model: str = "new") -> Metric:
    """A Metric without a value. `why` completes the sentence "not computable, because ...", which pages begin."""
    return Metric(name, None, None, None, int(n), seed, group, why, model)


def same_length(**arrays: NDArray[np.generic]) -> int:
    """The common first length of the arrays; an error names every length where they differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"arrays differ in length ({lengths}); pass one entry per item in each")
    return next(iter(lengths.values()))
