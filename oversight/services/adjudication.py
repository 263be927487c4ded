"""What a lead does about judgements that contradict each other: decide, take that back, or ask one more person.

A decision is a review of its own with the purpose "adjudication" and alone makes the label. A later one
supersedes it, whoever makes it. Each names the reviews that its page showed: one that was made without
knowing the newest of them is refused.

What makes a sample wait again locks its round first, as a close of the review does: else that might miss it.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction

from oversight.events import publish
from oversight.models import Postponement, Review, Role, Round, Sample, SecondLook, User
from oversight.selectors.verdicts import describe_review
from oversight.services import audit, labels, queue, reviews
from oversight.services.judgements import InvalidReview, Judgement, Span, check_judgement
from oversight.services.reviews import NotYours

Action = Review.Action
Purpose = Review.Purpose
Status = Sample.Status


class AdjudicationRefused(Exception):
    """It can't be done now: a sentence made for people."""


class Outdated(AdjudicationRefused):
    """Others said something of the sample since the page was made."""


def decide(
    *,
    user: User,
    sample_id: UUID,
    key: UUID,
    seen: Collection[UUID],
    judgement: Judgement,
    approved: UUID | None = None,
) -> Review:
    """Stores a lead's decision and the label that it makes. The same `key` again returns the stored decision.

    `seen` are the ids of the reviews that the page showed; `approved` is the judgement taken over, for the audit.
    """
    with reviews.own_key(key):
        return _decide(
            user=user, sample_id=sample_id, key=key, seen=seen, judgement=judgement, approved=approved
        )  # fmt: skip


@transaction.atomic
def _decide(
    *, user: User, sample_id: UUID, key: UUID, seen: Collection[UUID], judgement: Judgement, approved: UUID | None
) -> Review:
    sample = reviews.lock_sample(sample_id)
    known = reviews.list_reviews(sample)
    repeated = reviews.find_repeated(known, key, user=user)
    if repeated is not None:
        return repeated
    _check_open(sample, known, seen)
    if judgement.action == Action.SKIP:
        raise InvalidReview("A decision can't be a skip; leave the sample for later instead.")
    violations, spans = check_judgement(sample, judgement)
    rewriting = judgement.action == Action.REWRITE
    decision = Review(
        sample=sample,
        reviewer=user,
        action=judgement.action,
        purpose=Purpose.ADJUDICATION,
        violations=violations,
        spans=spans,
        rewrite=judgement.rewrite.strip() if rewriting else "",
        rewrite_of=judgement.rewrite_of if rewriting else None,
        note=judgement.note.strip(),
        saw_critic=True,  # the page shows the verdicts
        seconds=reviews.limit_seconds(judgement.seconds),
        key=key,
        supersedes=find_decision(known),
    )
    decision.save(force_insert=True)
    SecondLook.objects.filter(sample=sample).update(state=SecondLook.State.CLOSED)
    reviews.settle(sample, [*known, decision])
    audit.record(
        user.get_username(), "review.adjudicate", f"sample:{sample.pk}",
        review=str(decision.pk), approved=approved, content=sample.content_hash, supersedes=decision.supersedes_id,
    )  # fmt: skip
    publish("queue", str(sample.round_id))
    return decision


def approve_judgement(
    *, user: User, sample_id: UUID, key: UUID, seen: Collection[UUID], review_id: UUID, note: str = ""
) -> Review:
    """Decides as one of the judgements says, its passages and rewrite included; `note` is the lead's own."""
    said = Review.objects.filter(pk=review_id, sample=sample_id, action__in=labels.JUDGEMENTS).first()
    if said is None:
        raise NotYours(f"Sample {sample_id} has no judgement {review_id}.")
    if Review.objects.filter(supersedes=said).exclude(key=key).exists():
        raise Outdated("That judgement has been revised or taken back meanwhile; what stands now is below.")
    judgement = Judgement(
        action=said.action,
        violations=said.violations,
        spans=[Span(**span) for span in said.spans],
        rewrite=said.rewrite,
        rewrite_of=said.rewrite_of,
        note=note,
    )
    return decide(user=user, sample_id=sample_id, key=key, seen=seen, judgement=judgement, approved=said.pk)


