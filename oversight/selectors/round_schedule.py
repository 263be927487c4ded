"""A round's schedule as its page shows it: what was planned and why, what a person chose, and the rounds around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from oversight.models import Checkpoint, Round

TITLES = {
    "objective": "Objective", "levels": "Task levels", "attack_levels": "Attack levels",
    "budget": "Samples for people", "beta": "Beta (KL strength)",
}  # fmt: skip
SHOWN = 12  # rounds of the table


@dataclass(frozen=True)
class SettingRow:
    """One planned setting. `planned` and `by` are "" where nobody chose otherwise."""

    title: str
    value: str
    reason: str
    planned: str
    by: str


@dataclass(frozen=True)
class RoundLine:
    id: UUID
    number: int
    objective: str
    levels: str
    attack_levels: str
    budget: str
    beta: str
    verdict: str  # of the gate; "" where it has not spoken
    status: str
    changed: bool  # whether a person chose otherwise than the plan


@dataclass(frozen=True)
class Schedule:
    name: str
    annealing: str
    rows: list[SettingRow]  # empty in rounds from before plans were kept
    lines: list[RoundLine]  # up to this round, newest first


def read_schedule(round: Round) -> Schedule:
    """Two queries."""
    before = Round.objects.filter(experiment=round.experiment_id, number__lte=round.number).order_by("-number")
    rounds = list(before.only("number", "objective", "status", "config", "plan", "budget")[:SHOWN])
    gates = Checkpoint.objects.filter(round__in=[r.pk for r in rounds], role=Checkpoint.Role.LEARNER)
    verdicts = dict(gates.values_list("round", "verdict"))
    lines = [_line(r, verdicts.get(r.pk, "")) for r in rounds]
    return Schedule(round.plan.get("schedule", ""), round.plan.get("annealing", ""), _rows(round), lines)


def _rows(round: Round) -> list[SettingRow]:
    reasons, overrides = round.plan.get("reasons", {}), round.plan.get("overrides", {})
    rows = []
    for name, title in TITLES.items():
        if name not in reasons:
            continue
        other = overrides.get(name, {})
        value = round.objective if name == "objective" else round.config.get(name)
        planned = in_words(other["planned"]) if other else ""
        rows.append(SettingRow(title, in_words(value), reasons[name].get("words", ""), planned, other.get("by", "")))
    return rows


def _line(round: Round, verdict: str) -> RoundLine:
    config = round.config
    return RoundLine(
        round.pk, round.number, round.objective, in_words(config.get("levels")), in_words(config.get("attack_levels")),
        str(round.budget), in_words(config.get("beta")), verdict, round.status, bool(round.plan.get("overrides")),
    )  # fmt: skip


def in_words(value: Any) -> str:
    """A setting for people: levels 1, 2, 3 as "1 to 3", a number without its tail, nothing as "all"."""
    if isinstance(value, list | tuple):
        if not value:
            return "all"
        run = list(range(value[0], value[0] + len(value)))
        return f"{value[0]} to {value[-1]}" if len(value) > 2 and list(value) == run else ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None else str(value)
