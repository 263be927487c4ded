"""What reviewers do: judge, skip, undo, revise. Reviews are only ever added, never changed.

Locks are taken in the order sample, lease, audit chain. `rounds` locks a round before its samples, so
nothing here locks a round while it holds a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from oversight.events import publish
from oversight.models import Draft, Lease, Review, Role, Round, Sample, SecondLook, User
from oversight.services import audit, labels, leases, queue, rounds
from oversight.services.judgements import InvalidReview, Judgement, check_judgement
from oversight.services.leases import Claim

Action = Review.Action
Purpose = Review.Purpose
Status = Sample.Status
UNDOABLE = 10  # judgements, the newest first
LONGEST_SECONDS = 3600.0  # a page left open for longer says nothing about effort


class ReviewRefused(Exception):
    """The judgement is fine but can't be taken now: a sentence made for people."""


class NotYours(Exception):
    """The sample or review belongs to somebody else, or doesn't exist."""


def record_review(
    *, user: User, sample_id: UUID, fence: int, key: UUID, judgement: Judgement, may_close: bool = True
) -> Review:
    """Stores one judgement or skip of a sample that `user` was served, and decides the sample by it.

    The same `key` again returns the stored review. A judgement that comes after the lease went to
    somebody else, or after the review closed, is kept as an extra one (`held_lease` False) that decides nothing.
    Who looks for the next sample anyway says `may_close` False, and `rounds.close_if_spent` where none is left.
    """
    with own_key(key):
        return _record(
            user=user, sample_id=sample_id, fence=fence, key=key, judgement=judgement, may_close=may_close
        )  # fmt: skip


@contextmanager
def own_key(key: UUID) -> Iterator[None]:
    """Around a transaction that stores a review: a key that another review has is NotYours."""
    try:
        yield
    except IntegrityError as error:
        if not Review.objects.filter(key=key).exists():
            raise
        raise NotYours(f"The key {key} belongs to another review.") from error


@transaction.atomic
def _record(*, user: User, sample_id: UUID, fence: int, key: UUID, judgement: Judgement, may_close: bool) -> Review:
    sample = lock_sample(sample_id)
    reviews = list_reviews(sample)
    repeated = find_repeated(reviews, key, user=user)
    if repeated is not None:
        return repeated
    lease = Lease.objects.filter(sample=sample).first()
    if lease is None or lease.fence < fence:
        raise NotYours(f"Sample {sample_id} was never served to {user.get_username()}.")
    sample.lease = lease  # for who asks afterwards why it came
    gold = lease.why == Lease.Why.GOLD and sample.gold and sample.status == Status.DECIDED
    return _store(
        sample, reviews, user=user, key=key, judgement=judgement, held=_holds(lease, sample, user, fence),
        purpose=Purpose.GOLD if gold else Purpose.REVIEW, may_close=may_close,
    )  # fmt: skip


def _holds(lease: Lease, sample: Sample, user: User, fence: int) -> bool:
    """Whether a judgement under `fence` is the holder's. A lease that ended and went to nobody else still is."""
    if lease.holder_id == user.pk and lease.fence == fence:
        return True
    free = lease.holder_id is None or lease.expires_at <= timezone.now()
    return free and sample.status == Status.QUEUED


@transaction.atomic
def revise_review(*, user: User, review_id: UUID, key: UUID, judgement: Judgement) -> Review:
    """Adds a new judgement that supersedes an own earlier one; both are kept."""
    earlier = _own_review(user, review_id)
    sample = lock_sample(earlier.sample_id)
    reviews = list_reviews(sample)
    repeated = find_repeated(reviews, key, user=user)
    if repeated is not None:
        return repeated
    if any(review.supersedes_id == earlier.pk for review in reviews):
        raise ReviewRefused("This judgement has already been revised, taken back or withdrawn.")
    if judgement.action == Action.SKIP:
        raise InvalidReview("A judgement can't be revised into a skip; undo it instead.")
    if earlier.purpose == Purpose.GOLD:
        raise ReviewRefused("This sample has a known answer; the first judgement of it stands.")
    if sample.round.status not in queue.SERVING or sample.status == Status.EXCLUDED:
        raise ReviewRefused(f"The review of round {sample.round.number} has closed; your judgement stands as it is.")
    return _store(sample, reviews, user=user, key=key, judgement=judgement, held=earlier.held_lease)


