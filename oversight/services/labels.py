"""The approved result of a sample's reviews, computed anew from all of them whenever one is added.

A label exists only where it is approved: as many people as wanted judged and none contradicts another, or a
lead decided. Training uses labels and nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from oversight.models import Label, Review, Sample

Action = Review.Action
Purpose = Review.Purpose
How = Label.How
TAKEN_BACK = (Action.UNDO, Action.WITHDRAW)
JUDGEMENTS = tuple(a for a in Action if a not in (Action.SKIP, *TAKEN_BACK))


@dataclass(frozen=True)
class Outcome:
    """What the reviews of a sample come to."""

    label: dict[str, Any] | None  # the fields of the Label, None where there is none (yet)
    counted: int  # judgements under a lease that stand
    contradictory: bool  # two judgements that stand, late ones too, contradict each other
    disputed: bool  # as many as wanted were counted, and they contradict: a lead decides


def list_standing(reviews: list[Review]) -> list[Review]:
    """The judgements among all `reviews` of a sample that stand: neither taken back, corrected nor withdrawn."""
    superseded = {review.supersedes_id for review in reviews}
    return [review for review in reviews if review.action in JUDGEMENTS and review.pk not in superseded]


def weigh(sample: Sample, reviews: list[Review], *, closing: bool = False) -> Outcome:
    """The label that `reviews` (all of the sample, oldest first) make. With `closing` fewer than wanted do."""
    standing = list_standing(reviews)
    ordinary = [review for review in standing if review.purpose == Purpose.REVIEW]
    counted = [review for review in ordinary if review.held_lease]
    contradictory = contradict(ordinary)
    decisions = [review for review in standing if review.purpose == Purpose.ADJUDICATION]
    if decisions:
        label = make_label(sample, decisions[-1:], How.ADJUDICATED)
        return Outcome(label, len(counted), contradictory, disputed=False)
    enough = len(counted) >= sample.wanted
    if not counted or contradict(counted) or not (enough or closing):
        disputed = bool(counted) and contradict(counted) and (enough or closing)
        return Outcome(None, len(counted), contradictory, disputed)
    how = How.CLOSED if not enough else How.SINGLE if len(counted) == 1 else How.AGREED
    return Outcome(make_label(sample, counted, how), len(counted), contradictory, disputed=False)


def contradict(judgements: list[Review]) -> bool:
    """True where of one answer one says that it violates and another that it does not, or where one prefers A
    and another B. A tie contradicts nothing, and neither does naming another principle."""
    actions = {review.action for review in judgements}
    if {Action.PREFER_A, Action.PREFER_B} <= actions:
        return True
    indices = {index for review in judgements for index in review.violations}
    answers = max([2, *(int(index) + 1 for index in indices)])
    said = ({review.says_violates(index) for review in judgements} for index in range(answers))
    return any({True, False} <= votes for votes in said)


def make_label(sample: Sample, judgements: list[Review], how: str) -> dict[str, Any]:
    """The fields of the label that these judgements make."""
    rewriting = [review for review in judgements if review.action == Action.REWRITE]
    return {
        "violates": vote_violations(judgements, answers=len(sample.responses)),
        "principles": count_principles(judgements),
        "preferred": vote_preference(judgements),
        "rewrite": rewriting[-1].rewrite if rewriting else "",
        "rewrite_of": rewriting[-1].rewrite_of if rewriting else None,
        "how": how,
        "evidence": [str(review.pk) for review in judgements],
    }


def write_label(sample: Sample, outcome: Outcome) -> None:
    """Stores the label, or removes the one there was. The caller holds the lock of the sample's row."""
    if outcome.label is not None:
        label = Label(sample=sample, **outcome.label)
        Label.objects.bulk_create(
            [label], update_conflicts=True, unique_fields=["sample"], update_fields=list(outcome.label)
        )
    elif sample.status in (Sample.Status.DECIDED, Sample.Status.CLOSED, Sample.Status.EXCLUDED):
        Label.objects.filter(sample=sample).delete()


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
