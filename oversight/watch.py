"""Finds rounds that nobody works on any more, from the database alone: messages and workers can be lost."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from oversight import workers
from oversight.events import publish
from oversight.models import LogLine, Round
from oversight.services import continuous, following, rounds

log = logging.getLogger(__name__)
Status = Round.Status
LOST_MESSAGE_SECONDS = 15.0  # a queued round is looked at after this long


def watch_rounds() -> None:
    fail_silent_rounds()
    close_spent_reviews()
    send_lost_messages()
    continuous.advance_all()


def close_spent_reviews() -> None:
    """Ends a review whose last submit was saved by a process that was killed before it could close it."""
    for round in Round.objects.filter(status=Status.REVIEWING, proposed_at__isnull=False):
        rounds.close_if_spent(round)


def fail_silent_rounds() -> list[Round]:
    """Fails every running round whose worker has been silent for LOST_AFTER_SECONDS."""
    limit = timezone.now() - timedelta(seconds=settings.LOST_AFTER_SECONDS)
    running = Round.objects.filter(status__in=(Status.PROPOSING, Status.LEARNING))
    silent = list(running.filter(Q(heartbeat_at__lt=limit) | Q(heartbeat_at=None)))
    for round in silent:
        reason = (
            f"The worker that ran it stopped answering during stage {round.stage or 'load'} "
            f"of the {round.phase} phase; retry resumes from the last whole stage."
        )
        if round.cancel_requested:
            following.finish_cancel(round.pk, round.attempt)
        else:
            following.fail_round(round.pk, reason=reason, attempt=round.attempt)
    return silent


def send_lost_messages(*, after: float = LOST_MESSAGE_SECONDS) -> list[Round]:
    """Sends the message of a queued round again where none waits and a free worker should have taken it.

    Sending one too many is harmless: `start_phase` lets only the first one in.
    """
    limit = timezone.now() - timedelta(seconds=after)
    queued = list(Round.objects.filter(status=Status.QUEUED, queued_at__lt=limit))
    if not queued:
        return []
    try:
        if workers.waiting("gpu"):
            return []  # the queue is alive and busy
        return [round for round in queued if _send_again(round)]
    except (RedisError, OperationalError) as error:
        log.warning("queued rounds wait for the broker: %s", error)
        return []


@transaction.atomic
def _send_again(round: Round) -> bool:
    from oversight.tasks import run_phase

    locked = Round.objects.select_for_update().get(pk=round.pk)
    if locked.status != Status.QUEUED or locked.attempt != round.attempt or locked.queued_at != round.queued_at:
        return False
    now = timezone.now()
    Round.objects.filter(pk=locked.pk).update(queued_at=now)
    text = "The job's message was lost (the broker was restarted, or its worker died); it was sent again."
    LogLine.objects.create(round=locked, at=now, stage=locked.phase, text=text)
    run_phase.delay(str(locked.pk), locked.attempt)
    publish("round", str(locked.pk))
    return True
