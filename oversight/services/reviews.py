"""What reviewers do: judge, skip, undo, revise. Reviews are only ever added, never changed.

Locks are taken in the order sample, lease, audit chain. `rounds` locks a round before its samples, so
nothing here locks a round while it holds a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from django.db import transaction

from oversight.events import publish
from oversight.models import Lease, Principle, Review, Role, Round, Sample, User
from oversight.services import audit, labels, leases, rounds
from oversight.services.leases import Claim

Action = Review.Action
Status = Sample.Status
LONGEST_SECONDS = 3600.0  # a page left open for longer says nothing about effort


class InvalidReview(ValueError):
    """The judgement contradicts itself or misses a part: a sentence made for people."""


class ReviewRefused(Exception):
    """The judgement is fine but can't be taken now: a sentence made for people."""


class NotYours(Exception):
    """The sample or review belongs to somebody else, or doesn't exist."""


@dataclass(frozen=True)
class Judgement:
    """What a person says of a sample. `violations` maps response indices to the principles they violate."""

    action: str
    violations: dict[str, list[str]] = field(default_factory=dict)
    rewrite: str = ""
    rewrite_of: int | None = None
    note: str = ""
    seconds: float | None = None


@transaction.atomic
def record_review(*, user: User, sample_id: UUID, fence: int, key: UUID, judgement: Judgement) -> Review:
    """Stores one judgement or skip of a sample that `user` was served, and decides the sample by it.

    The same `key` again returns the stored review. A judgement that comes after the lease went to
    somebody else, or after the review closed, is kept as an extra one (`held_lease` False).
    """
    sample = _lock(sample_id)
    repeated = _find_repeated(key, user=user, sample=sample)
    if repeated is not None:
        return repeated
    served = Lease.objects.filter(sample=sample).values_list("holder_id", "fence").first()
    if served is None or served[1] < fence:
        raise NotYours(f"Sample {sample_id} was never served to {user.get_username()}.")
    return _store(sample, user=user, key=key, judgement=judgement, held=served == (user.pk, fence))


@transaction.atomic
def revise_review(*, user: User, review_id: UUID, key: UUID, judgement: Judgement) -> Review:
    """Adds a new judgement that supersedes an own earlier one; both are kept."""
    earlier = _own_review(user, review_id)
    sample = _lock(earlier.sample_id)
    repeated = _find_repeated(key, user=user, sample=sample)
    if repeated is not None:
        return repeated
    if Review.objects.filter(supersedes=earlier).exists():
        raise ReviewRefused("You have already revised or taken back this judgement.")
    if judgement.action == Action.SKIP:
        raise InvalidReview("A judgement can't be revised into a skip; undo it instead.")
    if sample.round.status not in leases.SERVING:
        raise ReviewRefused(f"The review of round {sample.round.number} has closed; your judgement stands as it is.")
    return _store(sample, user=user, key=key, judgement=judgement, held=earlier.held_lease)


@transaction.atomic
def undo_last(*, user: User, key: UUID) -> Claim:
    """Takes back the latest own judgement or skip, and gives its sample back to `user` under a lease."""
    last = (
        Review.objects.filter(reviewer=user, superseded_by=None)
        .exclude(action=Action.UNDO)
        .order_by("-created_at")
        .only("sample_id")
        .first()
    )
    repeated = Review.objects.filter(key=key, reviewer=user, action=Action.UNDO).first()
    if repeated is not None:
        last = repeated
    if last is None:
        raise ReviewRefused("There is nothing to undo: you have not judged anything yet.")
    sample = _lock(last.sample_id)
    if sample.round.status not in leases.SERVING:
        raise ReviewRefused(
            f"The review of round {sample.round.number} has closed, so your last judgement can't be taken back."
        )
    claim = leases.take(sample=sample, user=user)
    if claim is None:
        raise ReviewRefused("Somebody else holds the sample that you skipped; it is with them now.")
    Lease.objects.filter(holder=user).exclude(sample=sample).update(holder=None)
    if repeated is None:
        if Review.objects.filter(supersedes=last).exists():
            raise ReviewRefused("That judgement has already been taken back.")
        Review.objects.create(sample=sample, reviewer=user, action=Action.UNDO, key=key, supersedes=last)
        _decide(sample)
        audit.record(user.get_username(), "review.undo", f"sample:{sample.pk}", review=str(last.pk))
        publish("queue", str(sample.round_id))
    return replace(claim, sample=leases.load_sample(sample.pk))


# --- Parts ------------------------------------------------------------------------------------------


def _lock(sample_id: UUID) -> Sample:
    """The sample under its row's lock. The round is read after it, so a close that we waited for is seen."""
    samples = Sample.objects.select_for_update(of=("self",)).select_related("query")
    sample = samples.filter(pk=sample_id).first()
    if sample is None:
        raise NotYours(f"There is no sample {sample_id}.")
    sample.round = Round.objects.select_related("experiment").get(pk=sample.round_id)
    return sample


def _find_repeated(key: UUID, *, user: User, sample: Sample) -> Review | None:
    review = Review.objects.filter(key=key).first()
    if review is not None and (review.reviewer_id != user.pk or review.sample_id != sample.pk):
        raise NotYours(f"The key {key} belongs to another review.")
    return review


