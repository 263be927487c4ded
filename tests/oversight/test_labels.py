"""Labels: what people's judgements add up to, by hand."""

from __future__ import annotations

import pytest

from oversight.models import Label, Review
from oversight.services import labels, reviews
from tests.factories import make_review, make_sample, make_user


def said(action, violations=None, rewrite=""):
    return Review(action=action, violations=violations or {}, rewrite=rewrite)


@pytest.mark.parametrize(
    ("judgements", "expected"),
    [
        ([said("approve")], {"0": 0.0, "1": 0.0}),
        ([said("violates", {"0": ["a"]})], {"0": 1.0, "1": 0.0}),
        ([said("both_bad")], {"0": 1.0, "1": 1.0}),
        # A preference says nothing about the answers that are not marked.
        ([said("prefer_a")], {}),
        ([said("prefer_b", {"0": ["a"]})], {"0": 1.0}),
        ([said("tie")], {}),
        ([said("rewrite", {"1": []})], {"1": 1.0}),
        # Of three people two say that A violates; one of the three says nothing of B.
        ([said("violates", {"0": []}), said("approve"), said("prefer_b", {"0": []})], {"0": 2 / 3, "1": 0.0}),
    ],
)
def test_violations_are_the_share_of_those_who_judged(judgements, expected):
    assert labels.vote_violations(judgements, answers=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([], None),
        (["prefer_a"], 0),
        (["prefer_b", "prefer_b", "prefer_a"], 1),
        (["prefer_a", "prefer_b"], None),
        (["tie", "approve"], None),
    ],
)
def test_the_preferred_answer_is_the_majoritys(actions, expected):
    assert labels.vote_preference([said(action) for action in actions]) == expected


def test_principles_most_named_first_and_once_a_person():
    judgements = [said("both_bad", {"0": ["fraud", "lies"], "1": ["fraud"]}), said("violates", {"0": ["lies"]})]
    assert labels.count_principles(judgements) == ["lies", "fraud"]


@pytest.mark.django_db
def test_skips_and_superseded_judgements_do_not_count():
    sample = make_sample()
    first = make_review(sample=sample, reviewer=make_user(), action="approve")
    second = make_review(sample=sample, reviewer=first.reviewer, action="both_bad", supersedes=first)
    make_review(sample=sample, reviewer=make_user(), action="skip")
    outcome = labels.weigh(sample, reviews.list_reviews(sample))
    assert outcome.label["violates"] == {"0": 1.0, "1": 1.0}
    assert outcome.label["evidence"] == [str(second.pk)]


@pytest.mark.django_db
def test_a_label_goes_with_its_last_judgement():
    sample = make_sample()
    review = make_review(sample=sample, reviewer=make_user(), action="approve")
    reviews.settle(sample, [review])
    assert Label.objects.filter(sample=sample).exists()
    undone = make_review(sample=sample, reviewer=review.reviewer, action="undo", supersedes=review)
    reviews.settle(sample, [review, undone])
    assert not Label.objects.exists()
    sample.refresh_from_db()
    assert sample.status == "queued"
