"""Every change of a round's status: launch, close, cancel, retry, and what the runner reports.

`draft -> queued -> proposing -> reviewing -> queued (phase learn) -> learning -> done`, or `failed`,
`cancelled`. Each function locks the round's row and checks the status it starts from, so that two
people, or a person and the runner, can't both win. `attempt` fences out a runner that was taken for
dead: a report that carries an older attempt changes nothing.

Locks are taken in the order experiment, round, samples.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from oversight.events import publish
from oversight.models import Experiment, Label, LogLine, Review, Round, Sample, User
from oversight.selectors.progress import STAGES
from oversight.services import audit, labels

log = logging.getLogger(__name__)
Status = Round.Status
Phase = Round.Phase

# Seconds that a round takes where no earlier round tells: (a query proposed, a whole learn phase). Ours,
# measured on two CPU cores for tiny and laptop.
TYPICAL_SECONDS = {"tiny": (0.1, 15.0), "laptop": (1.8, 270.0), "gpu": (0.6, 900.0)}


class RoundRefused(Exception):
    """Why a round can't be launched, closed, cancelled or retried now: sentences made for people."""

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Estimate:
    """What a round will cost, before it is launched."""

    samples: int  # queries that the learner answers
    reviews: int  # of these, the ones that people are asked about
    labels: int  # approved results of earlier rounds that it can learn from
    minutes: float  # of machine time, both phases; people's time is not in it
    measured: bool  # True where `minutes` comes from this experiment's last whole round


# --- Before a launch -------------------------------------------------------------------------------


def preflight(experiment: Experiment) -> list[str]:
    """What stands in the way of a launch, one sentence each with its remedy; empty where nothing does."""
    problems = [*_worker_problems()]
    rounds = experiment.rounds
    open_round = rounds.filter(status__in=Round.OPEN).first()
    if open_round is not None:
        problems.append(f"Round {open_round.number} is {open_round.status}; wait for its end, or cancel it.")
    if not experiment.seeds.exists():
        problems.append("The experiment has no seeds to attack from; import some: manage.py import_seeds FILE.")
    if not experiment.constitution.principles.exists():
        problems.append(f"The constitution {experiment.constitution} has no principles; add some in the admin.")
    asked_people = rounds.filter(status=Status.DONE, budget__gt=0).exists()
    if asked_people and not _labels_of(experiment.pk).exists():
        problems.append("There are no labels: nobody's judgement was approved in an earlier round.")
    return problems


def _worker_problems() -> list[str]:
    from oversight import workers  # asks Redis; the services that never launch don't need it

    try:
        names = workers.listening("gpu")
    except RedisError as error:
        return [f"The broker does not answer ({error}); start it, then try again."]
    if not names:
        return ["No worker is listening on the queue gpu; start one: make run, or a Celery worker with -Q gpu."]
    return []


def estimate(experiment: Experiment, overrides: dict[str, Any]) -> Estimate:
    """The cost of the next round. Raises ValueError where an override is not possible."""
    config = _config(_draft(experiment), overrides)
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
        labels=_labels_of(experiment.pk).count(),
        minutes=(samples * per_query + learn) / 60,
        measured=measured,
    )


def default_config(experiment: Experiment) -> dict[str, Any]:
    """The next round's configuration as the experiment has it, before anybody changes a value."""
    return _config(_draft(experiment), {})


def _draft(experiment: Experiment) -> Round:
    """The next round of `experiment`, not saved. Odd rounds raise conformity, even ones competence."""
    last = experiment.rounds.order_by("-number").first()
    number = 1 if last is None else last.number + 1
    return Round(experiment=experiment, number=number, objective="conformity" if number % 2 else "competence")


def _config(round: Round, overrides: dict[str, Any]) -> dict[str, Any]:
    from oversight.runner import build_config  # the runner alone knows `alignment`

    return build_config(round=round, overrides=overrides)


# --- What people do --------------------------------------------------------------------------------


