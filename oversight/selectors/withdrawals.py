"""Withdrawals: what was taken out, what became of the labels, and the checkpoints that had learnt from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from oversight.models import Checkpoint, LabelChange, Review, Round, Sample, TrainedOn, Withdrawal
from oversight.selectors.verdicts import LETTERS

PAGE_SIZE = 40
STALLED = timedelta(seconds=30)  # without a batch: the worker is lost or busy for long
State = Withdrawal.State
DESCRIBED = ("violates", "preferred", "rewrite", "how")  # what `describe_label` reads


@dataclass(frozen=True)
class Trained:
    """A checkpoint whose round was given labels that are different now."""

    checkpoint: Checkpoint
    labels: int  # how many of them


@dataclass(frozen=True)
class Totals:
    samples: int
    lost: int  # labels that vanished
    altered: int  # labels that say something else, or that came to be
    requeued: int  # samples that wait for people again
    gold: int  # samples that no longer test people


@dataclass(frozen=True)
class ChangeRow:
    """One sample of a withdrawal, its label in words."""

    change: LabelChange
    before: str
    after: str
    now: str  # once the withdrawal is undone


@dataclass(frozen=True)
class WithdrawalPage:
    withdrawal: Withdrawal
    totals: Totals
    trained: list[Trained]
    rows: list[ChangeRow]
    page: Page[LabelChange]
    said: Review | None  # the one judgement, where it is about one
    stalled: bool


def list_withdrawals(after: str = "", *, size: int = PAGE_SIZE) -> tuple[list[Withdrawal], str]:
    """The newest first, and the cursor of the next page ("" on the last)."""
    found = Withdrawal.objects.select_related("by", "reviewer", "experiment", "restored_by")
    try:
        last = Withdrawal.objects.filter(pk=UUID(after)).first() if after else None
    except ValueError:
        last = None
    if last is not None:
        found = found.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, id__lt=last.pk))
    rows = list(found.order_by("-created_at", "-id")[: size + 1])
    return rows[:size], str(rows[size - 1].pk) if len(rows) > size else ""


def read_withdrawal(withdrawal: Withdrawal, *, number: str = "") -> WithdrawalPage:
    """`withdrawal` comes with its people. `number` is the page of its samples, those with a changed label first."""
    changes = LabelChange.objects.filter(withdrawal=withdrawal)
    listed = changes.select_related("sample__query", "sample__round", "sample__label").order_by("-changed", "id")
    page = Paginator(listed, PAGE_SIZE).get_page(number)
    waits = Sample.Status.QUEUED
    totals = changes.aggregate(
        samples=Count("pk"),
        lost=Count("pk", filter=Q(before__isnull=False, after__isnull=True)),
        altered=Count("pk", filter=Q(changed=True, after__isnull=False)),
        requeued=Count("pk", filter=Q(status_after=waits) & ~Q(status_before=waits)),
        gold=Count("pk", filter=Q(gold_lost=True)),
    )
    single = withdrawal.total == 1
    return WithdrawalPage(
        withdrawal=withdrawal,
        totals=Totals(**totals),
        trained=list_trained(withdrawal),
        rows=[_read_row(change) for change in page.object_list],
        page=page,
        said=Review.objects.select_related("sample").filter(pk=withdrawal.reviews[0]).first() if single else None,
        stalled=withdrawal.under_way and timezone.now() - withdrawal.moved_at > STALLED,
    )


def _read_row(change: LabelChange) -> ChangeRow:
    label = getattr(change.sample, "label", None)
    now = (
        None if label is None else {name: getattr(label, name) for name in ("violates", "preferred", "rewrite", "how")}
    )
    return ChangeRow(change, describe_label(change.before), describe_label(change.after), describe_label(now))


def describe_label(label: dict[str, Any] | None) -> str:
    """E.g. "A violates, B fine, A preferred, rewritten (agreed)"; "no label" for None."""
    if label is None:
        return "no label"
    words = [f"{LETTERS[int(i)]} {_describe_share(share)}" for i, share in sorted(label["violates"].items())]
    if label["preferred"] is not None:
        words.append(f"{LETTERS[label['preferred']]} preferred")
    if label["rewrite"]:
        words.append("rewritten")
    return f"{', '.join(words) or 'no difference'} ({label['how']})"


def _describe_share(share: float) -> str:
    return "fine" if share == 0 else "violates" if share == 1 else f"violates for {share:.0%}"


# --- What was trained on it -------------------------------------------------------------------------


def list_trained(withdrawal: Withdrawal) -> list[Trained]:
    """Checkpoints of rounds that were given a label before this withdrawal changed it; two queries."""
    given = TrainedOn.objects.filter(_given_before(), sample__label_changes__withdrawal=withdrawal)
    return _read_trained(given)


def foretell_trained(samples: Collection[UUID]) -> list[Trained]:
    """Checkpoints that were given the labels of these samples; two queries."""
    return _read_trained(TrainedOn.objects.filter(sample__in=list(samples)))


def count_withdrawn(round: Round) -> int:
    """How many labels the round was given that a withdrawal, not undone, has changed since; one query."""
    standing = Q(sample__label_changes__withdrawal__state__in=(State.RUNNING, State.DONE, State.RESTORING))
    given = TrainedOn.objects.filter(_given_before() & standing, round=round)
    return given.values("sample").distinct().count()


def _given_before() -> Q:
    """The round learnt before the label changed; a later one was given what the label says since."""
    return Q(
        sample__label_changes__changed=True,
        sample__label_changes__before__isnull=False,
        sample__label_changes__at__gt=F("round__learning_at"),
    )


def _read_trained(given: QuerySet[TrainedOn]) -> list[Trained]:
    counts = dict(given.order_by().values_list("round").annotate(found=Count("sample", distinct=True)))
    checkpoints = Checkpoint.objects.filter(round__in=counts).select_related("round").order_by("round__number", "role")
    return [Trained(checkpoint, counts[checkpoint.round_id]) for checkpoint in checkpoints]
