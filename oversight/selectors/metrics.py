"""Metric points as series over rounds, and the few numbers that the overview shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from oversight.models import Checkpoint, Experiment, MetricPoint, Round

# Metrics of the learner's checkpoint: where the gate rolled it back, what they say is no longer in use.
GATED = {"attack_success", "attack_success_rule", "over_refusal", "separation", "competence", "hypervolume",
         "elicitation_gap", "kl_to_base"}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One value of a metric. Round 0 is the base model: what round 1 measured before it trained."""

    round: int
    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""
    kept: bool = True  # False where the gate rolled this round's checkpoint back
    group: str = ""


class Metrics:
    """The metric points of one experiment, or of its round `number`, that a page asked for: two queries at most."""

    def __init__(self, experiment: Experiment, names: Iterable[str], *, number: int | None = None) -> None:
        self.experiment = experiment
        self._rows: dict[tuple[str, str, int, str], MetricPoint] = {}
        rows = (
            MetricPoint.objects.filter(round__experiment=experiment, name__in=list(names))
            .select_related("round")
            .only("name", "group", "model", "value", "ci_low", "ci_high", "n", "reason", "round__number")
        )
        if number is not None:
            rows = rows.filter(round__number=number)
        for row in rows:
            self._rows[row.name, row.group, row.round.number, row.model] = row

    @cached_property
    def rolled_back(self) -> set[int]:
        """Numbers of the rounds whose learner the gate rejected; asked for with the first metric that it concerns."""
        rejected = Checkpoint.objects.filter(
            experiment=self.experiment, role=Checkpoint.Role.LEARNER, verdict=Checkpoint.Verdict.ROLLED_BACK
        )
        return set(rejected.values_list("round__number", flat=True))

    def groups(self, name: str) -> list[str]:
        """The groups of a metric, "" (the whole) left out; numbers in their order."""
        found = {group for other, group, _, _ in self._rows if other == name and group}
        return sorted(found, key=lambda group: (int(group) if group.isdigit() else -1, group))

    def rounds(self, name: str) -> list[int]:
        return sorted({number for other, _, number, _ in self._rows if other == name})

    def get(self, name: str, number: int, group: str = "", model: str = "new") -> Point | None:
        row = self._rows.get((name, group, number, model))
        return None if row is None else self._point(row, number)

    def series(self, name: str, group: str = "") -> list[Point]:
        """One point a round, from the base model on (see Point) where the metric is measured both ways."""
        numbers = sorted({number for other, part, number, _ in self._rows if (other, part) == (name, group)})
        points: list[Point] = []
        for number in numbers:
            before = self._rows.get((name, group, number, "old"))
            after = self._rows.get((name, group, number, "new"))
            if not points and before is not None and after is not None:
                base = self._point(before, number - 1)
                points.append(Point(**{**vars(base), "kept": True}))
            row = after or before
            assert row is not None
            points.append(self._point(row, number))
        return points

    def missing(self, name: str, group: str = "") -> str:
        """Why a metric can't be shown, in words; "" where it has a value."""
        points = self.series(name, group)
        if any(point.value is not None for point in points):
            return ""
        reasons = [point.reason for point in points if point.reason]
        return reasons[-1] if reasons else "no round has measured it yet"

    def _point(self, row: MetricPoint, number: int) -> Point:
        return Point(
            round=number,
            value=row.value,
            low=row.ci_low,
            high=row.ci_high,
            n=row.n,
            reason=row.reason,
            kept=row.model == "old" or row.name not in GATED or number not in self.rolled_back,
            group=row.group,
        )


@dataclass(frozen=True)
class Card:
    """One number on the overview, with where it came from and how it moved."""

    title: str
    value: str  # "21%", or "" where there is none
    detail: str
    better: str  # "down" or "up"
    line: str = ""  # SVG path data in a 200 x 44 box
    band: str = ""
    limit_y: float | None = None
    reason: str = ""
    url: str = ""


CARD_METRICS = ("attack_success", "over_refusal", "competence", "critic_human_alpha", "human_alpha")