@transaction.atomic
def launch_round(*, experiment: Experiment, user: User | None, overrides: dict[str, Any]) -> Round:
    """Queues the next round. Raises RoundRefused (preflight) or ValueError (a bad override)."""
    experiment = Experiment.objects.select_for_update().get(pk=experiment.pk)
    problems = preflight(experiment)
    if problems:
        raise RoundRefused(*problems)
    round = _draft(experiment)
    round.config = _config(round, overrides)
    round.budget = round.config["budget"]
    round.launched_by = user
    round.status = Status.QUEUED
    round.attempt = 1
    round.queued_at = timezone.now()
    round.save(force_insert=True)
    # Samples that a failed round left waiting would compete with this round's for people's time.
    for earlier in experiment.rounds.filter(status__in=Round.FINISHED):
        _close_waiting_samples(earlier)
    _tell(round, user, "round.launch", f"Launched by {_name(user)}.", overrides=overrides)
    _enqueue(round)
    return round


@transaction.atomic
def cancel_round(*, round: Round, user: User | None) -> Round:
    """Cancels at once where no process works on it, else asks the runner to stop (it calls `finish_cancel`)."""
    round = _lock(round.pk)
    if round.status in Round.FINISHED:
        raise RoundRefused(f"Round {round.number} is already {round.status}.")
    if round.status in (Status.PROPOSING, Status.LEARNING) and not _is_lost(round):
        if not round.cancel_requested:
            round.cancel_requested = True
            round.save(update_fields=["cancel_requested"])
            _tell(round, user, "round.cancel", f"{_name(user)} asked to cancel; stopping the {round.phase} phase.")
        return round
    _end(round, Status.CANCELLED, f"Cancelled by {_name(user)}.")
    _close_waiting_samples(round)
    _tell(round, user, "round.cancel", round.reason)
    return round


@transaction.atomic
def retry_round(*, round: Round, user: User | None) -> Round:
    """Takes a failed or cancelled round up where it stopped; whole stages are kept."""
    Experiment.objects.select_for_update().get(pk=round.experiment_id)
    round = _lock(round.pk)
    if round.status not in (Status.FAILED, Status.CANCELLED):
        raise RoundRefused(f"Round {round.number} is {round.status}; only a failed or cancelled one can be retried.")
    later = Round.objects.filter(experiment_id=round.experiment_id, number__gt=round.number).order_by("number").first()
    if later is not None:
        raise RoundRefused(f"Round {later.number} came after round {round.number}; launch a new round instead.")
    back_to_review = round.phase == Phase.PROPOSE and round.proposed_at is not None
    problems = [] if back_to_review else _worker_problems()
    if problems:
        raise RoundRefused(*problems)
    if round.phase == Phase.PROPOSE:
        round.samples.filter(status=Sample.Status.CLOSED).update(status=Sample.Status.QUEUED)
    round.reason, round.cancel_requested, round.finished_at = "", False, None
    if back_to_review:
        round.status = Status.REVIEWING
        round.save()
        _tell(round, user, "round.retry", f"{_name(user)} reopened the review.")
        close_if_spent(round)
    else:
        _queue(round, round.phase)
        _tell(round, user, "round.retry", f"{_name(user)} retried the {round.phase} phase (attempt {round.attempt}).")
        _enqueue(round)
    return round


@transaction.atomic
def close_review(*, round: Round, user: User | None) -> Round:
    """Ends the review and queues the learn phase. Refused while nobody has judged anything."""
    round = _lock(round.pk)
    if round.status != Status.REVIEWING:
        raise RoundRefused(f"Round {round.number} is {round.status}; only a round in review can be closed.")
    _approve_begun(round)
    if not _labels(round):
        raise RoundRefused(
            "Nobody has judged a sample of this round yet, so there is nothing to learn from; judge one, or cancel."
        )
    waiting = _close_waiting_samples(round)
    _queue(round, Phase.LEARN)
    left = f", {waiting} not judged" if waiting else ""
    disputed = round.samples.filter(status=Sample.Status.DISPUTED).count()
    left += f", {disputed} disputed and not adjudicated: they teach nothing yet" if disputed else ""
    _tell(round, user, "round.close", f"{_name(user)} closed the review: {_labels(round)} labels{left}.")
    _enqueue(round)
    return round


