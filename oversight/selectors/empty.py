"""Why there is nothing to review, so that the page can say what comes next."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from oversight.models import Review, Round, Sample, User
from oversight.selectors.progress import Progress, read_progress
from oversight.selectors.round_counts import SERVING, Counts, count_reviews

MOST = 1000  # counting stops there


@dataclass(frozen=True)
class Empty:
    """Counts are of the newest open round of any experiment, and stop at MOST."""

    round: Round | None
    counts: Counts | None
    progress: Progress | None
    answered: int  # wait in this person's categories for somebody else, because this person skipped or judged them
    opted_out: int  # wait, in categories that this person opted out of
    unassigned: int  # wait, in categories that a lead gives to others
    others: int  # wait for the one whom a lead assigned

    @property
    def state(self) -> str:
        if self.round is None:
            return "none"
        if self.counts is not None and self.counts.held:
            return "held"
        if self.round.status == Round.Status.REVIEWING:
            reasons = {name: getattr(self, name) for name in ("answered", "opted_out", "unassigned", "others")}
            reasons["disputed"] = self.counts.disputed if self.counts is not None else 0
            most = max(reasons, key=lambda name: reasons[name])  # of equal ones the first
            if reasons[most]:
                return most
        return self.round.status


def read_empty(user: User) -> Empty:
    """Nine queries at most."""
    round_ = Round.objects.filter(status__in=Round.OPEN).first() or Round.objects.first()
    serving = round_ is not None and round_.status in SERVING
    waiting = Sample.objects.filter(round=round_, status=Sample.Status.QUEUED) if serving else Sample.objects.none()
    mine = Review.objects.filter(reviewer=user, superseded_by=None, sample__in=waiting)
    mine = mine.exclude(sample__category__in=user.opted_out) if user.opted_out else mine
    outside = ~Q(category__in=user.categories) if user.categories else Q(pk__in=[])
    return Empty(
        round=round_,
        counts=count_reviews(round_, user) if round_ is not None and serving else None,
        progress=read_progress(round_) if round_ is not None else None,
        answered=mine.exclude(action__in=(Review.Action.UNDO, Review.Action.WITHDRAW))[:MOST].count(),
        opted_out=waiting.filter(category__in=user.opted_out)[:MOST].count() if user.opted_out else 0,
        unassigned=waiting.filter(outside)[:MOST].count() if user.categories else 0,
        others=waiting.filter(assigned_to__isnull=False).exclude(assigned_to=user)[:MOST].count(),
    )
