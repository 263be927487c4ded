"""Leases: at most one person holds a sample at any time.

What makes that certain: a lease is taken by one conditional write (`_write_lease`) on a row that is unique
per sample, and it succeeds only where the row is free, expired or already the taker's. Each new holder
raises the fence, so a page that was open too long can be told from the current one. The samples to choose
from come from `services.queue`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from oversight.events import publish
from oversight.models import Draft, Lease, Postponement, Sample, User
from oversight.services import queue

SALT = "oversight.lease"
Why = Lease.Why
# Others may take the sample between our look and our write; after so many losses in a row we look later.
TRIES = 8


@dataclass(frozen=True)
class Claim:
    """A sample that a person holds. `sample` comes with its query, the query's parents, its round and experiment."""

    sample: Sample
    fence: int
    expires_at: datetime
    why: str = Why.PRIORITY

    def token(self, user: User) -> str:
        return make_token(user=user, sample_id=self.sample.pk, fence=self.fence)


class BadToken(Exception):
    """The page's token was not made for this person."""


class NotFree(Exception):
    """The sample can't be given to this person now: a sentence made for people."""


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


# --- Getting a sample -------------------------------------------------------------------------------


@transaction.atomic
def claim_next(*, user: User) -> Claim | None:
    """The sample that `user` already holds, else the next of the queue; None where nothing waits for them.

    What was fetched ahead counts as held: it becomes the current one. A fixed number of queries, each a
    short index scan.
    """
    held = Lease.objects.filter(holder=user, expires_at__gt=timezone.now()).order_by("ahead", "-expires_at")
    for lease in held:
        claim = _renew(lease, user)
        if claim is not None:
            return claim
    return _take_next(user, ahead=False)


@transaction.atomic
def claim_ahead(*, user: User) -> Claim | None:
    """One more sample than `user` holds now, for AHEAD_SECONDS: the page fetches it while the current one is read."""
    held = Lease.objects.filter(holder=user, ahead=True, expires_at__gt=timezone.now()).first()
    if held is not None and heartbeat(user=user, sample_id=held.sample_id, fence=held.fence) is not None:
        sample = queue.load_sample(held.sample_id)
        if queue.is_served(sample, gold=held.why == Why.GOLD):
            return Claim(sample, held.fence, held.expires_at, held.why)
    return _take_next(user, ahead=True)


def show_ahead(*, user: User, sample_id: UUID, fence: int) -> bool:
    """The page now shows what it had fetched ahead: the lease gets its full time. False where it is lost."""
    now = timezone.now()
    mine = Lease.objects.filter(sample_id=sample_id, holder=user, fence=fence, expires_at__gt=now)
    return bool(mine.update(ahead=False, expires_at=now + timedelta(seconds=settings.LEASE_SECONDS)))


@transaction.atomic
def claim_sample(*, user: User, sample_id: UUID) -> Claim:
    """The sample that a link names; what `user` held before goes back. Raises NotFree with the reason."""
    sample = Sample.objects.select_for_update(of=("self",)).filter(pk=sample_id).first()
    if sample is None:
        raise NotFree("There is no such sample; the link may be cut.")
    sample = queue.load_sample(sample_id)
    held = Lease.objects.filter(sample=sample, holder=user, expires_at__gt=timezone.now()).first()
    if held is None:
        reason = queue.why_not_free(sample, user)
        if reason:
            raise NotFree(reason)
    claim = take(sample=sample, user=user, why=held.why if held else Why.LINK)
    if claim is None:
        until = timezone.localtime(Lease.objects.get(sample=sample).expires_at)
        raise NotFree(f"Somebody else is reviewing this sample, until {until:%H:%M} at the latest.")
    Lease.objects.filter(holder=user).exclude(sample=sample).update(holder=None)
    Postponement.objects.filter(user=user, sample=sample).delete()
    return claim


def _take_next(user: User, *, ahead: bool) -> Claim | None:
    for _ in range(TRIES):
        found = queue.pick_next(user)
        if found is None:
            return None
        sample_id, why = found
        claim = take(sample=queue.load_sample(sample_id), user=user, why=why, ahead=ahead)
        if claim is not None:
            return claim
    return None


def _renew(lease: Lease, user: User) -> Claim | None:
    """Who looks at the page is at work: prolongs what they hold, unless its round no longer serves it."""
    sample = queue.load_sample(lease.sample_id)
    if not queue.is_served(sample, gold=lease.why == Why.GOLD):
        return None
    if not show_ahead(user=user, sample_id=lease.sample_id, fence=lease.fence):
        return None
    expires_at = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    return Claim(sample, lease.fence, expires_at, lease.why)


