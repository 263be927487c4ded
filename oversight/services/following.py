"""What the runner reports of a round: a phase that starts, ends, fails or was stopped.

Each function locks the round's row and checks the status it starts from. `attempt` fences out a runner that was
taken for dead: a report that carries an older attempt changes nothing.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from oversight.events import publish
from oversight.models import Round, Sample
from oversight.services.round_rows import close_waiting_samples, end_round, lock_round, tell
from oversight.services.rounds import close_if_spent

Status = Round.Status
Phase = Round.Phase


@transaction.atomic
def start_phase(round_id: UUID | str, attempt: int) -> Round | None:
    """Claims a queued round for this attempt; None where it was cancelled, claimed or superseded."""
    round = lock_round(round_id)
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
    round = lock_round(round_id)
    if round.status != Status.PROPOSING or round.attempt != attempt:
        return False
    round.status = Status.REVIEWING
    round.proposed_at = timezone.now()
    round.stage, round.stage_done, round.stage_total = "", 0, 0
    round.save()
    flagged = round.samples.exclude(status=Sample.Status.UNFLAGGED).count()
    tell(round, None, "round.proposed", f"{round.samples.count()} samples proposed, {flagged} of them for people.")
    close_if_spent(round)
    return True


@transaction.atomic
def finish_learn(round_id: UUID | str, attempt: int, *, reason: str = "") -> bool:
    """The round is done; `reason` says why a checkpoint was rolled back, if it was."""
    round = lock_round(round_id)
    if round.status != Status.LEARNING or round.attempt != attempt:
        return False
    end_round(round, Status.DONE, reason)
    tell(round, None, "round.done", reason or "Done.")
    return True


@transaction.atomic
def fail_round(round_id: UUID | str, *, reason: str, attempt: int | None = None) -> bool:
    """Ends a queued or running phase as failed. `attempt` None fails whatever attempt is current."""
    round = lock_round(round_id)
    if round.status not in Round.RUNNING or attempt not in (None, round.attempt):
        return False
    end_round(round, Status.FAILED, reason)
    tell(round, None, "round.fail", f"Failed: {reason}", error=True)
    return True


@transaction.atomic
def finish_cancel(round_id: UUID | str, attempt: int) -> bool:
    """The runner has stopped the child after a cancel."""
    round = lock_round(round_id)
    if round.status not in Round.RUNNING or round.attempt != attempt:
        return False
    end_round(round, Status.CANCELLED, f"Cancelled in the {round.phase} phase.")
    close_waiting_samples(round)
    tell(round, None, "round.cancelled", round.reason)
    return True