def close_if_spent(round: Round) -> None:
    """Closes the review once every flagged sample is decided.

    Runs after the caller's transaction: it locks the round, and a submit that already holds a sample
    would take its locks in the wrong order.
    """
    transaction.on_commit(lambda: None if _is_open(round.pk) else _close_if_spent(round.pk))


def _is_open(round_id: UUID) -> bool:
    """Whether a sample of the round still waits for people, or for a lead."""
    samples = Sample.objects.filter(round=round_id)
    return (
        samples.filter(status=Sample.Status.QUEUED).exists() or samples.filter(status=Sample.Status.DISPUTED).exists()
    )


@transaction.atomic
def _close_if_spent(round_id: UUID) -> None:
    round = _lock(round_id)
    if round.status != Status.REVIEWING or _is_open(round_id):
        return
    found = _labels(round)
    if round.samples.exclude(status=Sample.Status.UNFLAGGED).exists() and not found:
        return  # everybody skipped everything: a lead decides what becomes of the round
    _queue(round, Phase.LEARN)
    _tell(round, None, "round.close", f"Every flagged sample is decided: the review closed with {found} labels.")
    _enqueue(round)


# --- What the runner reports -----------------------------------------------------------------------


@transaction.atomic
def start_phase(round_id: UUID | str, attempt: int) -> Round | None:
    """Claims a queued round for this attempt; None where it was cancelled, claimed or superseded."""
    round = _lock(round_id)
    if round.status != Status.QUEUED or round.attempt != attempt:
        return None
    now = timezone.now()
    round.status = Status.PROPOSING if round.phase == Phase.PROPOSE else Status.LEARNING
    round.started_at = round.started_at or now
    if round.phase == Phase.LEARN:
        round.learning_at = now
    round.heartbeat_at = now
    round.save()
    publish("round", str(round.pk))
    return round


@transaction.atomic
def finish_propose(round_id: UUID | str, attempt: int) -> bool:
    """The propose phase is whole: people finish the review. False where this attempt was superseded."""
    round = _lock(round_id)
    if round.status != Status.PROPOSING or round.attempt != attempt:
        return False
    round.status = Status.REVIEWING
    round.proposed_at = timezone.now()
    round.stage, round.stage_done, round.stage_total = "", 0, 0
    round.save()
    flagged = round.samples.exclude(status=Sample.Status.UNFLAGGED).count()
    _tell(round, None, "round.proposed", f"{round.samples.count()} samples proposed, {flagged} of them for people.")
    close_if_spent(round)
    return True


@transaction.atomic
def finish_learn(round_id: UUID | str, attempt: int, *, reason: str = "") -> bool:
    """The round is done; `reason` says why a checkpoint was rolled back, if it was."""
    round = _lock(round_id)
    if round.status != Status.LEARNING or round.attempt != attempt:
        return False
    _end(round, Status.DONE, reason)
    _tell(round, None, "round.done", reason or "Done.")
    return True


@transaction.atomic
def fail_round(round_id: UUID | str, *, reason: str, attempt: int | None = None) -> bool:
    """Ends a queued or running phase as failed. `attempt` None fails whatever attempt is current."""
    round = _lock(round_id)
    if round.status not in Round.RUNNING or attempt not in (None, round.attempt):
        return False
    _end(round, Status.FAILED, reason)
    _tell(round, None, "round.fail", f"Failed: {reason}", error=True)
    return True


