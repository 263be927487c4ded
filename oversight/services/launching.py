"""Before a round: its plan, what it will cost, what stands in its way; and the launch itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from oversight.models import Experiment, Round, User
from oversight.selectors.progress import STAGES
from oversight.services.round_rows import (
    RoundRefused,
    close_waiting_samples,
    enqueue,
    labels_of,
    name_of,
    tell,
    worker_problems,
)

Status = Round.Status

# Seconds that a round takes where no earlier round tells: (a query proposed, a whole learn phase). Ours,
# measured on two CPU cores for tiny and laptop.
TYPICAL_SECONDS = {"tiny": (0.1, 15.0), "laptop": (2.6, 600.0), "gpu": (0.6, 900.0)}


@dataclass(frozen=True)
class Estimate:
    """What a round will cost, before it is launched."""

    samples: int  # queries that the learner answers
    reviews: int  # of these, the ones that people are asked about
    labels: int  # approved results of earlier rounds that it can learn from
    minutes: float  # of machine time, both phases; people's time is not in it
    measured: bool  # True where `minutes` comes from this experiment's last whole round


def preflight(experiment: Experiment) -> list[str]:
    """What stands in the way of a launch, one sentence each with its remedy; empty where nothing does."""
    problems = [*worker_problems()]
    rounds = experiment.rounds
    open_round = rounds.filter(status__in=Round.OPEN).first()
    if open_round is not None:
        problems.append(f"Round {open_round.number} is {open_round.status}; wait for its end, or cancel it.")
    if not experiment.seeds.exists():
        problems.append("The experiment has no seeds to attack from; import some: manage.py import_seeds FILE.")
    if not experiment.constitution.principles.exists():
        problems.append(f"The constitution {experiment.constitution} has no principles; add some in the admin.")
    asked_people = rounds.filter(status=Status.DONE, budget__gt=0).exists()
    if asked_people and not labels_of(experiment.pk).exists():
        problems.append("There are no labels: nobody's judgement was approved in an earlier round.")
    return problems


@dataclass(frozen=True)
class NextRound:
    """The next round of an experiment as the schedule plans it, before anybody changes a value."""

    round: Round  # not saved
    plan: dict[str, Any]  # see `planning.plan_round`
    config: dict[str, Any]  # with the plan's settings

    @property
    def reasons(self) -> dict[str, str]:
        """Why each planned setting is what it is."""
        return {name: reason["words"] for name, reason in self.plan["reasons"].items()}


def prepare_round(experiment: Experiment) -> NextRound:
    """ValueError names a setting of the experiment that no round could be launched with."""
    from oversight.planning import plan_round  # it and the runner alone know `alignment`
    from oversight.runner import build_config

    last = experiment.rounds.order_by("-number").first()
    round = Round(experiment=experiment, number=1 if last is None else last.number + 1)
    own = build_config(round=round, overrides={})
    plan = plan_round(experiment, own)
    round.objective = plan["objective"]
    return NextRound(round, plan, {**own, **plan["settings"], "objective": round.objective})


def default_config(experiment: Experiment) -> dict[str, Any]:
    """The next round's configuration as it is planned, before anybody changes a value."""
    return prepare_round(experiment).config


def _config(coming: NextRound, overrides: dict[str, Any]) -> dict[str, Any]:
    """The planned configuration with what somebody chose instead. ValueError names a bad override."""
    from oversight.runner import build_config

    if not overrides:
        return coming.config
    chosen = dict(overrides)
    coming.round.objective = chosen.pop("objective", coming.plan["objective"])
    return build_config(round=coming.round, overrides={**coming.plan["settings"], **chosen})


def estimate(experiment: Experiment, overrides: dict[str, Any], *, coming: NextRound | None = None) -> Estimate:
    """The cost of the next round. Raises ValueError where an override is not possible."""
    config = _config(coming or prepare_round(experiment), overrides)
    samples = int(config["attacks"]) + int(config["lookalikes"]) + int(config["competence"])
    per_query, learn = TYPICAL_SECONDS[experiment.profile]
    before = experiment.rounds.filter(status=Status.DONE).order_by("-number").first()
    measured = False
    if before is not None and before.stage_seconds:
        answered = before.samples.count()
        propose_seconds = sum(before.stage_seconds.get(stage, 0) for stage in STAGES["propose"])
        learn_seconds = sum(before.stage_seconds.get(stage, 0) for stage in STAGES["learn"])
        if answered and propose_seconds and learn_seconds:
            per_query, learn, measured = propose_seconds / answered, learn_seconds, True
    return Estimate(
        samples=samples,
        reviews=min(int(config["budget"]), samples),
        labels=labels_of(experiment.pk).count(),
        minutes=(samples * per_query + learn) / 60,
        measured=measured,
    )


@transaction.atomic
def launch_round(*, experiment: Experiment, user: User | None, overrides: dict[str, Any], by: str = "") -> Round:
    """Queues the next round. Raises RoundRefused (preflight) or ValueError (a bad override).

    `overrides` win over the plan; which of them did is kept with it. `by` says who launches, where that is not `user`.
    """
    experiment = Experiment.objects.select_for_update().get(pk=experiment.pk)
    problems = preflight(experiment)
    if problems:
        raise RoundRefused(*problems)
    coming = prepare_round(experiment)
    round = coming.round
    round.config = _config(coming, overrides)
    round.plan = {**coming.plan, "overrides": _changes(coming, round.config, name_of(user))}
    round.budget = round.config["budget"]
    round.launched_by = user
    round.status = Status.QUEUED
    round.attempt = 1
    round.queued_at = timezone.now()
    round.save(force_insert=True)
    # Samples that a failed round left waiting would compete with this round's for people's time.
    for earlier in experiment.rounds.filter(status__in=Round.FINISHED):
        close_waiting_samples(earlier)
    tell(round, user, "round.launch", f"Launched by {by or name_of(user)}.", overrides=overrides)
    enqueue(round)
    return round


def _changes(coming: NextRound, config: dict[str, Any], by: str) -> dict[str, Any]:
    """Which planned settings a person chose otherwise, with what the plan had said."""
    planned = {**coming.plan["settings"], "objective": coming.plan["objective"]}
    chosen = {name: _plain(config[name]) for name in planned}
    return {
        name: {"planned": planned[name], "chosen": chosen[name], "by": by}
        for name in planned
        if chosen[name] != planned[name]
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
