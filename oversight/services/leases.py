"""Leases: at most one person holds a sample at any time.

What makes that certain: whoever takes a lease first locks the sample's row and only then reads its
lease, in a new statement. On PostgreSQL the row lock (`FOR UPDATE SKIP LOCKED`) excludes other takers
of the same sample; on SQLite `BEGIN IMMEDIATE` lets one writer in at a time. The unique constraint on
`Lease.sample` stands behind both. Each new holder raises the fence, so a page that was open too long
can be told from the current one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from oversight.events import publish
from oversight.models import Lease, Review, Round, Sample, User

SERVING = (Round.Status.PROPOSING, Round.Status.REVIEWING)
SALT = "oversight.lease"
# Others may take the sample between our look and our lock; after so many losses in a row we look later.
TRIES = 8


@dataclass(frozen=True)
class Claim:
    """A sample that a person holds. `sample` comes with its query, the query's parents, its round and experiment."""

    sample: Sample
    fence: int
    expires_at: datetime

    def token(self, user: User) -> str:
        return make_token(user=user, sample_id=self.sample.pk, fence=self.fence)


class BadToken(Exception):
    """The page's token was not made for this person."""


def make_token(*, user: User, sample_id: UUID, fence: int) -> str:
    """What the page sends back: proof that this person was served this sample under this fence."""
    return signing.dumps([user.pk, sample_id.hex, fence], salt=SALT)


def read_token(*, user: User, token: str) -> tuple[UUID, int]:
    """(sample id, fence). Raises BadToken for a forged token and for another person's."""
    try:
        owner, sample_hex, fence = signing.loads(token, salt=SALT)
    except (signing.BadSignature, ValueError) as error:
        raise BadToken("This page's token is not valid; reload the page.") from error
    if owner != user.pk:
        raise BadToken("This page belongs to another person; reload the page.")
    return UUID(sample_hex), fence


@transaction.atomic
def claim_next(*, user: User) -> Claim | None:
    """The sample that `user` already holds, else the next free one; None where nothing waits for them.

    A fixed number of queries, each a short index scan: six where nobody interferes.
    """
    held = _held(user)
    if held is not None:
        return held
    for _ in range(TRIES):
        round_id = _oldest_round_with_work(user)
        if round_id is None:
            return None
        sample_id = _queue(user, round_id).select_for_update(skip_locked=True).values_list("pk", flat=True).first()
        if sample_id is None:
            continue  # all that was free is being taken by others this moment
        claim = take(sample=load_sample(sample_id), user=user)
        if claim is not None:
            return claim
    return None


def take(*, sample: Sample, user: User) -> Claim | None:
    """Leases `sample`, or None where another person holds it. The caller holds the lock of the sample's row."""
    now = timezone.now()
    expires_at = now + timedelta(seconds=settings.LEASE_SECONDS)
    lease = Lease.objects.filter(sample=sample).first()
    if lease is None:
        lease = Lease.objects.create(sample=sample, holder=user, expires_at=expires_at)
    else:
        if lease.holder_id not in (None, user.pk) and lease.expires_at > now:
            return None
        lease.holder, lease.expires_at = user, expires_at
        lease.fence += 1
        lease.save(update_fields=["holder", "expires_at", "fence"])
    return Claim(sample=sample, fence=lease.fence, expires_at=expires_at)


def heartbeat(*, user: User, sample_id: UUID, fence: int) -> datetime | None:
    """Prolongs a lease, an expired one too while nobody else took it; None where it is lost."""
    expires_at = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    kept = Lease.objects.filter(sample_id=sample_id, holder=user, fence=fence).update(expires_at=expires_at)
    return expires_at if kept else None


def release(*, user: User, sample_id: UUID | None = None) -> int:
    """Gives one sample back, or all that `user` holds; returns how many."""
    leases = Lease.objects.filter(holder=user)
    if sample_id is not None:
        leases = leases.filter(sample_id=sample_id)
    released = leases.update(holder=None)
    if released:
        publish("queue")
    return released


def _held(user: User) -> Claim | None:
    """Also prolongs it: who looks at the page is at work."""
    lease = (
        Lease.objects.filter(holder=user, expires_at__gt=timezone.now(), sample__round__status__in=SERVING)
        .order_by("-expires_at")
        .first()
    )
    if lease is None:
        return None
    expires_at = heartbeat(user=user, sample_id=lease.sample_id, fence=lease.fence)
    if expires_at is None:
        return None
    return Claim(sample=load_sample(lease.sample_id), fence=lease.fence, expires_at=expires_at)


def _free_samples(user: User) -> QuerySet[Sample]:
    """Samples that wait, that nobody else holds, and that `user` has neither judged nor skipped."""
    held = Lease.objects.filter(sample=OuterRef("pk"), holder__isnull=False, expires_at__gt=timezone.now())
    answered = Review.objects.filter(sample=OuterRef("pk"), reviewer=user, superseded_by=None).exclude(
        action=Review.Action.UNDO
    )
    return Sample.objects.filter(~Exists(held), ~Exists(answered), status=Sample.Status.QUEUED)


def _queue(user: User, round_id: UUID) -> QuerySet[Sample]:
    """What waits for `user` in the order of the index. A join would cost that order: see the test of the plan."""
    return _free_samples(user).filter(round_id=round_id).order_by("-priority", "id")


def load_sample(sample_id: UUID) -> Sample:
    """A sample with all that the workbench shows of it."""
    return Sample.objects.select_related("round__experiment", "query__parent__parent").get(pk=sample_id)


def _oldest_round_with_work(user: User) -> UUID | None:
    """Rounds one by one, so that the order inside a round comes straight from the index."""
    work = _free_samples(user).filter(round=OuterRef("pk"))
    rounds = Round.objects.filter(Q(status__in=SERVING), Exists(work)).order_by("created_at")
    return rounds.values_list("pk", flat=True).first()
