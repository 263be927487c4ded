"""What people do with a round: cancel, retry, close its review; and the review that closes itself.

`draft -> queued -> proposing -> reviewing -> queued (phase learn) -> learning -> done`, or `failed`, `cancelled`. A
launch is in `launching`, what the runner reports in `following`. Each function locks the round's row and checks the
status it starts from, so that two people, or a person and the runner, can't both win.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Prefetch
from django.utils import timezone

from oversight.models import Experiment, Review, Round, Sample, User
from oversight.services import labels
from oversight.services.continuous import revive_continuous
from oversight.services.round_rows import (
    RoundRefused,
    close_waiting_samples,
    count_labels,
    end_round,
    enqueue,
    lock_round,
    name_of,
    queue_phase,
    tell,
    worker_problems,
)

Status = Round.Status
Phase = Round.Phase


@transaction.atomic
def cancel_round(*, round: Round, user: User | None) -> Round:
    """Cancels at once where no process works on it, else asks the runner to stop (it calls `finish_cancel`)."""
    round = lock_round(round.pk)
    if round.status in Round.FINISHED:
        raise RoundRefused(f"Round {round.number} is already {round.status}.")
    if round.status in (Status.PROPOSING, Status.LEARNING) and not _is_lost(round):
        if not round.cancel_requested:
            round.cancel_requested = True
            round.save(update_fields=["cancel_requested"])
            tell(round, user, "round.cancel", f"{name_of(user)} asked to cancel; stopping the {round.phase} phase.")
        return round
    end_round(round, Status.CANCELLED, f"Cancelled by {name_of(user)}.")
    close_waiting_samples(round)
    tell(round, user, "round.cancel", round.reason)
    return round


@transaction.atomic
def retry_round(*, round: Round, user: User | None) -> Round:
    """Takes a failed or cancelled round up where it stopped; whole stages are kept."""
    Experiment.objects.select_for_update().get(pk=round.experiment_id)
    round = lock_round(round.pk)
    if round.status not in (Status.FAILED, Status.CANCELLED):
        raise RoundRefused(f"Round {round.number} is {round.status}; only a failed or cancelled one can be retried.")
    later = Round.objects.filter(experiment_id=round.experiment_id, number__gt=round.number).order_by("number").first()
    if later is not None:
        raise RoundRefused(f"Round {later.number} came after round {round.number}; launch a new round instead.")
    back_to_review = round.phase == Phase.PROPOSE and round.proposed_at is not None
    problems = [] if back_to_review else worker_problems()
    if problems:
        raise RoundRefused(*problems)
    if round.phase == Phase.PROPOSE:
        round.samples.filter(status=Sample.Status.CLOSED).update(status=Sample.Status.QUEUED)
    round.reason, round.cancel_requested, round.finished_at = "", False, None
    revive_continuous(round)
    if back_to_review:
        round.status = Status.REVIEWING
        round.save()
        tell(round, user, "round.retry", f"{name_of(user)} reopened the review.")
        close_if_spent(round)
    else:
        queue_phase(round, round.phase)
        tell(round, user, "round.retry", f"{name_of(user)} retried the {round.phase} phase (attempt {round.attempt}).")
        enqueue(round)
    return round


@transaction.atomic
def close_review(*, round: Round, user: User | None) -> Round:
    """Ends the review and queues the learn phase. Refused while nobody has judged anything."""
    round = lock_round(round.pk)
    if round.status != Status.REVIEWING:
        raise RoundRefused(f"Round {round.number} is {round.status}; only a round in review can be closed.")
    _approve_begun(round)
    if not count_labels(round):
        raise RoundRefused(
            "Nobody has judged a sample of this round yet, so there is nothing to learn from; judge one, or cancel."
        )
    waiting = close_waiting_samples(round)
    queue_phase(round, Phase.LEARN)
    left = f", {waiting} not judged" if waiting else ""
    disputed = round.samples.filter(status=Sample.Status.DISPUTED).count()
    left += f", {disputed} disputed and not adjudicated: they teach nothing yet" if disputed else ""
    tell(round, user, "round.close", f"{name_of(user)} closed the review: {count_labels(round)} labels{left}.")
    enqueue(round)
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
    round = lock_round(round_id)
    if round.status != Status.REVIEWING or _is_open(round_id):
        return
    found = count_labels(round)
    if round.samples.exclude(status=Sample.Status.UNFLAGGED).exists() and not found:
        return  # everybody skipped everything: a lead decides what becomes of the round
    queue_phase(round, Phase.LEARN)
    tell(round, None, "round.close", f"Every flagged sample is decided: the review closed with {found} labels.")
    enqueue(round)


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
