"""What leads do with many samples at once: assign, release, put back, exclude, and make them gold.

Each function locks the samples in the order of their ids, changes those it applies to, says of the others why
it does not, and leaves one audit event. Locks: round, sample, lease, audit chain.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from oversight.events import publish
from oversight.models import Checkpoint, Label, Lease, Review, Round, Sample, TrainedOn, User
from oversight.services import audit, labels, leases, queue, reviews, rounds

Status = Sample.Status
Rank = Sample.Rank
MOST = 500  # samples of one call: they stay locked until it ends


class BulkRefused(ValueError):
    """Nothing can be done of what was asked: a sentence made for people."""


@dataclass
class Outcome:
    """What became of the chosen samples."""

    done: list[UUID] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # why -> how many
    trained: list[Checkpoint] = field(default_factory=list)  # learners that had a label which is gone now

    def skip(self, why: str) -> None:
        self.skipped[why] += 1


@transaction.atomic
def assign_samples(*, user: User, samples: Collection[UUID], person: User | None) -> Outcome:
    """Gives waiting samples to `person`, before all else that waits for them; None takes the assignment back."""
    if person is not None and not person.is_active:
        raise BulkRefused(f"The account {person.get_username()} is closed, so nothing can be assigned to it.")
    outcome, chosen = Outcome(), _lock(samples)
    answered = set()
    if person is not None:
        mine = queue.list_answers().filter(reviewer=person, sample__in=chosen)
        answered = set(mine.values_list("sample_id", flat=True))
    begun = _list_begun(chosen)
    for sample in chosen.values():
        if sample.status != Status.QUEUED:
            outcome.skip(f"{_name(sample)}, so nobody is asked")
        elif sample.pk in answered:
            outcome.skip("answered by them already")
        elif person is not None and _keeps_away(person, sample):
            outcome.skip(f"of a category that {person.get_username()} is not asked about")
        elif person is None and sample.assigned_to_id is None:
            outcome.skip("not assigned to anybody")
        else:
            sample.assigned_to = person
            unassigned = Rank.BEGUN if sample.pk in begun else Rank.PRIORITY
            sample.rank = Rank.ASSIGNED if person is not None else unassigned
            outcome.done.append(sample.pk)
    _save(chosen, outcome, "assigned_to", "rank")
    held = Lease.objects.filter(sample__in=outcome.done).exclude(holder=person)
    leases.end_leases(list(held.values_list("sample_id", flat=True)))
    name = person.get_username() if person is not None else ""
    return _finish(user, "samples.assign", chosen, outcome, person=name)


@transaction.atomic
def release_samples(*, user: User, samples: Collection[UUID]) -> Outcome:
    """Takes samples from whoever holds them now; what they still send of these comes in all the same."""
    outcome, chosen = Outcome(), _lock(samples)
    held = Lease.objects.filter(sample__in=chosen, holder__isnull=False, expires_at__gt=timezone.now())
    outcome.done = sorted(held.values_list("sample_id", flat=True))
    leases.end_leases(outcome.done)
    if len(chosen) > len(outcome.done):
        outcome.skipped["held by nobody"] = len(chosen) - len(outcome.done)
    return _finish(user, "samples.release", chosen, outcome)


@transaction.atomic
def requeue_samples(*, user: User, samples: Collection[UUID]) -> Outcome:
    """Puts samples back where they came from.

    What was excluded gets the label and the state that its judgements make. What was skipped by all, or closed,
    waits again. What is decided asks one more person, and loses its label until then.
    """
    # A close that runs meanwhile would miss a sample that starts to wait: so the rounds first, as it does.
    rounds_of = Sample.objects.filter(pk__in=_check(samples)).order_by().values("round")
    list(Round.objects.select_for_update().filter(pk__in=rounds_of).order_by("pk"))
    outcome, chosen = Outcome(), _lock(samples)
    for sample in chosen.values():
        serving = sample.round.status in queue.SERVING
        if sample.status == Status.EXCLUDED:
            _restore(sample, serving=serving)
        elif sample.status not in (Status.CLOSED, Status.SKIPPED, Status.DECIDED):
            outcome.skip(f"{_name(sample)} already" if sample.status == Status.QUEUED else _name(sample))
            continue
        elif not serving:
            outcome.skip(f"of round {sample.round.number}, whose review has ended")
            continue
        elif sample.status == Status.DECIDED:
            if not _ask_one_more(sample):
                outcome.skip("decided by a lead; take that decision back first")
                continue
        else:
            _serve_again(sample, by=user)
        outcome.done.append(sample.pk)
    _tell_rounds(chosen, outcome)
    return _finish(user, "samples.requeue", chosen, outcome)


@transaction.atomic
def exclude_samples(*, user: User, samples: Collection[UUID], reason: str) -> Outcome:
    """Takes samples out for good: nobody is asked, no label is left. Says which models had trained on them."""
    reason = reason.replace("\x00", "").strip()[:200]
    if not reason:
        raise BulkRefused("Say in a few words why, so that others can follow it.")
    outcome, chosen = Outcome(), _lock(samples)
    for sample in chosen.values():
        if sample.status == Status.EXCLUDED:
            outcome.skip("excluded already")
            continue
        sample.status, sample.excluded_reason, sample.gold = Status.EXCLUDED, reason, False
        outcome.done.append(sample.pk)
    _save(chosen, outcome, "status", "excluded_reason", "gold")
    Label.objects.filter(sample__in=outcome.done).delete()
    leases.end_leases(outcome.done)
    used = TrainedOn.objects.filter(sample__in=outcome.done).values("round")
    learners = Checkpoint.objects.filter(role=Checkpoint.Role.LEARNER, round__in=used)
    outcome.trained = list(learners.select_related("round").order_by("round__number"))
    _tell_rounds(chosen, outcome)
    return _finish(
        user, "samples.exclude", chosen, outcome,
        reason=reason, trained=[str(checkpoint.pk) for checkpoint in outcome.trained],
    )  # fmt: skip


@transaction.atomic
def mark_gold(*, user: User, samples: Collection[UUID], gold: bool) -> Outcome:
    """Decided samples whose label tests the people who are shown them again; or ends that."""
    outcome, chosen = Outcome(), _lock(samples)
    labelled = set(Label.objects.filter(sample__in=chosen).values_list("sample_id", flat=True))
    for sample in chosen.values():
        if sample.gold == gold:
            outcome.skip("gold already" if gold else "not gold")
        elif gold and (sample.status != Status.DECIDED or sample.pk not in labelled):
            outcome.skip("without an approved label")
        else:
            sample.gold = gold
            outcome.done.append(sample.pk)
    _save(chosen, outcome, "gold")
    if not gold:
        leases.end_leases(
            list(Lease.objects.filter(sample__in=outcome.done, why="gold").values_list("sample", flat=True))
        )
    return _finish(user, "samples.gold" if gold else "samples.not_gold", chosen, outcome)


# --- Parts ------------------------------------------------------------------------------------------


def _check(samples: Collection[UUID]) -> list[UUID]:
    if not samples:
        raise BulkRefused("No sample is chosen; tick some first.")
    if len(set(samples)) > MOST:
        raise BulkRefused(f"{len(set(samples))} samples are too many at once; choose up to {MOST}.")
    return sorted(set(samples))


def _lock(samples: Collection[UUID]) -> dict[UUID, Sample]:
    """The samples that there are, locked in the order of their ids; their rounds are read after that."""
    locked = Sample.objects.select_for_update(of=("self",)).filter(pk__in=_check(samples)).order_by("pk")
    chosen = {sample.pk: sample for sample in locked}
    rounds_by_id = Round.objects.select_related("experiment").in_bulk({s.round_id for s in chosen.values()})
    for sample in chosen.values():
        sample.round = rounds_by_id[sample.round_id]
    return chosen


def _list_begun(chosen: dict[UUID, Sample]) -> set[UUID]:
    standing = Review.objects.filter(sample__in=chosen, superseded_by=None, held_lease=True, purpose="review")
    return set(standing.filter(action__in=labels.JUDGEMENTS).values_list("sample_id", flat=True))


def _keeps_away(person: User, sample: Sample) -> bool:
    return sample.category in person.opted_out or bool(person.categories and sample.category not in person.categories)


def _name(sample: Sample) -> str:
    return sample.get_status_display().lower()


def _save(chosen: dict[UUID, Sample], outcome: Outcome, *names: str) -> None:
    Sample.objects.bulk_update([chosen[pk] for pk in outcome.done], names, batch_size=200)


def _restore(sample: Sample, *, serving: bool) -> None:
    sample.excluded_reason = ""
    if not sample.flag_reason and not sample.reviews.exists():
        sample.status = Status.UNFLAGGED
        sample.save(update_fields=["status", "excluded_reason"])
        return
    said = reviews.list_reviews(sample)
    if serving:
        sample.status = Status.QUEUED
        sample.save(update_fields=["status", "excluded_reason"])
        reviews.settle(sample, said)
        return
    outcome = labels.weigh(sample, said, closing=True)
    labels.write_label(sample, outcome)
    sample.status = Status.DECIDED if outcome.label else Status.DISPUTED if outcome.disputed else Status.CLOSED
    sample.save(update_fields=["status", "excluded_reason"])


def _ask_one_more(sample: Sample) -> bool:
    """False where a lead's decision makes the label: it would make it again at once."""
    outcome = labels.weigh(sample, reviews.list_reviews(sample))
    if outcome.label is not None and outcome.label["how"] == Label.How.ADJUDICATED:
        return False
    Label.objects.filter(sample=sample).delete()
    sample.wanted = max(outcome.counted, 1) + 1
    sample.status, sample.rank, sample.gold = Status.QUEUED, Rank.OPINION, False
    sample.save(update_fields=["wanted", "status", "rank", "gold"])
    return True


