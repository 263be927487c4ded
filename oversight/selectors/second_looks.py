"""Labels worth a second look, as a lead reads them."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Q

from oversight.models import Experiment, Review, Sample, SecondLook
from oversight.selectors.verdicts import LETTERS

MOST = 50  # rows of the list
NOT_JUDGED = (Review.Action.SKIP, Review.Action.UNDO, Review.Action.WITHDRAW)


@dataclass(frozen=True)
class Doubt:
    """A line of the list."""

    look: SecondLook
    letter: str  # of the answer; "" where it is the only one
    people: int  # who have judged the sample

    @property
    def says_violates(self) -> bool:
        return self.look.label >= 0.5


def list_doubts(experiment: Experiment) -> list[Doubt]:
    """What is left to deal with, the most doubtful first; of samples that still have their label. One query."""
    standing = Q(sample__reviews__superseded_by=None) & ~Q(sample__reviews__action__in=NOT_JUDGED)
    looks = (
        SecondLook.objects.filter(sample__experiment=experiment, sample__status=Sample.Status.DECIDED)
        .exclude(state=SecondLook.State.CLOSED)
        .select_related("sample__query", "sample__round")
        .annotate(people=Count("sample__reviews__reviewer", filter=standing, distinct=True))
        .order_by(F("margin").desc(), "id")[:MOST]
    )
    return [
        Doubt(look, LETTERS[look.response_index] if len(look.sample.responses) > 1 else "", look.people)
        for look in looks
    ]
