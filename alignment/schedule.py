"""What the next round aims at and how hard it is: policies by name, and the plan with one reason a setting (ours).

This module owns the types of a plan. `plan_next` is pure: rounds in, a plan out; the server and the benchmark call
it alike. How levels, budget and beta move is in `annealing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from alignment.config import ANNEALINGS, Objective, RoundConfig
from alignment.records import Metric, Record


@dataclass(frozen=True)
class Policy:
    """Which objective each round has. The gate holds floors for the other one under every policy."""

    name: str
    turns: tuple[Objective, ...]  # taken in turn, from the first
    words: str

    def next_objective(self, last: str | None) -> Objective:
        """The turn after `last`, the objective of the round before; the first turn where that is none of the policy's.

        A round that failed took no turn, so it is not passed: its objective comes again.
        """
        objectives: Sequence[str] = self.turns
        if last not in objectives:
            return self.turns[0]
        return self.turns[(objectives.index(last) + 1) % len(self.turns)]


# Conformity first, because a base model's attacks succeed before anything else can be learnt from them.
POLICIES = {
    policy.name: policy
    for policy in (
        Policy("alternating", ("conformity", "competence"), "conformity and competence in turn"),
        Policy("joint", ("joint",), "both objectives in every round"),
        Policy("conformity_only", ("conformity",), "conformity in every round, competence held by its floor"),
        Policy("competence_only", ("competence",), "competence in every round, conformity held by its floor"),
    )
}


@dataclass(frozen=True)
class Settings(Record):
    """What a plan sets."""

    levels: tuple[int, ...]  # of competence tasks, 1..5, ascending
    attack_levels: tuple[int, ...]  # of the seeds that attacks start from, 1..5, ascending; () for all, not known which
    budget: int  # samples that people are asked about
    beta: float  # DPO temperature: higher stays closer to the reference (KL strength)

    @classmethod
    def of(cls, config: RoundConfig, *, seed_levels: Sequence[int] = ()) -> Settings:
        """Those of a config. `seed_levels` are the levels that the seeds have, which `attack_levels` () stands for."""
        attack_levels = config.attack_levels or seed_levels
        return cls(tuple(sorted(config.levels)), tuple(sorted(set(attack_levels))), config.budget, config.beta)


@dataclass(frozen=True)
class Reason(Record):
    """Why a setting is what it is. `metric` is the number that decided, None where none did; `round` is its round's."""

    words: str
    metric: Metric | None = None
    round: int = 0


@dataclass(frozen=True)
class Plan(Record):
    """The next round's objective and settings, each with its reason: one key of `reasons` a setting."""

    objective: Objective
    settings: Settings
    reasons: dict[str, Reason]


@dataclass(frozen=True)
class RoundOutcome(Record):
    """What the plan of a later round may know of a finished one. Metrics as the round wrote them, old and new."""

    number: int
    objective: Objective
    accepted: bool
    settings: Settings  # that it ran with, overrides of people included
    metrics: list[Metric] = field(default_factory=list)
    reviews: int = 0  # judgements of people
    minutes: float = 0.0  # of machine time

    def find(self, name: str, group: str = "", *, model: str | None = None) -> Metric | None:
        """The metric; without `model`, that of whatever model it was measured for."""
        for metric in self.metrics:
            if (metric.name, metric.group) == (name, group) and model in (None, metric.model):
                return metric
        return None


def plan_next(
    policy: Policy | str,
    history: Sequence[RoundOutcome],
    *,
    first: Settings | None = None,
    annealing: str = "annealed",
) -> Plan:
    """The plan of the round after `history` (finished rounds, oldest first; failed ones left out).

    `first` are the experiment's own settings, the first round's where none are given: the budget never rises above
    them. With `annealing` "fixed" they are the plan. ValueError names an unknown policy or switch, and a history
    that is empty where `first` is not given.
    """
    from alignment.annealing import anneal

    chosen = policy if isinstance(policy, Policy) else POLICIES.get(policy)
    if chosen is None:
        raise ValueError(f"schedule {policy!r} is not one of {', '.join(POLICIES)}")
    if annealing not in ANNEALINGS:
        raise ValueError(f"annealing {annealing!r} is not one of {', '.join(ANNEALINGS)}")
    if first is None:
        if not history:
            raise ValueError("before the first round the experiment's settings have to be given: pass first=...")
        first = history[0].settings
    last = history[-1] if history else None
    objective = chosen.next_objective(last.objective if last else None)
    before = f"; round {last.number} had {last.objective}" if last else ""
    reasons = {
        "objective": Reason(f"Schedule {chosen.name}: {chosen.words}{before}.", round=last.number if last else 0)
    }
    if last is None or annealing == "fixed":
        why = "The schedule is fixed" if annealing == "fixed" else "No round was learnt from yet"
        own = Reason(f"{why}: as the experiment sets it.")
        return Plan(objective, first, {**reasons, **dict.fromkeys(("levels", "attack_levels", "budget", "beta"), own)})
    settings, why_each = anneal(history, first)
    return Plan(objective, settings, {**reasons, **why_each})
