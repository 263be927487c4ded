"""The approved result of a sample's reviews, computed anew from all of them whenever one is added."""

from __future__ import annotations

from collections import Counter

from oversight.models import Label, Review, Sample

Action = Review.Action
JUDGEMENTS = tuple(a for a in Action if a not in (Action.SKIP, Action.UNDO))


def list_judgements(sample: Sample) -> list[Review]:
    """What counts, oldest first: neither taken back nor corrected, neither a skip nor an undo."""
    reviews = Review.objects.filter(sample=sample, action__in=JUDGEMENTS, superseded_by=None)
    return list(reviews.order_by("created_at", "id"))


def recompute_label(sample: Sample) -> Label | None:
    """Writes the sample's label from its judgements; removes it where none is left.

    The caller holds the lock of the sample's row.
    """
    judgements = list_judgements(sample)
    if not judgements:
        Label.objects.filter(sample=sample).delete()
        return None
    label, _ = Label.objects.update_or_create(
        sample=sample,
        defaults={
            "violates": vote_violations(judgements, answers=len(sample.responses)),
            "principles": count_principles(judgements),
            "preferred": vote_preference(judgements),
            "rewrite": next((r.rewrite for r in reversed(judgements) if r.action == Action.REWRITE), ""),
        },
    )
    label.reviews.set(judgements)
    return label


def vote_violations(judgements: list[Review], *, answers: int) -> dict[str, float]:
    """Response index -> share of the judging people who say it violates, in [0, 1].

    A response that nobody judged is missing: a preference says nothing about the unmarked answer.
    """
    result = {}
    for index in range(answers):
        votes = [vote for review in judgements if (vote := review.says_violates(index)) is not None]
        if votes:
            result[str(index)] = sum(votes) / len(votes)
    return result


def count_principles(judgements: list[Review]) -> list[str]:
    """Every principle that somebody says was violated, the most named first."""
    named = Counter(key for review in judgements for key in {k for keys in review.violations.values() for k in keys})
    return sorted(named, key=lambda key: (-named[key], key))


def vote_preference(judgements: list[Review]) -> int | None:
    """Index of the answer that more people prefer; None for a draw or where nobody prefers one."""
    actions = Counter(review.action for review in judgements)
    lead = actions[Action.PREFER_A] - actions[Action.PREFER_B]
    return None if lead == 0 else (0 if lead > 0 else 1)