def _own_review(user: User, review_id: UUID) -> Review:
    review = Review.objects.filter(pk=review_id, reviewer=user, action__in=labels.JUDGEMENTS).first()
    if review is None:
        raise NotYours(f"{user.get_username()} has no judgement {review_id}.")
    return review


def _store(sample: Sample, *, user: User, key: UUID, judgement: Judgement, held: bool) -> Review:
    """The caller holds the sample's lock."""
    violations = check_judgement(sample, judgement)
    own = list(Review.objects.filter(sample=sample, reviewer=user).select_related("superseded_by"))
    serving = sample.round.status in leases.SERVING and sample.status != Status.CLOSED
    review = Review.objects.create(
        sample=sample,
        reviewer=user,
        action=judgement.action,
        violations=violations,
        rewrite=judgement.rewrite.strip() if judgement.action == Action.REWRITE else "",
        rewrite_of=judgement.rewrite_of if judgement.action == Action.REWRITE else None,
        note=judgement.note.strip(),
        # The verdict is on the page after the first judgement, so whatever follows was made knowing it.
        saw_critic=any(r.action in labels.JUDGEMENTS for r in own),
        held_lease=held and serving,
        seconds=None if judgement.seconds is None else min(max(judgement.seconds, 0.0), LONGEST_SECONDS),
        key=key,
        supersedes=next((r for r in own if not _is_superseded(r) and r.action != Action.UNDO), None),
    )
    Lease.objects.filter(sample=sample, holder=user).update(holder=None)
    if serving:
        _decide(sample)
    audit.record(
        user.get_username(), f"review.{judgement.action}", f"sample:{sample.pk}",
        review=str(review.pk), content=sample.content_hash, supersedes=review.supersedes_id,
    )  # fmt: skip
    publish("queue", str(sample.round_id))
    return review


def _is_superseded(review: Review) -> bool:
    return hasattr(review, "superseded_by")


def check_judgement(sample: Sample, judgement: Judgement) -> dict[str, list[str]]:
    """The marks as stored: a mark that names no principle means the one in question. Raises InvalidReview."""
    answers = len(sample.responses)
    indices = [str(index) for index in range(answers)]
    marks = {index: sorted(set(keys)) for index, keys in judgement.violations.items()}
    if judgement.action == Action.VIOLATES and answers == 1:
        marks = marks or {"0": []}  # one answer: saying so is the mark
    _check_shape(judgement, marks, indices)
    if judgement.action == Action.SKIP:
        return {}
    if judgement.action == Action.BOTH_BAD:
        marks = {index: marks.get(index, []) for index in indices}
    if not marks:
        return {}
    known = set(
        Principle.objects.filter(constitution=sample.round.experiment.constitution_id).values_list("key", flat=True)
    )
    unknown = sorted({key for keys in marks.values() for key in keys} - known)
    if unknown:
        raise InvalidReview(f"The constitution has no principle {', '.join(unknown)}; reload the page.")
    in_question = [sample.query.principle] if sample.query.principle in known else []
    return {index: keys or in_question for index, keys in marks.items()}


def _check_shape(judgement: Judgement, marks: dict[str, list[str]], indices: list[str]) -> None:
    if judgement.action not in (*labels.JUDGEMENTS, Action.SKIP):
        raise InvalidReview(f"{judgement.action!r} is not an action; use one of the buttons.")
    if not set(marks) <= set(indices):
        raise InvalidReview(f"Answer {', '.join(sorted(set(marks) - set(indices)))} is not part of this sample.")
    if judgement.action in (Action.PREFER_A, Action.PREFER_B, Action.TIE) and len(indices) < 2:
        raise InvalidReview("There is one answer only, so there is none to prefer.")
    if judgement.action == Action.APPROVE and marks:
        raise InvalidReview("You marked an answer as violating, so not all are fine. Take the mark off, or use V.")
    if judgement.action == Action.VIOLATES and not marks:
        raise InvalidReview("Mark the answers that violate first (keys 1 and 2).")
    if judgement.action == Action.REWRITE and not judgement.rewrite.strip():
        raise InvalidReview("The rewrite is empty; write the better answer, or choose another action.")
    if judgement.rewrite_of is not None and str(judgement.rewrite_of) not in indices:
        raise InvalidReview(f"Answer {judgement.rewrite_of} is not part of this sample.")


def _decide(sample: Sample) -> None:
    """Sets the label and the status from the reviews there are. The caller holds the sample's lock."""
    if labels.recompute_label(sample) is not None:
        status = Status.DECIDED
    elif _everybody_skipped(sample):
        status = Status.SKIPPED
    else:
        status = Status.QUEUED
    if status != sample.status:
        sample.status = status
        sample.save(update_fields=["status"])
    if status != Status.QUEUED and not sample.round.samples.filter(status=Status.QUEUED).exists():
        rounds.close_if_spent(sample.round)


def _everybody_skipped(sample: Sample) -> bool:
    """True where no active person is left who has not skipped it."""
    skipped = Review.objects.filter(sample=sample, action=Action.SKIP, superseded_by=None).values("reviewer")
    return not User.objects.filter(is_active=True, role__in=Role.values).exclude(pk__in=skipped).exists()
