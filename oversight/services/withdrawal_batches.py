"""The batches of a withdrawal: each settles the samples of some judgements anew, in a transaction of its own.

A batch also moves `Withdrawal.done`, so whoever goes on after a crash starts where it stood. The keys of the rows
follow from the withdrawal and the judgement: none is ever made twice.

Locks are taken in the order withdrawal, rounds, samples, audit chain: a close of the review, which locks its round
first, then misses no sample that starts to wait again.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from oversight.events import publish
from oversight.models import Label, LabelChange, Review, Round, Sample, User, Withdrawal
from oversight.services import audit, labels, reviews, rounds

Action = Review.Action
Purpose = Review.Purpose
State = Withdrawal.State
BATCH = 10  # judgements; on SQLite everybody else's writes wait for a batch
TAUGHT = ("violates", "principles", "preferred", "rewrite", "rewrite_of")  # what training reads of a label
LABEL = (*TAUGHT, "how", "evidence")
# A restored row is the same judgement again.
COPIED = (
    "sample_id", "reviewer_id", "action", "purpose", "skip_reason", "violations", "spans", "rewrite", "rewrite_of",
    "note", "saw_critic", "held_lease", "seconds",
)  # fmt: skip


@transaction.atomic
def run_batch(withdrawal_id: UUID) -> bool:
    """Handles the next BATCH judgements; False where none is left."""
    withdrawal = Withdrawal.objects.select_for_update().get(pk=withdrawal_id)
    if not withdrawal.under_way:
        return False
    back = withdrawal.state == State.RESTORING
    ids = [UUID(text) for text in withdrawal.reviews[withdrawal.done : withdrawal.done + BATCH]]
    _handle(withdrawal, Review.objects.in_bulk(ids), back=back)
    withdrawal.done += len(ids)
    withdrawal.moved_at = timezone.now()
    more = withdrawal.done < withdrawal.total
    if not more:
        withdrawal.state = State.RESTORED if back else State.DONE
    withdrawal.save(update_fields=["done", "kept_out", "moved_at", "state"])  # not the long list of reviews
    note(
        withdrawal, withdrawal.restored_by or withdrawal.by, "review.restore" if back else "review.withdraw",
        reviews=[str(pk) for pk in ids],
    )  # fmt: skip
    return more


def _handle(withdrawal: Withdrawal, chosen: dict[UUID, Review], *, back: bool) -> None:
    """The caller holds the lock of the withdrawal."""
    samples = _lock_samples({review.sample_id for review in chosen.values()})
    ids = [sample.pk for sample in samples]
    before = {label.sample_id: read_label(label) for label in Label.objects.filter(sample__in=ids)}
    known: dict[UUID, list[Review]] = defaultdict(list)
    for review in Review.objects.filter(sample__in=ids).order_by("created_at", "id"):
        known[review.sample_id].append(review)
    statuses, made = {}, []
    for sample in samples:
        mine = [review for review in known[sample.pk] if review.pk in chosen]
        rows = _put_back(withdrawal, mine, known[sample.pk]) if back else _take_out(withdrawal, mine, known[sample.pk])
        statuses[sample.pk] = sample.status
        if rows:
            said = sorted([*known[sample.pk], *rows], key=lambda row: (row.created_at, str(row.pk)))
            reviews.settle(sample, said, may_close=False)
        made += rows
    _save(made)
    after = {label.sample_id: read_label(label) for label in Label.objects.filter(sample__in=ids)}
    if back:
        _return_gold(withdrawal, samples, after)
    else:
        _keep_changes(withdrawal, samples, statuses, before, after)
    for round_ in {sample.round_id: sample.round for sample in samples}.values():
        if round_.status == Round.Status.REVIEWING:
            rounds.close_if_spent(round_)
    publish("queue")


def _lock_samples(ids: set[UUID]) -> list[Sample]:
    """Rounds and samples, each in the order of their ids. The rounds are read after a close that we waited for."""
    rounds_of = Sample.objects.filter(pk__in=ids).order_by().values("round")
    locked = Round.objects.select_for_update(no_key=True, of=("self",)).filter(pk__in=rounds_of).order_by("pk")
    known = {round_.pk: round_ for round_ in locked.select_related("experiment")}
    samples = list(Sample.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("pk"))
    for sample in samples:
        sample.round = known[sample.round_id]
    return samples


def _take_out(withdrawal: Withdrawal, mine: list[Review], known: list[Review]) -> list[Review]:
    """A row for each that still stands; what its person revised or took back meanwhile stays as it is."""
    standing = {review.pk for review in labels.list_standing(known)}
    return [
        Review(
            sample_id=review.sample_id,
            reviewer=withdrawal.by,
            action=Action.WITHDRAW,
            purpose=review.purpose,
            note=withdrawal.reason,
            saw_critic=True,
            key=_make_key(withdrawal, review, "withdraw"),
            supersedes=review,
            created_at=timezone.now(),
        )
        for review in mine
        if review.pk in standing
    ]


def _put_back(withdrawal: Withdrawal, mine: list[Review], known: list[Review]) -> list[Review]:
    """The same judgements again, at the time when they were made, so that their order is what it was.

    Not where the person has judged the sample anew since, or where a later decision stands: that counts.
    """
    taken = {review.key: review for review in known}
    superseded = {review.supersedes_id for review in known}
    standing = labels.list_standing(known)
    rows: list[Review] = []
    for review in mine:
        out = taken.get(_make_key(withdrawal, review, "withdraw"))
        if out is None or out.pk in superseded:
            continue
        decision = review.purpose == Purpose.ADJUDICATION
        if any(r.purpose == review.purpose and (decision or r.reviewer_id == review.reviewer_id) for r in standing):
            withdrawal.kept_out += 1
            continue
        copied = {name: getattr(review, name) for name in COPIED}
        key = _make_key(withdrawal, review, "restore")
        row = Review(**copied, key=key, supersedes=out, created_at=review.created_at)
        rows.append(row)
        standing.append(row)
    return rows


def _save(rows: list[Review]) -> None:
    """Each with its own time: an insert writes that of now."""
    times = {row.pk: row.created_at for row in rows}
    Review.objects.bulk_create(rows)
    for row in rows:
        row.created_at = times[row.pk]
    Review.objects.bulk_update(rows, ["created_at"])


def _make_key(withdrawal: Withdrawal, review: Review, what: str) -> UUID:
    return uuid.uuid5(withdrawal.pk, f"{what} {review.pk}")


# --- What it changed --------------------------------------------------------------------------------


def read_label(label: Label) -> dict[str, Any]:
    return {name: getattr(label, name) for name in LABEL}


def differs(before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    """True where training would read something else: other values, or a label where there was none."""
    if before is None or after is None:
        return before is not after
    return any(before[name] != after[name] for name in TAUGHT)


def _keep_changes(
    withdrawal: Withdrawal,
    samples: list[Sample],
    statuses: dict[UUID, str],
    before: dict[UUID, dict[str, Any]],
    after: dict[UUID, dict[str, Any]],
) -> None:
    """A sample whose judgements lie in two batches keeps what it was before the first. Gold needs a label."""
    first = {
        change.sample_id: change for change in LabelChange.objects.filter(withdrawal=withdrawal, sample__in=samples)
    }
    rows = []
    for sample in samples:
        gold_lost = sample.gold and sample.pk not in after
        if gold_lost:
            sample.gold = False
            sample.save(update_fields=["gold"])
        earlier = first.get(sample.pk)
        was = earlier.before if earlier else before.get(sample.pk)
        row = LabelChange(
            withdrawal=withdrawal,
            sample=sample,
            at=timezone.now(),
            before=was,
            after=after.get(sample.pk),
            status_before=earlier.status_before if earlier else statuses[sample.pk],
            status_after=sample.status,
            changed=differs(was, after.get(sample.pk)),
            gold_lost=gold_lost or bool(earlier and earlier.gold_lost),
        )
        rows.append(row)
    LabelChange.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["withdrawal", "sample"],
        update_fields=["at", "after", "status_after", "changed", "gold_lost"],
    )


def _return_gold(withdrawal: Withdrawal, samples: list[Sample], after: dict[UUID, dict[str, Any]]) -> None:
    lost = LabelChange.objects.filter(withdrawal=withdrawal, gold_lost=True, sample__in=list(after))
    Sample.objects.filter(pk__in=[change.sample_id for change in lost]).update(gold=True)


def note(withdrawal: Withdrawal, user: User, action: str, **detail: Any) -> None:
    audit.record(
        user.get_username(), action, f"withdrawal:{withdrawal.pk}",
        reviewer=withdrawal.reviewer.get_username(), **detail,
    )  # fmt: skip