@transaction.atomic
def undo_last(*, user: User, key: UUID) -> Claim:
    """Takes back the latest own judgement or skip that stands, and gives its sample back to `user` under a lease.

    Again and again it goes back through the last UNDOABLE ones; each undo is a new immutable row.
    """
    repeated = Review.objects.filter(key=key, reviewer=user, action=Action.UNDO).first()
    last = repeated or _last_standing(user)
    sample = lock_sample(last.sample_id)
    if last.purpose != Purpose.GOLD and (sample.round.status not in queue.SERVING or sample.status == Status.EXCLUDED):
        raise ReviewRefused(
            f"The review of round {sample.round.number} has closed, so your last judgement can't be taken back."
        )
    why = Lease.Why.GOLD if last.purpose == Purpose.GOLD else Lease.Why.UNDO
    claim = leases.take(sample=sample, user=user, why=why)
    if claim is None:
        raise ReviewRefused("Somebody else holds that sample by now; it is with them.")
    Lease.objects.filter(holder=user).exclude(sample=sample).update(holder=None)
    if repeated is None:
        reviews = list_reviews(sample)
        if any(review.supersedes_id == last.pk for review in reviews):
            raise ReviewRefused("That judgement has already been taken back.")
        undone = Review.objects.create(
            sample=sample, reviewer=user, action=Action.UNDO, key=key, supersedes=last, purpose=last.purpose
        )
        settle(sample, [*reviews, undone])
        audit.record(user.get_username(), "review.undo", f"sample:{sample.pk}", review=str(last.pk))
        publish("queue", str(sample.round_id))
    return replace(claim, sample=queue.load_sample(sample.pk))


def _last_standing(user: User) -> Review:
    recent = (
        Review.objects.filter(reviewer=user)
        .exclude(action__in=(Action.UNDO, Action.WITHDRAW))
        .exclude(purpose=Purpose.ADJUDICATION)
        .order_by("-created_at")
        .select_related("superseded_by")[:UNDOABLE]
    )
    reviews = list(recent)
    if not reviews:
        raise ReviewRefused("There is nothing to undo: you have not judged anything yet.")
    for review in reviews:
        if not hasattr(review, "superseded_by"):
            return review
    raise ReviewRefused(f"Your last {UNDOABLE} judgements are taken back or revised; your history has the older ones.")


# --- Parts ------------------------------------------------------------------------------------------


def lock_sample(sample_id: UUID) -> Sample:
    """The sample under its row's lock, with its round as it is now."""
    samples = Sample.objects.select_for_update(of=("self",)).select_related("query")
    if connection.vendor == "sqlite":  # a transaction is the only writer from its start on
        sample = samples.select_related("query", "round__experiment").filter(pk=sample_id).first()
    elif (sample := samples.filter(pk=sample_id).first()) is not None:
        # Read after the lock, so that a close that we waited for is seen.
        rounds_ = Round.objects.select_related("experiment").only(*queue.ROUND_FIELDS)
        sample.round = rounds_.get(pk=sample.round_id)
    if sample is None:
        raise NotYours(f"There is no sample {sample_id}.")
    return sample


def list_reviews(sample: Sample) -> list[Review]:
    """All that was ever said of a sample, oldest first."""
    return list(Review.objects.filter(sample=sample).order_by("created_at", "id"))


def find_repeated(reviews: list[Review], key: UUID, *, user: User) -> Review | None:
    review = next((review for review in reviews if review.key == key), None)
    if review is not None and review.reviewer_id != user.pk:
        raise NotYours(f"The key {key} belongs to another review.")
    return review


def _own_review(user: User, review_id: UUID) -> Review:
    review = Review.objects.filter(pk=review_id, reviewer=user, action__in=labels.JUDGEMENTS).first()
    if review is None or review.purpose == Purpose.ADJUDICATION:
        raise NotYours(f"{user.get_username()} has no judgement {review_id}.")
    return review