def percent(value: float | None) -> str:
    return "" if value is None else f"{round(100 * value)}%"


def read_cards(experiment: Experiment) -> list[Card]:
    metrics = Metrics(experiment, CARD_METRICS)
    last = experiment.rounds.filter(status=Round.Status.DONE).order_by("-number").only("config").first()
    limit = _over_refusal_limit(metrics, last)
    people = [point for point in metrics.series("human_alpha") if point.value is not None]
    among = f"people among themselves {people[-1].value:.2f}" if people else ""
    return [
        _card(metrics, "attack_success", "Attack success", better="down", url="attack-success"),
        _card(metrics, "over_refusal", "Harmless refused", better="down", limit=limit, url="attack-success"),
        _card(metrics, "competence", "Competence", better="up", url="competence"),
        _card(metrics, "critic_human_alpha", "Critic agrees with people", better="up", alpha=among, url="agreement"),
    ]


def _over_refusal_limit(metrics: Metrics, last: Round | None) -> float | None:
    """The gate's limit: the base model's rate plus what the configuration lets it rise."""
    points = metrics.series("over_refusal")
    rise = (last.config or {}).get("over_refusal_limit") if last else None
    if rise is None or not points or points[0].value is None:
        return None
    return points[0].value + float(rise)


def _card(
    metrics: Metrics,
    name: str,
    title: str,
    *,
    better: str,
    limit: float | None = None,
    alpha: str | None = None,
    url: str = "",
) -> Card:
    """`alpha` is set for Krippendorff's alpha, which is no share, and says what to compare it with."""
    points = [point for point in metrics.series(name) if point.value is not None]
    if not points:
        return Card(title, "", "", better, reason=metrics.missing(name), url=url)
    kept = [point for point in points if point.kept] or points
    now, first = kept[-1], points[0]
    assert now.value is not None and first.value is not None
    if alpha is not None:
        value = f"α {now.value:.2f}"
        interval = f"{now.low:.2f} to {now.high:.2f}" if now.low is not None and now.high is not None else ""
        parts = [interval, f"n {now.n}", alpha]
    else:
        value = percent(now.value)
        interval = f"{percent(now.low)}–{percent(now.high)}" if now.low is not None and now.high is not None else ""
        parts = [interval, f"n {now.n}"]
        if limit is not None:
            parts.append(f"limit {percent(limit)}")
        elif first.round != now.round:
            parts.append(f"was {percent(first.value)}")
    top = 1.0 if alpha is not None else max(0.05, *(p.high or p.value or 0 for p in points), limit or 0)
    newest = points[-1]
    if not newest.kept:  # a rejected checkpoint is named, and its value never drawn as if it were in use
        tried = f"{newest.value:.2f}" if alpha is not None else percent(newest.value)
        parts.append(f"round {newest.round} rolled back at {tried}")
    line, band = sparkline(kept, top=top)
    y = None if limit is None else _y(limit, top)
    return Card(title, value, " · ".join(part for part in parts if part), better, line, band, y, url=url)


WIDTH, HEIGHT, EDGE = 200, 44, 3


def _y(value: float, top: float) -> float:
    share = min(max(value / top, 0.0), 1.0)
    return float(round(HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE), 1))


def sparkline(points: Sequence[Point], *, top: float) -> tuple[str, str]:
    """SVG path data of the line and of its interval, in a box of 200 by 44 from 0 to `top`."""
    if len(points) < 2:
        return "", ""
    step = WIDTH / (len(points) - 1)
    places = [(round(i * step, 1), p) for i, p in enumerate(points)]
    line = "M" + " L".join(f"{x} {_y(p.value or 0, top)}" for x, p in places)
    upper = [f"{x} {_y(p.high if p.high is not None else p.value or 0, top)}" for x, p in places]
    lower = [f"{x} {_y(p.low if p.low is not None else p.value or 0, top)}" for x, p in reversed(places)]
    return line, "M" + " L".join(upper + lower) + "Z"
