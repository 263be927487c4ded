"""Taking judgements out, one or all that stand of a person, and putting them back.

Each is a new row that supersedes the judgement, and every sample is settled anew, in batches that go on after a
crash where they stood: see `withdrawal_batches`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from kombu.exceptions import OperationalError

from oversight.models import Experiment, Label, Review, Round, Sample, User, Withdrawal
from oversight.services import labels, queue
from oversight.services.withdrawal_batches import differs, note, read_label, run_batch

Action = Review.Action
State = Withdrawal.State
AT_ONCE = 200  # judgements; more are left to a worker
SHIFT = 5.0  # seconds that a task works before it queues itself again, so that others get their turn


class WithdrawalRefused(Exception):
    """It can't be done: a sentence made for people."""


@dataclass(frozen=True)
class Wanted:
    """Which judgements to take out: one, or all of a person in an experiment, on days in [since, until]."""

    reviewer: User
    experiment: Experiment
    review: Review | None = None
    since: date | None = None
    until: date | None = None


def list_wanted(wanted: Wanted) -> QuerySet[Review]:
    """The judgements that stand, those of one sample side by side. Reads no other person's reviews."""
    standing = Review.objects.filter(
        reviewer=wanted.reviewer,
        sample__experiment=wanted.experiment,
        action__in=labels.JUDGEMENTS,
        superseded_by=None,
    )
    if wanted.review is not None:
        standing = standing.filter(pk=wanted.review.pk)
    if wanted.since is not None:
        standing = standing.filter(created_at__gte=_start_of(wanted.since))
    if wanted.until is not None:
        standing = standing.filter(created_at__lt=_start_of(wanted.until + timedelta(days=1)))
    return standing.order_by("sample_id", "created_at", "id")


def _start_of(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


def withdraw(*, user: User, wanted: Wanted, reason: str, key: UUID) -> Withdrawal:
    """Takes the judgements out; many are left to a worker. The same `key` again returns the same withdrawal."""
    repeated = Withdrawal.objects.filter(pk=key).first()
    if repeated is not None:
        return repeated
    if not reason.strip():
        raise WithdrawalRefused("Say why: the reason is kept with every judgement that is taken out.")
    with transaction.atomic():
        ids = [str(pk) for pk in list_wanted(wanted).values_list("pk", flat=True)]
        if not ids:
            raise WithdrawalRefused(
                f"No judgement of {wanted.reviewer.get_username()} that stands fits; it may be taken out already."
            )
        withdrawal, made = Withdrawal.objects.get_or_create(
            pk=key,
            defaults={
                "by": user,
                "reviewer": wanted.reviewer,
                "experiment": wanted.experiment,
                "reason": reason.strip()[:500],
                "reviews": ids,
                "moved_at": timezone.now(),
            },
        )
        if made:
            note(withdrawal, user, "withdrawal.start", reason=withdrawal.reason, judgements=len(ids))
    return _proceed(withdrawal)


def restore(*, user: User, withdrawal_id: UUID) -> Withdrawal:
    """Puts the judgements of a finished withdrawal back, each as a new row with the same content."""
    with transaction.atomic():
        withdrawal = Withdrawal.objects.select_for_update().get(pk=withdrawal_id)
        if withdrawal.state in (State.RESTORING, State.RESTORED):
            return withdrawal
        if withdrawal.state != State.DONE:
            raise WithdrawalRefused("This withdrawal is still under way; it can be undone once it is done.")
        withdrawal.state, withdrawal.done, withdrawal.restored_by = State.RESTORING, 0, user
        withdrawal.moved_at = timezone.now()
        withdrawal.save()
        note(withdrawal, user, "withdrawal.restore", judgements=withdrawal.total)
    return _proceed(withdrawal)


def resume(*, withdrawal_id: UUID) -> bool:
    """Goes on with a withdrawal whose worker was lost. False where it is for a worker and the broker is down."""
    withdrawal = Withdrawal.objects.get(pk=withdrawal_id)
    if withdrawal.under_way and withdrawal.total > AT_ONCE:
        return enqueue(withdrawal.pk)
    _proceed(withdrawal)
    return True


def _proceed(withdrawal: Withdrawal) -> Withdrawal:
    """Outside of a transaction: a few at once, more by a worker. A broker that is down leaves it to `resume`."""
    if withdrawal.total > AT_ONCE:
        if withdrawal.under_way:
            enqueue(withdrawal.pk)
    else:
        while run_batch(withdrawal.pk):
            pass
    withdrawal.refresh_from_db()
    return withdrawal


def enqueue(withdrawal_id: UUID) -> bool:
    """Hands it to a worker; False where the broker is down."""
    from oversight.tasks import run_withdrawal  # tasks import this module

    try:
        run_withdrawal.delay(str(withdrawal_id))
    except OperationalError:
        return False
    return True


def run_shift(withdrawal_id: UUID) -> None:
    """What a worker does: batches for SHIFT seconds, then the rest in another task."""
    started = timezone.now()
    while run_batch(withdrawal_id):
        if (timezone.now() - started).total_seconds() > SHIFT:
            enqueue(withdrawal_id)
            return


# --- Before it is done ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preview:
    """What a withdrawal would do. The figures of labels are None where there are too many to foretell."""

    judgements: int
    samples: int
    lost: list[UUID] | None  # samples whose label would vanish
    altered: list[UUID] | None  # samples whose label would say something else
    requeued: int | None  # samples that would wait for people again
    gold: int | None  # samples that would no longer test people


FORETOLD = 2_000  # judgements


def preview(wanted: Wanted) -> Preview:
    """Weighs every sample again without the judgements; writes nothing."""
    found = list(list_wanted(wanted).values_list("pk", "sample_id"))
    ids = sorted({sample_id for _, sample_id in found})
    if len(found) > FORETOLD:
        return Preview(len(found), len(ids), None, None, None, None)
    out = {pk for pk, _ in found}
    lost, altered, requeued, gold = [], [], 0, 0
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        known: dict[UUID, list[Review]] = defaultdict(list)
        for review in Review.objects.filter(sample__in=chunk).order_by("created_at", "id"):
            known[review.sample_id].append(review)
        before = {label.sample_id: read_label(label) for label in Label.objects.filter(sample__in=chunk)}
        for sample in Sample.objects.filter(pk__in=chunk).select_related("round"):
            if sample.status == Sample.Status.EXCLUDED:
                continue
            # A judgement that is out counts no more, yet what it superseded stays superseded.
            left = [_blank(review) if review.pk in out else review for review in known[sample.pk]]
            closed = sample.round.phase == Round.Phase.LEARN
            outcome = labels.weigh(sample, left, closing=closed)
            if before.get(sample.pk) is not None and outcome.label is None:
                lost.append(sample.pk)
                gold += sample.gold
            elif differs(before.get(sample.pk), outcome.label):
                altered.append(sample.pk)
            waits = outcome.label is None and not outcome.disputed and sample.round.status in queue.SERVING
            requeued += waits and sample.status != Sample.Status.QUEUED
    return Preview(len(found), len(ids), lost, altered, requeued, gold)


def _blank(review: Review) -> Review:
    return Review(pk=review.pk, sample_id=review.sample_id, action=Action.WITHDRAW, supersedes_id=review.supersedes_id)
