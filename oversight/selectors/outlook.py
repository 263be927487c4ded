"""What the next reviews would buy, as the rounds that learnt have measured it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from oversight.models import MetricPoint

NEVER = "no round has been learnt from yet"
RATE, CRITIC = ("next_reviews_width", "rate"), ("next_reviews_gain", "critic")
TITLES = {RATE: "The violation rate", CRITIC: "The critic"}


@dataclass(frozen=True)
class Forecast:
    """One sentence about the next reviews, or why there is none; `source` says from when it is."""

    title: str
    words: str = ""
    reason: str = ""
    source: str = ""
    round: int = 0  # the round that measured it, 0 for the reviews so far


def read_forecasts(experiment_id: UUID, *, upto: int | None = None) -> list[Forecast]:
    """Rate and critic, in this order, from the newest round that learnt, not after round `upto`. One query."""
    points = MetricPoint.objects.filter(round__experiment=experiment_id, name__in=(RATE[0], CRITIC[0]))
    if upto is not None:
        points = points.filter(round__number__lte=upto)
    newest = points.order_by("-round__number").values_list("round__number", "name", "group", "value", "reason")[:3]
    rows = list(newest)
    found = {(name, group): (value, reason) for number, name, group, value, reason in rows if number == rows[0][0]}
    number = rows[0][0] if rows else 0
    return [_forecast(title, found.get(key), number) for key, title in TITLES.items()]


def _forecast(title: str, row: tuple[float | None, str] | None, number: int) -> Forecast:
    if row is None:
        return Forecast(title, reason=NEVER if not number else f"round {number} did not measure it")
    value, words = row
    source = f"measured when round {number} learnt"
    if value is None:
        return Forecast(title, reason=words or "the round gave no reason", source=source, round=number)
    return Forecast(title, words=words, source=source, round=number)
