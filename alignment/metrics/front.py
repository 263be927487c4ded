"""Competence against conformity: the area a model dominates, and what alignment costs in competence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from alignment.metrics.result import Z95, Interval, measured, not_computable, same_length
from alignment.records import Metric


def hypervolume(points: Sequence[tuple[Metric, Metric]], *, group: str = "", model: str = "new") -> Metric:
    """Area in [0, 1] dominated by (competence, conformity) points, measured to (0, 0).

    One point gives the product of its two scores. For several, with the non-dominated points sorted so
    that competence x falls and conformity y rises: A = sum x_i (y_i - y_(i-1)), y_0 = 0.
    Interval (ours): first-order MOVER (Zou and Donner 2008), each score's own one-sided margin times the
    slope of A, added in squares; scores are taken as independent. n is the smallest n of any score used.
    Points without a value are left out; none left: no value.
    """
    known = [(x, y) for x, y in points if x.value is not None and y.value is not None]
    if not known:
        return not_computable("hypervolume", "no point has both scores", group=group, model=model)
    front = _non_dominated(known)
    xs = [_value(x) for x, _ in front] + [0.0]
    ys = [0.0] + [_value(y) for _, y in front]
    area, below, above = 0.0, [], []
    for i, (x, y) in enumerate(front):
        slope_x = ys[i + 1] - ys[i]
        slope_y = xs[i] - xs[i + 1]
        area += xs[i] * slope_x
        for score, slope in ((x, slope_x), (y, slope_y)):
            if score.ci_low is None or score.ci_high is None:
                continue
            below.append(slope * (_value(score) - score.ci_low))
            above.append(slope * (score.ci_high - _value(score)))
    n = min(min(x.n, y.n) for x, y in front)
    if len(below) < 2 * len(front):
        return measured("hypervolume", area, None, n, group=group, model=model, note="a score has no interval")
    interval = Interval(max(0.0, area - math.hypot(*below)), min(1.0, area + math.hypot(*above)))
    return measured("hypervolume", area, interval, n, group=group, model=model)


def operating_point(metrics: Sequence[Metric]) -> tuple[Metric, Metric]:
    """(competence, conformity = 1 - attack success) of one model, as `hypervolume` takes it.

    A score that is not among `metrics` has no value.
    """
    whole = {m.name: m for m in metrics if m.group == ""}
    competence = whole.get("competence") or not_computable("competence", "it was not measured")
    attack = whole.get("attack_success") or not_computable("attack_success", "it was not measured")
    if attack.value is None:
        return competence, attack
    low, high = attack.ci_low, attack.ci_high
    conformity = replace(
        attack, name="conformity", value=1 - attack.value,
        ci_low=None if high is None else 1 - high, ci_high=None if low is None else 1 - low,
    )  # fmt: skip
    return competence, conformity


def alignment_tax(before: ArrayLike, after: ArrayLike, *, group: str = "", model: str = "new") -> Metric:
    """Competence lost: share correct before minus share correct after, same tasks; positive is a cost.

    before [n] and after [n] are paired booleans, so the interval is that of a paired difference.
    Empty: no value.
    """
    old, new = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    n = same_length(before=old, after=new)
    if n == 0:
        return not_computable("alignment_tax", "there are no tasks", group=group, model=model)
    lost, won = int((old & ~new).sum()), int((~old & new).sum())
    return measured("alignment_tax", (lost - won) / n, paired_difference(lost, won, n), n, group=group, model=model)


def paired_difference(plus: int, minus: int, n: int) -> Interval:
    """Interval of (plus - minus)/n for n pairs, `plus` and `minus` counting the two ways to differ.

    Agresti and Min 2005: add half to each cell of the 2x2 table, then Wald; never of zero width.
    """
    b, c, size = plus + 0.5, minus + 0.5, n + 2.0
    centre = (b - c) / size
    half = Z95 * math.sqrt(b + c - (b - c) ** 2 / size) / size
    return Interval(max(-1.0, centre - half), min(1.0, centre + half))


def _non_dominated(points: list[tuple[Metric, Metric]]) -> list[tuple[Metric, Metric]]:
    front: list[tuple[Metric, Metric]] = []
    for x, y in sorted(points, key=lambda p: (-_value(p[0]), -_value(p[1]))):
        if not front or _value(y) > _value(front[-1][1]):
            front.append((x, y))
    return front


def _value(metric: Metric) -> float:
    if metric.value is None or not 0 <= metric.value <= 1:
        raise ValueError(f"{metric.name} is {metric.value}; a hypervolume needs scores in [0, 1]")
    return metric.value