@transaction.atomic
def undo_decision(*, user: User, review_id: UUID, key: UUID) -> Review:
    """Takes an own decision back; the sample is what its judgements make of it again."""
    decision = Review.objects.filter(pk=review_id, reviewer=user, purpose=Purpose.ADJUDICATION).first()
    if decision is None or decision.action not in labels.JUDGEMENTS:
        raise NotYours(f"{user.get_username()} has made no decision {review_id}.")
    _lock_round(decision.sample_id)
    sample = reviews.lock_sample(decision.sample_id)
    known = reviews.list_reviews(sample)
    repeated = reviews.find_repeated(known, key, user=user)
    if repeated is not None:
        return repeated
    later = next((review for review in known if review.supersedes_id == decision.pk), None)
    if later is not None:
        what = (
            "has already been taken back" if later.action in labels.TAKEN_BACK else "has been replaced by a later one"
        )
        raise AdjudicationRefused(f"This decision {what}.")
    undone = Review.objects.create(
        sample=sample,
        reviewer=user,
        action=Action.UNDO,
        purpose=Purpose.ADJUDICATION,
        key=key,
        supersedes=decision,
    )
    reviews.settle(sample, [*known, undone])
    audit.record(user.get_username(), "review.undo", f"sample:{sample.pk}", review=str(decision.pk))
    publish("queue", str(sample.round_id))
    return undone


@transaction.atomic
def ask_another(*, user: User, sample_id: UUID, seen: Collection[UUID]) -> Sample:
    """Gives a disputed sample back to the queue for one more person, ahead of what nobody began.

    For `user`, who has seen the judgements and the verdicts, it comes after everything else.
    """
    _lock_round(sample_id)
    sample = reviews.lock_sample(sample_id)
    known = reviews.list_reviews(sample)
    _check_open(sample, known, seen)
    if sample.status != Status.DISPUTED:
        raise AdjudicationRefused(f"This sample is {sample.get_status_display().lower()} by now, not disputed.")
    if sample.round.status not in queue.SERVING:
        raise AdjudicationRefused(
            f"The review of round {sample.round.number} has closed, so nobody can be asked; decide it yourself."
        )
    if not list_unasked(sample, user=user):
        raise AdjudicationRefused("Everybody who reviews this category has answered it; decide it yourself.")
    sample.wanted = labels.weigh(sample, known).counted + 1
    sample.rank = Sample.Rank.OPINION
    sample.status = Status.QUEUED
    sample.assigned_to = None
    sample.save(update_fields=["wanted", "rank", "status", "assigned_to"])
    Postponement.objects.bulk_create([Postponement(user=user, sample=sample)], ignore_conflicts=True)
    audit.record(user.get_username(), "sample.opinion", f"sample:{sample.pk}", wanted=sample.wanted)
    publish("queue", str(sample.round_id))
    return sample


def list_unasked(sample: Sample, *, user: User) -> list[User]:
    """People other than `user` whom the queue would still serve this sample."""
    answered = queue.list_answers().filter(sample=sample).values("reviewer")
    people = User.objects.filter(is_active=True, role__in=Role.values).exclude(pk__in=answered).exclude(pk=user.pk)
    return [
        person
        for person in people
        if sample.category not in person.opted_out and (not person.categories or sample.category in person.categories)
    ]


def find_decision(known: list[Review]) -> Review | None:
    """The lead's decision that stands, if there is one."""
    decisions = [review for review in labels.list_standing(known) if review.purpose == Purpose.ADJUDICATION]
    return decisions[-1] if decisions else None


def _lock_round(sample_id: UUID) -> None:
    rounds = Round.objects.select_for_update(no_key=True).filter(samples=sample_id)
    list(rounds.values_list("pk"))


def _check_open(sample: Sample, known: list[Review], seen: Collection[UUID]) -> None:
    """Raises where nothing can be decided, or where something is new to the page. The caller holds the lock."""
    new = [r for r in known if r.pk not in seen and r.action != Action.SKIP and r.purpose != Purpose.GOLD]
    if new:
        raise Outdated(f"{_describe_new(new[-1])} Your decision was not taken; look again.")
    if sample.status == Status.EXCLUDED:
        raise AdjudicationRefused(f"This sample is excluded: {sample.excluded_reason or 'no reason given'}.")
    if not any(review.purpose != Purpose.GOLD for review in labels.list_standing(known)):
        raise AdjudicationRefused("No judgement of this sample stands, so there is nothing to decide.")


def _describe_new(review: Review) -> str:
    name = review.reviewer.get_username()
    if review.action in labels.TAKEN_BACK:
        return f"{name} took a judgement out meanwhile."
    verb = "decided" if review.purpose == Purpose.ADJUDICATION else "judged"
    return f"{name} {verb} it meanwhile: {describe_review(review)}."
