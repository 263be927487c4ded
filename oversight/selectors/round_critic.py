"""What a round's measurements say of its critic: routing, members, selection, and critiques that failed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from oversight.models import MetricPoint, Round
from oversight.selectors.reviewers import Number

# Facts: metric -> (title, what it says). Each is one number of the whole round.
FACTS = {
    "critic_auroc": ("AUROC", "on people's labels, held out"),
    "critic_ece": ("Calibration error", "ECE; 0 is best"),
    "critic_brier": ("Brier score", "0 is best, 0.25 knows nothing"),
    "steering_flipped": ("Steered", "share of violating answers that any injection suffix talks into “fine”"),
}
ROUTING = ("routed_alone", "routing_coverage")
# Tables: metric -> (title, heading of the first column, of the second, what it says).
TABLES = {
    "critic_member_weight": ("Members", "member", "weight", "How much the fitted critic listens to each."),
    "critic_error": ("Where it errs", "category", "share wrong", "Held-out predictions against people's labels."),
    "critic_error_correlation": (
        "Do members err together?", "members", "correlation of errors",
        "Two members that always err together are worth one.",
    ),
    "selection_weight": (
        "What is asked of people", "signal", "weight",
        "Learnt from what reviews found; the next round chooses with it.",
    ),
}  # fmt: skip
FAILURES = ("critique_failed", "critic_called_best", "critic_called_worst")
SHOWN = 8  # rows of a table before the rest is folded away
LABELS = "critic_labels"
NAMES = (LABELS, *FACTS, *ROUTING, *TABLES, *FAILURES)


@dataclass(frozen=True)
class Fact:
    title: str
    words: str
    number: Number


@dataclass(frozen=True)
class Table:
    key: str
    title: str
    columns: tuple[str, str]
    words: str
    rows: list[Number]
    more: list[Number]  # what is folded away
    reason: str  # why there is none, where the round says so


@dataclass(frozen=True)
class Failures:
    """Critiques that failed, by state, and the share of answers called violating at best and at worst."""

    failed: int
    n: int
    states: list[Number]
    best: Number | None
    worst: Number | None


@dataclass(frozen=True)
class CriticView:
    """Parts that the round has not measured are None or missing."""

    facts: list[Fact] = field(default_factory=list)
    labels: list[Number] = field(default_factory=list)  # of people, then exemplars: what it was fitted on
    alone: Number | None = None
    coverage: Number | None = None
    risk: float | None = None  # the promised risk of routing, from the round's configuration
    tables: list[Table] = field(default_factory=list)
    failures: Failures | None = None

    @property
    def promised(self) -> float | None:
        """The share of sets that should hold the truth."""
        return None if self.risk is None else 1 - self.risk

    @property
    def measured(self) -> bool:
        return bool(self.facts or self.tables or self.failures or self.alone or self.coverage)


def read_critic(round: Round) -> CriticView:
    """One query."""
    points: dict[str, list[Number]] = {}
    rows = MetricPoint.objects.filter(round=round, name__in=NAMES).order_by("name", "id")
    for row in rows:
        number = Number(row.value, row.ci_low, row.ci_high, row.n, row.reason, group=row.group)
        points.setdefault(row.name, []).append(number)
    whole = {name: numbers[0] for name, numbers in points.items()}
    return CriticView(
        facts=[Fact(*words, whole[name]) for name, words in FACTS.items() if name in whole],
        labels=points.get(LABELS, []),
        alone=whole.get("routed_alone"),
        coverage=whole.get("routing_coverage"),
        risk=(round.config or {}).get("risk_alpha"),
        tables=[_table(name, points[name]) for name in TABLES if name in points],
        failures=_failures(points),
    )


def _table(name: str, numbers: list[Number]) -> Table:
    title, first, second, words = TABLES[name]
    whole = "mean of all" if name == "critic_error_correlation" else "all"
    kept = [replace(n, group=n.group.replace("|", " and ") or whole) for n in numbers if n.value is not None]
    rows = sorted(kept, key=lambda n: (n.group != whole, -(n.value or 0)))
    reason = "" if rows else next((n.reason for n in numbers if n.reason), "the round gave no reason")
    return Table(name, title, (first, second), words, rows[:SHOWN], rows[SHOWN:], reason)


def _failures(points: dict[str, list[Number]]) -> Failures | None:
    counts = points.get("critique_failed")
    if counts is None:
        return None
    total = next((number for number in counts if not number.group), counts[0])
    best, worst = (points.get(name, [None])[0] for name in FAILURES[1:])
    return Failures(
        failed=int(total.value or 0), n=total.n, states=[number for number in counts if number.group], best=best,
        worst=worst,
    )  # fmt: skip
