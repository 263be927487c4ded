"""What every change of a round's status is made of: the lock, the rows, one line of log, one audit event.

Used by `launching`, `rounds` and `following` only. Locks are taken in the order experiment, round, samples.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from oversight.events import publish
from oversight.models import Label, LogLine, Round, Sample, User
from oversight.services import audit

log = logging.getLogger(__name__)


class RoundRefused(Exception):
    """Why a round can't be launched, closed, cancelled or retried now: sentences made for people."""

    def __init__(self, *problems: str) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)


def lock_round(round_id: UUID | str) -> Round:
    return Round.objects.select_for_update().get(pk=round_id)


def queue_phase(round: Round, phase: str) -> None:
    """Caller holds the round's lock."""
    round.status, round.phase = Round.Status.QUEUED, phase
    round.attempt += 1
    round.queued_at = timezone.now()
    round.stage, round.stage_done, round.stage_total = "", 0, 0
    round.stage_started_at = round.heartbeat_at = None
    round.save()


def end_round(round: Round, status: str, reason: str) -> None:
    """Caller holds the round's lock."""
    round.status, round.reason, round.finished_at = status, reason, timezone.now()
    round.cancel_requested = False
    round.save()
    experiment_id = round.experiment_id

    def go_on() -> None:
        from oversight.services.continuous import advance_experiment  # it launches rounds, and so imports this module

        advance_experiment(experiment_id)

    # What it raises is logged and changes nothing here: the watch tries again.
    transaction.on_commit(go_on, robust=True)


def close_waiting_samples(round: Round) -> int:
    return round.samples.filter(status=Sample.Status.QUEUED).update(status=Sample.Status.CLOSED)


def labels_of(experiment_id: UUID) -> QuerySet[Label]:
    """Starts from the labels: a join would start from the samples, of which there are many more."""
    mine = Sample.objects.filter(pk=OuterRef("sample"), round__experiment=experiment_id)
    return Label.objects.filter(Exists(mine))


def count_labels(round: Round) -> int:
    """How many labels of the round teach anything: a tie without a mark does not."""
    silent = Q(violates={}, preferred=None, rewrite="")
    return Label.objects.filter(sample__round=round).exclude(silent).count()


def name_of(user: User | None) -> str:
    return user.get_username() if user else "the system"


def tell(round: Round, user: User | None, action: str, text: str, *, error: bool = False, **detail: Any) -> None:
    """One line in the round's log, one audit event, one live event."""
    LogLine.objects.create(round=round, at=timezone.now(), stage=round.stage or round.status, text=text, error=error)
    audit.record(user.get_username() if user else "system", action, f"round:{round.pk}", text=text, **detail)
    publish("round", str(round.pk))
    publish("queue")


def enqueue(round: Round) -> None:
    """Hands the phase to a worker on commit. A broker that is down fails the round instead of losing it."""
    round_id, attempt = str(round.pk), round.attempt

    def send() -> None:
        # Tasks import the runner, which imports this module.
        from oversight.services.following import fail_round
        from oversight.tasks import run_phase

        try:
            run_phase.delay(round_id, attempt)
        except OperationalError as error:
            log.warning("round %s not enqueued: %s", round_id, error)
            fail_round(
                round_id, attempt=attempt, reason=f"The broker did not take the job ({error}); retry when it is up."
            )

    transaction.on_commit(send)


def worker_problems() -> list[str]:
    from oversight import workers  # asks Redis; the services that never launch don't need it

    try:
        names = workers.listening("gpu")
    except RedisError as error:
        return [f"The broker does not answer ({error}); start it, then try again."]
    if not names:
        return ["No worker is listening on the queue gpu; start one: make run, or a Celery worker with -Q gpu."]
    return []