@transaction.atomic
def finish_cancel(round_id: UUID | str, attempt: int) -> bool:
    """The runner has stopped the child after a cancel."""
    round = _lock(round_id)
    if round.status not in Round.RUNNING or round.attempt != attempt:
        return False
    _end(round, Status.CANCELLED, f"Cancelled in the {round.phase} phase.")
    _close_waiting_samples(round)
    _tell(round, None, "round.cancelled", round.reason)
    return True


# --- Parts ------------------------------------------------------------------------------------------


def _lock(round_id: UUID | str) -> Round:
    return Round.objects.select_for_update().get(pk=round_id)


def _queue(round: Round, phase: str) -> None:
    """Caller holds the round's lock."""
    round.status, round.phase = Status.QUEUED, phase
    round.attempt += 1
    round.queued_at = timezone.now()
    round.stage, round.stage_done, round.stage_total = "", 0, 0
    round.stage_started_at = round.heartbeat_at = None
    round.save()


def _end(round: Round, status: str, reason: str) -> None:
    """Caller holds the round's lock."""
    round.status, round.reason, round.finished_at = status, reason, timezone.now()
    round.cancel_requested = False
    round.save()


def _is_lost(round: Round) -> bool:
    """True where no runner has touched the round for so long that none can still be at work."""
    if round.heartbeat_at is None:
        return True
    return (timezone.now() - round.heartbeat_at).total_seconds() > settings.LOST_AFTER_SECONDS


def _approve_begun(round: Round) -> None:
    """Who closes the review approves what fewer people than wanted agree on; contradictions stay disputed."""
    judged = Review.objects.filter(sample=OuterRef("pk"), action__in=labels.JUDGEMENTS, superseded_by=None)
    begun = round.samples.select_for_update().filter(Exists(judged), status=Sample.Status.QUEUED).order_by("pk")
    for sample in begun.prefetch_related(Prefetch("reviews", Review.objects.order_by("created_at", "id"))):
        outcome = labels.weigh(sample, list(sample.reviews.all()), closing=True)
        if outcome.label is not None or outcome.disputed:
            labels.write_label(sample, outcome)
            sample.status = Sample.Status.DECIDED if outcome.label else Sample.Status.DISPUTED
            sample.save(update_fields=["status"])


def _close_waiting_samples(round: Round) -> int:
    return round.samples.filter(status=Sample.Status.QUEUED).update(status=Sample.Status.CLOSED)


def _labels_of(experiment_id: UUID) -> QuerySet[Label]:
    """Starts from the labels: a join would start from the samples, of which there are many more."""
    mine = Sample.objects.filter(pk=OuterRef("sample"), round__experiment=experiment_id)
    return Label.objects.filter(Exists(mine))


def _labels(round: Round) -> int:
    """How many labels of the round teach anything: a tie without a mark does not."""
    silent = Q(violates={}, preferred=None, rewrite="")
    return Label.objects.filter(sample__round=round).exclude(silent).count()


def _name(user: User | None) -> str:
    return user.get_username() if user else "the system"


def _tell(round: Round, user: User | None, action: str, text: str, *, error: bool = False, **detail: Any) -> None:
    """One line in the round's log, one audit event, one live event."""
    LogLine.objects.create(round=round, at=timezone.now(), stage=round.stage or round.status, text=text, error=error)
    audit.record(user.get_username() if user else "system", action, f"round:{round.pk}", text=text, **detail)
    publish("round", str(round.pk))
    publish("queue")


def _enqueue(round: Round) -> None:
    """Hands the phase to a worker on commit. A broker that is down fails the round instead of losing it."""
    round_id, attempt = str(round.pk), round.attempt

    def send() -> None:
        from oversight.tasks import run_phase  # tasks import the runner, which imports this module

        try:
            run_phase.delay(round_id, attempt)
        except OperationalError as error:
            log.warning("round %s not enqueued: %s", round_id, error)
            fail_round(
                round_id, attempt=attempt, reason=f"The broker did not take the job ({error}); retry when it is up."
            )

    transaction.on_commit(send)