def _serve_again(sample: Sample, *, by: User) -> None:
    """A skip stands for "not me": who skipped is asked again only where everybody did."""
    if sample.status == Status.SKIPPED:
        skips = sample.reviews.filter(Q(action=Review.Action.SKIP), superseded_by=None)
        note = f"Put back into the queue by {by.get_username()}."
        for skip in skips:
            Review.objects.create(
                sample=sample, reviewer_id=skip.reviewer_id, action=Review.Action.UNDO, key=uuid.uuid4(),
                supersedes=skip, note=note,
            )  # fmt: skip
    sample.status = Status.QUEUED
    sample.save(update_fields=["status"])
    reviews.settle(sample, reviews.list_reviews(sample))


def _tell_rounds(chosen: dict[UUID, Sample], outcome: Outcome) -> None:
    """A round whose last waiting sample was taken out goes on to learn."""
    for round_ in {chosen[pk].round for pk in outcome.done}:
        rounds.close_if_spent(round_)


def _finish(user: User, action: str, chosen: dict[UUID, Sample], outcome: Outcome, **detail: object) -> Outcome:
    if outcome.done:
        audit.record(
            user.get_username(), action, f"samples:{len(outcome.done)}",
            samples=[str(pk) for pk in outcome.done], skipped=dict(outcome.skipped), **detail,
        )  # fmt: skip
        publish("queue")
    return outcome
