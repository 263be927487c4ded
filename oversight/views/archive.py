"""The archive's map on a round's page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from oversight.charts.archive_map import build_map
from oversight.models import MetricPoint, Principle, Round, User
from oversight.selectors.archive import count_attacks, may_see_success, read_archive_metrics
from oversight.selectors.metrics import percent

# Metric -> (title, what it says, whether it is a share).
FACTS = {
    "archive_coverage": ("coverage", "Share of the archive's cells (category, style, level) with an attack", True),
    "archive_found": ("found", "Share of the archive's cells whose best attack works, fitness 0.5 or more", True),
    "archive_qd_score": ("QD score", "Sum of the best fitness over all filled cells", False),
}
STEPS = range(10)


@dataclass(frozen=True)
class Fact:
    title: str
    words: str
    shown: str


def archive_context(request: HttpRequest, round: Round, user: User) -> dict[str, Any]:
    """Four queries, and none of them reads a sample."""
    level = request.GET.get("level", "")
    measured = read_archive_metrics(round)
    shown = may_see_success(user, round)
    risks = Principle.objects.filter(
        constitution=round.experiment.constitution_id, kind=Principle.Kind.CONFORMITY
    ).values_list("category", flat=True)
    return {
        "round": round,
        "archive": build_map(
            count_attacks(round),
            categories=list(dict.fromkeys(category for category in risks if category)),
            number=round.number,
            level=int(level) if level.isascii() and level.isdigit() and len(level) < 3 else None,
            shown=shown,
        ),
        "steps": STEPS,
        "measured": _list_facts(measured, shown=shown),
    }


def _list_facts(measured: dict[str, MetricPoint], *, shown: bool) -> list[Fact]:
    """Where success is kept back, only what says nothing of it."""
    facts = []
    for name, (title, words, share) in FACTS.items():
        point = measured.get(name)
        if point is not None and point.value is not None and (shown or name == "archive_coverage"):
            value = percent(point.value) if share else f"{point.value:.1f}"
            facts.append(Fact(title, f"{words} (n {point.n})", value))
    return facts