def take(*, sample: Sample, user: User, why: str = Why.PRIORITY, ahead: bool = False) -> Claim | None:
    """Leases `sample`, or None where another person holds it. The caller has checked that it may be served."""
    seconds = settings.AHEAD_SECONDS if ahead else settings.LEASE_SECONDS
    now = timezone.now()
    expires_at = now + timedelta(seconds=seconds)
    fence = _write_lease(sample_id=sample.pk, user=user, now=now, expires_at=expires_at, why=why, ahead=ahead)
    return None if fence is None else Claim(sample, fence, expires_at, why)


# The same text on SQLite (3.35 or newer) and PostgreSQL.
TAKE = """
INSERT INTO oversight_lease (sample_id, holder_id, fence, expires_at, ahead, why)
VALUES (%s, %s, 1, %s, %s, %s)
ON CONFLICT (sample_id) DO UPDATE SET
  holder_id = excluded.holder_id, fence = oversight_lease.fence + 1,
  expires_at = excluded.expires_at, ahead = excluded.ahead, why = excluded.why
WHERE oversight_lease.holder_id IS NULL OR oversight_lease.holder_id = excluded.holder_id
  OR oversight_lease.expires_at <= %s
RETURNING fence
"""


def _write_lease(
    *, sample_id: UUID, user: User, now: datetime, expires_at: datetime, why: str, ahead: bool
) -> int | None:
    """The one conditional write: the new fence, or None where somebody else holds the sample."""
    key = Lease._meta.get_field("sample").get_db_prep_value(sample_id, connection)
    until, since = (connection.ops.adapt_datetimefield_value(moment) for moment in (expires_at, now))
    with connection.cursor() as cursor:
        cursor.execute(TAKE, [key, user.pk, until, ahead, str(why), since])
        row = cursor.fetchone()
    return None if row is None else int(row[0])


# --- Keeping it and giving it back ------------------------------------------------------------------


def heartbeat(*, user: User, sample_id: UUID, fence: int) -> datetime | None:
    """Prolongs a lease, an expired one too while nobody else took it; None where it is lost."""
    now = timezone.now()
    mine = Lease.objects.filter(sample_id=sample_id, holder=user, fence=fence)
    for ahead, seconds in ((False, settings.LEASE_SECONDS), (True, settings.AHEAD_SECONDS)):
        expires_at = now + timedelta(seconds=seconds)
        if mine.filter(ahead=ahead).update(expires_at=expires_at):
            return expires_at
    return None


def release(*, user: User, sample_id: UUID | None = None, ahead: bool | None = None) -> int:
    """Gives one sample back, or all that `user` holds (with `ahead`: only those fetched ahead); how many."""
    leases = Lease.objects.filter(holder=user)
    if sample_id is not None:
        leases = leases.filter(sample_id=sample_id)
    if ahead is not None:
        leases = leases.filter(ahead=ahead)
    released = leases.update(holder=None)
    if released:
        publish("queue")
    return released


@transaction.atomic
def postpone(*, user: User, sample_id: UUID, fence: int) -> bool:
    """Gives a sample back for now: it comes to `user` again after the rest, unless others take it. False: lost."""
    lease = Lease.objects.filter(sample_id=sample_id, holder=user, fence=fence).first()
    if lease is None or not release(user=user, sample_id=sample_id):
        return False
    if lease.why != Why.GOLD:  # a gold sample is drawn again some time
        Postponement.objects.bulk_create([Postponement(user=user, sample_id=sample_id)], ignore_conflicts=True)
    return True


@transaction.atomic
def save_draft(*, user: User, sample_id: UUID, fence: int, form: dict[str, list[str]]) -> bool:
    """Keeps what stands in the form, and the lease with it. False where the sample is not `user`'s any more.

    A draft that arrives after its judgement finds no lease, so it can't come back from the dead.
    """
    if heartbeat(user=user, sample_id=sample_id, fence=fence) is None:
        return False
    Draft.objects.update_or_create(
        user=user, sample_id=sample_id, defaults={"form": form, "updated_at": timezone.now()}
    )
    return True


def end_leases(sample_ids: list[UUID]) -> int:
    """Takes samples from whoever holds them; a page that still shows one gets its judgement in as an extra."""
    return Lease.objects.filter(sample__in=sample_ids, holder__isnull=False).update(holder=None, fence=F("fence") + 1)
