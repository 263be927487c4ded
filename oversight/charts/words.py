"""A point of a chart as its table and its sentence say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oversight.selectors.metrics import Point


def value_of(point: Point) -> dict[str, Any]:
    low = point.value if point.low is None else point.low
    high = point.value if point.high is None else point.high
    return {"value": point.value, "low": low, "high": high, "n": point.n, "kept": point.kept}


def cells_of(point: Point, show: Callable[[float | None], str]) -> list[str]:
    if point.value is None:
        return ["–", "–", str(point.n)]
    return [show(point.value), range_of(point, show), str(point.n)]


def range_of(point: Point, show: Callable[[float | None], str]) -> str:
    return "–" if point.low is None or point.high is None else f"{show(point.low)} to {show(point.high)}"


def note_of(point: Point) -> str:
    if point.value is None:
        return f"not computable: {point.reason}" if point.reason else "not computable"
    return " · ".join(part for part in (point.reason, "" if point.kept else "rolled back") if part)


def flip(point: Point) -> Point:
    """1 - value, with the interval turned round."""

    def one_minus(value: float | None) -> float | None:
        return None if value is None else 1 - value

    changes = {"value": one_minus(point.value), "low": one_minus(point.high), "high": one_minus(point.low)}
    return Point(**{**vars(point), **changes})


def two_places(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def describe_move(words: str, points: list[Point], show: Callable[[float | None], str]) -> str:
    kept = [point for point in points if point.kept] or points
    first, last = points[0], kept[-1]
    name = words[0].upper() + words[1:]
    if first.round == last.round:
        return f"{name}: {show(last.value)} in round {last.round}."
    start = "the base model" if first.round == 0 else f"round {first.round}"
    return f"{name}: from {show(first.value)} ({start}) to {show(last.value)} after round {last.round}."
