"""How a rater uses the room that principles leave: after "AI Alignment at Your Discretion" (Buyl et al. 2025).

`principles` [principles, pairs] and `rater` [pairs] hold +1 (prefers the first answer), -1 (the second) or
0 (no preference). The priority fit and all intervals are ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from alignment.metrics.bootstrap import DRAWS, bootstrap_interval
from alignment.metrics.rates import share
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Metric


def pair_kinds(principles: ArrayLike) -> list[Metric]:
    """Shares of pairs in consensus (some prefer, none opposes), conflict and indifference; they sum to 1.

    Three metrics `principle_preference`, groups "consensus", "conflict", "indifference". No pairs: no values.
    """
    table = _signs(principles)
    first, second = (table > 0).any(axis=0), (table < 0).any(axis=0)
    kinds = {"consensus": first ^ second, "conflict": first & second, "indifference": ~first & ~second}
    return [share("principle_preference", np.atleast_1d(hits).tolist(), group=kind) for kind, hits in kinds.items()]


def arbitrariness(principles: ArrayLike, rater: ArrayLike) -> Metric:
    """P(the rater opposes a consensus of principles), among consensus pairs on which the rater has a preference."""
    table, own = _signs(principles), _signs(rater)[0]
    _check(table, own)
    first, second = (table > 0).any(axis=0), (table < 0).any(axis=0)
    consensus = (first ^ second) & (own != 0)
    if not consensus.any():
        return not_computable("arbitrariness", "no pair has a consensus of principles and a preference of the rater")
    direction = np.where(first, 1, -1)
    return share("arbitrariness", [bool(v) for v in (own != direction)[consensus]])


def supremacy(principles: ArrayLike, rater: ArrayLike, i: int, j: int) -> Metric:
    """P(the rater sides with principle i | i and j conflict), group "i>j"; over pairs where the rater prefers one."""
    table, own = _signs(principles), _signs(rater)[0]
    _check(table, own)
    conflict = (table[i] * table[j] < 0) & (own != 0)
    group = f"{i}>{j}"
    if not conflict.any():
        return not_computable("supremacy", f"principles {i} and {j} never conflict", group=group)
    return share("supremacy", [bool(v) for v in (own == table[i])[conflict]], group=group)


def priorities(principles: ArrayLike, rater: ArrayLike, *, steps: int = 200) -> Floats:
    """Strength of each principle for this rater [principles], summing to 1; nan for one that never conflicts.

    Bradley-Terry on the conflicts (a win for the principle the rater sides with), minorise-maximise, half a
    win added to both sides of every pair that met, so that it exists for a principle that always wins.
    """
    table, own = _signs(principles), _signs(rater)[0]
    _check(table, own)
    size = len(table)
    wins = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            conflict = (table[i] * table[j] < 0) & (own != 0)
            if i != j and conflict.any():
                wins[i, j] = float((own == table[i])[conflict].sum()) + 0.5
    met = wins + wins.T
    strength = np.ones(size)
    played = met.sum(axis=1) > 0
    for _ in range(steps):
        expected = (met / (strength[:, None] + strength[None, :])).sum(axis=1)
        strength = np.where(played, wins.sum(axis=1) / np.where(played, expected, 1.0), 1.0)
        strength /= strength[played].sum() if played.any() else 1.0
    return np.where(played, strength, np.nan)


def discrepancy(principles: ArrayLike, rater: ArrayLike, other: ArrayLike, *, seed: int, draws: int = DRAWS) -> Metric:
    """(1 - tau)/2 between two raters' priority ranks, Kendall's tau-b: 0 same order, 1 reversed.

    n counts the pairs. Bootstrap over pairs. Fewer than two principles ranked for both: no value.
    """
    table, own, second = _signs(principles), _signs(rater)[0], _signs(other)[0]
    _check(table, own)
    _check(table, second)

    def statistic(pairs: NDArray[np.int64]) -> float:
        one = priorities(table[:, pairs], own[pairs], steps=50)
        two = priorities(table[:, pairs], second[pairs], steps=50)
        both = ~(np.isnan(one) | np.isnan(two))
        if both.sum() < 2:
            return float("nan")
        # Rounded so that strengths equal up to the fit's precision count as tied.
        return float((1 - kendalltau(one[both].round(6), two[both].round(6)).statistic) / 2)

    n = table.shape[1]
    value = statistic(np.arange(n))
    if not np.isfinite(value):
        why = "the raters' choices rank fewer than two principles apart"
        return not_computable("discrepancy", why, n=n, seed=seed)
    interval = bootstrap_interval(statistic, n, seed=seed, draws=draws)
    return measured("discrepancy", value, interval, n, seed=seed)


def _signs(values: ArrayLike) -> NDArray[np.int64]:
    table = np.atleast_2d(np.asarray(values, dtype=np.int64))
    if not np.isin(table, (-1, 0, 1)).all():
        raise ValueError(f"a preference is {table[~np.isin(table, (-1, 0, 1))][0]}; use +1, -1 or 0 for none")
    return table


def _check(table: NDArray[np.int64], rater: NDArray[np.int64]) -> None:
    if table.shape[1] != len(rater):
        raise ValueError(f"{table.shape[1]} pairs for principles but {len(rater)} for the rater; pass the same pairs")
