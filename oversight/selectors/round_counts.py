"""How far people are with a round's flagged samples: exact, and cheap for a round of any size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count
from django.utils import timezone

from oversight.models import Lease, Round, Sample, User

Status = Sample.Status
FLAGGED = (Status.QUEUED, Status.DISPUTED, Status.DECIDED, Status.SKIPPED, Status.CLOSED)
SERVING = (Round.Status.PROPOSING, Round.Status.REVIEWING)
# Counting reads an index entry a sample. Where that takes long, the count of some seconds ago does: nobody sees
# the difference in a bar of thousands, and the next sample must not wait for it.
EXACT = 300  # flagged samples: up to here every count is new
SLOW = 0.003  # seconds; a faster count is never kept
KEPT = 500  # a count is kept for so many times the time it took, so that counting stays below 0.2% of the work
LONGEST = 30.0  # seconds
_kept: dict[UUID, tuple[float, dict[str, int]]] = {}  # round -> (until when, its count), for this process


@dataclass(frozen=True)
class Counts:
    """How far people are with a round's flagged samples."""

    done: int
    total: int
    disputed: int  # judged, and with a lead now
    held: int  # waiting ones that others hold at this moment
    until: datetime | None  # when the last of these leases ends, unless prolonged
    growing: bool  # the round still proposes


def count_reviews(round_: Round, user: User) -> Counts:
    """Three queries at most."""
    statuses = _count_statuses(round_.pk)
    flagged = sum(statuses.values())
    growing = round_.status == Round.Status.PROPOSING
    disputed = statuses.get(Status.DISPUTED, 0)
    held, until = count_held(round_.pk, user)
    return Counts(
        done=flagged - statuses.get(Status.QUEUED, 0) - disputed,
        total=max(flagged, round_.budget) if growing else flagged,
        disputed=disputed,
        held=held,
        until=until,
        growing=growing,
    )


def count_held(round_id: UUID, user: User) -> tuple[int, datetime | None]:
    """How many waiting samples of a round others hold, and until when at the latest.

    The live leases first, of which there are as many as people, then their samples by key alone: joined, or asked
    for round and state, SQLite walks the samples instead (tens of milliseconds at 100,000).
    """
    live = Lease.objects.filter(expires_at__gt=timezone.now(), holder__isnull=False).exclude(holder=user)
    ends = dict(live.values_list("sample_id", "expires_at"))
    if not ends:
        return 0, None
    found = Sample.objects.filter(pk__in=list(ends)).order_by().values_list("pk", "round_id", "status")
    held = [ends[pk] for pk, of_round, status in found if (of_round, status) == (round_id, Status.QUEUED)]
    return len(held), max(held, default=None)


def find_served_round(sample: Sample) -> Round:
    """The round whose progress belongs beside `sample`. A sample from an earlier round must not show that it is one:
    it may have a known answer."""
    if sample.round.status in SERVING:
        return sample.round
    return Round.objects.filter(experiment=sample.experiment_id, status__in=SERVING).first() or sample.round


def _count_statuses(round_id: UUID) -> dict[str, int]:
    begun = time.monotonic()
    until, found = _kept.get(round_id, (0.0, {}))
    if begun < until:
        return found
    rows = Sample.objects.filter(round=round_id, status__in=FLAGGED).order_by()
    counted = dict(rows.values_list("status").annotate(n=Count("*")))
    now = time.monotonic()
    if sum(counted.values()) > EXACT and now - begun > SLOW:
        _kept[round_id] = (now + min(KEPT * (now - begun), LONGEST), counted)
    return counted
