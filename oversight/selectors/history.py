"""A person's own judgements, newest first."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q
from django.utils.dateparse import parse_datetime

from oversight.models import Review, Round, Sample, User
from oversight.selectors.round_counts import SERVING
from oversight.selectors.verdicts import describe_review

PAGE_SIZE = 30
ROUNDS = 50  # to filter by, the newest
Action = Review.Action
FATES = {Action.UNDO.value: "taken back", Action.WITHDRAW.value: "withdrawn by a lead"}


@dataclass(frozen=True)
class OwnReview:
    review: Review
    said: str
    fate: str  # what became of it: "", "revised", "taken back" or "withdrawn by a lead"
    revisable: bool


@dataclass(frozen=True)
class HistoryPage:
    rows: list[OwnReview]
    next: str  # cursor of the next page, "" on the last


def list_own_reviews(user: User, *, round_: Round | None = None, after: str = "", size: int = PAGE_SIZE) -> HistoryPage:
    """One page of what `user` judged and skipped. Keyset pages on an index; two queries."""
    reviews = Review.objects.filter(reviewer=user).exclude(action__in=(Action.UNDO, Action.WITHDRAW))
    if round_ is not None:
        # Nothing of a round is older than the round, so the walk through the index ends there.
        reviews = reviews.filter(sample__round=round_, created_at__gte=round_.created_at)
    cursor = _read_cursor(after)
    if cursor is not None:
        created, identifier = cursor
        reviews = reviews.filter(created_at__lte=created).filter(Q(created_at__lt=created) | Q(id__lt=identifier))
    ordered = reviews.select_related("sample__query", "sample__round").order_by("-created_at", "-id")
    rows = list(ordered[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    later = Review.objects.filter(supersedes__in=[row.pk for row in rows])
    fates = dict(later.values_list("supersedes_id", "action"))
    page = [
        OwnReview(
            review=row,
            said=describe_review(row),
            fate=FATES.get(fates[row.pk], "revised") if row.pk in fates else "",
            revisable=row.pk not in fates and is_revisable(row),
        )
        for row in rows
    ]
    return HistoryPage(page, _write_cursor(rows[-1]) if more else "")


def is_revisable(review: Review) -> bool:
    """Whether a judgement that stands may still be revised; `review` comes with its sample and round."""
    return (
        review.action != Action.SKIP
        and review.purpose == Review.Purpose.REVIEW
        and review.sample.round.status in SERVING
        and review.sample.status != Sample.Status.EXCLUDED
    )


def find_own_review(user: User, sample_id: UUID) -> Review | None:
    """The judgement of a sample by `user` that stands."""
    reviews = Review.objects.filter(reviewer=user, sample=sample_id).select_related("sample__round")
    found = list(reviews.order_by("created_at", "id"))
    superseded = {review.supersedes_id for review in found}
    standing = [r for r in found if r.pk not in superseded and r.action not in (Action.UNDO, Action.WITHDRAW)]
    return standing[-1] if standing else None


def list_rounds() -> list[Round]:
    return list(Round.objects.select_related("experiment")[:ROUNDS])


def _write_cursor(review: Review) -> str:
    return base64.urlsafe_b64encode(json.dumps([review.created_at.isoformat(), str(review.pk)]).encode()).decode()


def _read_cursor(text: str) -> tuple[datetime, UUID] | None:
    """None for a cursor that nobody made: the list then starts from its beginning."""
    try:
        created, identifier = json.loads(base64.urlsafe_b64decode(text.encode()))
        parsed = parse_datetime(created)
        return None if parsed is None else (parsed, UUID(identifier))
    except (binascii.Error, ValueError, TypeError, AttributeError):
        return None