def _store(
    sample: Sample,
    reviews: list[Review],
    *,
    user: User,
    key: UUID,
    judgement: Judgement,
    held: bool,
    purpose: str = Purpose.REVIEW,
    may_close: bool = True,
) -> Review:
    """The caller holds the sample's lock; `reviews` are all of the sample."""
    violations, spans = check_judgement(sample, judgement)
    superseded = {review.supersedes_id for review in reviews}
    own = [review for review in reviews if review.reviewer_id == user.pk]
    answers = (r for r in own if r.action not in labels.TAKEN_BACK and r.purpose != Purpose.ADJUDICATION)
    standing = next((r for r in answers if r.pk not in superseded), None)
    if standing is not None:
        held, purpose = standing.held_lease, standing.purpose  # a second submit corrects the first
    serving = sample.round.status in queue.SERVING and sample.status not in (Status.CLOSED, Status.EXCLUDED)
    rewriting = judgement.action == Action.REWRITE
    review = Review(
        sample=sample,
        reviewer=user,
        action=judgement.action,
        purpose=purpose,
        skip_reason=judgement.skip_reason if judgement.action == Action.SKIP else "",
        violations=violations,
        spans=spans,
        rewrite=judgement.rewrite.strip() if rewriting else "",
        rewrite_of=judgement.rewrite_of if rewriting else None,
        note=judgement.note.strip(),
        # The verdict is on the page after the first judgement, so whatever follows was made knowing it.
        saw_critic=any(r.action in labels.JUDGEMENTS for r in own),
        held_lease=held and (serving or purpose == Purpose.GOLD),
        seconds=limit_seconds(judgement.seconds),
        key=key,
        supersedes=standing,
    )
    review.save(force_insert=True)
    Lease.objects.filter(sample=sample, holder=user).update(holder=None)
    Draft.objects.filter(user=user, sample=sample).delete()
    if serving and purpose == Purpose.REVIEW:
        settle(sample, [*reviews, review], may_close=may_close)
    elif purpose == Purpose.REVIEW and judgement.action != Action.SKIP:
        asked = SecondLook.objects.filter(sample=sample, state=SecondLook.State.ASKED)
        asked.update(state=SecondLook.State.ANSWERED)
    audit.record(
        user.get_username(), f"review.{judgement.action}", f"sample:{sample.pk}",
        review=str(review.pk), content=sample.content_hash, supersedes=review.supersedes_id,
    )  # fmt: skip
    publish("queue", str(sample.round_id))
    return review


def limit_seconds(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_SECONDS)


def settle(sample: Sample, reviews: list[Review], *, may_close: bool = True) -> None:
    """Sets the label and the status from all `reviews` of the sample. The caller holds the sample's lock.

    In a round whose review has ended, a sample that loses its label stays closed: nobody is asked again. Who settles
    many samples says `may_close` False and asks `rounds.close_if_spent` once.
    """
    # Who closed the review approved what fewer people than wanted agreed on: that stays so.
    outcome = labels.weigh(sample, reviews, closing=sample.round.phase == Round.Phase.LEARN)
    if sample.status != Status.EXCLUDED:
        labels.write_label(sample, outcome)
    if sample.status == Status.EXCLUDED:
        status = Status.EXCLUDED
    elif outcome.label is not None:
        status = Status.DECIDED
    elif outcome.disputed:
        status = Status.DISPUTED
    elif sample.round.status not in queue.SERVING:
        status = Status.CLOSED
    elif not outcome.counted and _everybody_skipped(reviews):
        status = Status.SKIPPED
    else:
        status = Status.QUEUED
    rank = sample.rank
    if rank in (Sample.Rank.PRIORITY, Sample.Rank.BEGUN):
        rank = Sample.Rank.BEGUN if outcome.counted else Sample.Rank.PRIORITY
    now = (status, rank, outcome.contradictory)
    if now != (sample.status, sample.rank, sample.disputed):
        sample.status, sample.rank, sample.disputed = now
        sample.save(update_fields=["status", "rank", "disputed"])
    if may_close and status not in (Status.QUEUED, Status.DISPUTED):
        rounds.close_if_spent(sample.round)


def _everybody_skipped(reviews: list[Review]) -> bool:
    """True where no active person is left who has not skipped it."""
    superseded = {review.supersedes_id for review in reviews}
    skipped = [r.reviewer_id for r in reviews if r.action == Action.SKIP and r.pk not in superseded]
    if not skipped:
        return False
    return not User.objects.filter(is_active=True, role__in=Role.values).exclude(pk__in=skipped).exists()
