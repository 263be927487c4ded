"""The plan of the next round, and whether it may start by itself: the rounds so far -> `alignment.schedule`.

The science is plain sums here, imported when a page first asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oversight.models import Checkpoint, ContinuousRun, Experiment, MetricPoint, Round, Seed
from oversight.selectors.continuous import Spent

if TYPE_CHECKING:
    from alignment.config import RoundConfig
    from alignment.continuous import Step
    from alignment.schedule import Plan, RoundOutcome

PLANNED = ("objective", "levels", "attack_levels", "budget", "beta")  # what a plan sets, in the order of the pages
LOOKED_BACK = 20  # rounds; the controller compares with the last rounds only
METRICS = (
    "attack_success", "competence", "over_refusal", "hypervolume", "teacher_gap", "recovered_gap",
    "critic_agreement_audit",
)  # fmt: skip
GROUPS = ("", "1", "2", "3", "4", "5", "conformity", "competence")


def plan_round(experiment: Experiment, config: dict[str, Any]) -> dict[str, Any]:
    """The plan after the experiment's finished rounds, as JSON: `objective`, `settings`, `reasons`. Four queries.

    `config` is the experiment's own for the next round. ValueError names a schedule that does not exist.
    """
    from alignment.config import RoundConfig
    from alignment.schedule import Settings, plan_next

    own = RoundConfig.from_json(config)
    found = (
        Seed.objects.filter(experiment=experiment.pk, level__range=(1, 5)).order_by().values_list("level", flat=True)
    )
    first = Settings.of(own, seed_levels=sorted(found.distinct()))
    plan: Plan = plan_next(own.schedule, read_outcomes(experiment), first=first, annealing=own.annealing)
    settings = {**plan.settings.to_json()}
    return {
        "schedule": own.schedule,
        "annealing": own.annealing,
        "objective": plan.objective,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "reasons": {name: reason.to_json() for name, reason in plan.reasons.items()},
        "overrides": {},
    }


def read_outcomes(experiment: Experiment, *, after: int = 0) -> list[RoundOutcome]:
    """The finished rounds with a number above `after`, oldest first, as the science takes them. Three queries."""
    from alignment.records import Metric
    from alignment.schedule import RoundOutcome, Settings

    done = Round.objects.filter(experiment=experiment.pk, status=Round.Status.DONE, number__gt=after)
    rounds = list(done.order_by("-number").only("number", "objective", "config")[:LOOKED_BACK])[::-1]
    metrics: dict[Any, list[Metric]] = {round.pk: [] for round in rounds}
    points = MetricPoint.objects.filter(round__in=list(metrics), name__in=METRICS, group__in=GROUPS)
    for p in points:
        metrics[p.round_id].append(
            Metric(p.name, p.value, p.ci_low, p.ci_high, p.n, p.seed, p.group, p.reason, p.model)
        )
    gates = Checkpoint.objects.filter(round__in=list(metrics), role=Checkpoint.Role.LEARNER)
    verdicts = dict(gates.values_list("round", "verdict"))
    return [
        RoundOutcome(
            number=round.number,
            objective=round.objective,  # type: ignore[arg-type]
            accepted=verdicts.get(round.pk) == Checkpoint.Verdict.ACCEPTED,
            settings=Settings.of(_ran_with(round)),
            metrics=metrics[round.pk],
        )
        for round in rounds
    ]


def _ran_with(round: Round) -> RoundConfig:
    """Of the round's config what a plan sets: an earlier version may have known other settings."""
    from alignment.config import RoundConfig

    return RoundConfig.from_json(
        {"round_id": "", **{name: round.config[name] for name in PLANNED[1:] if name in round.config}}
    )


def decide_step(run: ContinuousRun, *, spent: Spent, coming: Spent, config: dict[str, Any]) -> Step:
    """Whether a round that costs `coming` may start by itself after what was `spent`. Three queries."""
    from alignment.config import RoundConfig
    from alignment.continuous import Allowance, Cost, next_step
    from alignment.gate import Limits

    allowance = Allowance(run.rounds, run.reviews, run.minutes, run.patience, run.window, run.least_gain)
    return next_step(
        allowance,
        Cost(spent.rounds, spent.reviews, spent.minutes),
        Cost(coming.rounds, coming.reviews, coming.minutes),
        read_outcomes(run.experiment, after=run.judged_after),
        Limits.of(RoundConfig.from_json(config)),
    )
