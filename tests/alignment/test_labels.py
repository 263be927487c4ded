from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alignment.labels import Vote, aggregate, ratings, soften, violation_chances
from alignment.records import Label


def test_a_single_review_is_the_label() -> None:
    vote = Vote("q", "ada", {"r0": True, "r1": False}, ["private-life"], preferred="r1", rewrite="Better.", audit=True)
    (label,) = aggregate([vote])
    assert label.violates == {"r0": 1.0, "r1": 0.0}
    assert (label.principles, label.preferred, label.rewrite) == (["private-life"], "r1", "Better.")
    assert (label.reviews, label.audit, label.source) == (1, True, "human")


def test_overlapping_reviews_give_the_mean_by_hand() -> None:
    votes = [
        Vote("q", "ada", {"r0": True, "r1": True}, ["a", "b"], preferred="r1"),
        Vote("q", "ben", {"r0": True}, ["a"], preferred="r0"),
        Vote("q", "cleo", {"r0": False, "r1": False}, preferred="r1"),
    ]
    (label,) = aggregate(votes, source="simulated")
    assert label.violates == {"r0": pytest.approx(2 / 3), "r1": 0.5}
    assert label.principles == ["a", "b"]  # b by one of the two who saw a violation: half
    assert (label.preferred, label.reviews, label.source) == ("r1", 3, "simulated")


def test_a_tied_preference_is_none_and_nothing_gives_nothing() -> None:
    votes = [Vote("q", "ada", {}, preferred="r0"), Vote("q", "ben", {}, preferred="r1")]
    assert aggregate(votes)[0].preferred is None
    assert aggregate([]) == []


def test_a_second_judgement_of_the_same_person_is_an_error() -> None:
    with pytest.raises(ValueError, match="'ada' judged 'q' twice"):
        aggregate([Vote("q", "ada", {"r": True}), Vote("q", "ada", {"r": False})])


def test_dawid_skene_trusts_the_two_who_err_less() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.5
    votes = []
    for i, violates in enumerate(truth):
        for rater, right in (("ada", 0.95), ("ben", 0.95), ("guess", 0.5), ("coin", 0.5)):
            votes.append(Vote(str(i), rater, {"r": bool(violates == (rng.random() < right))}))
    fitted = violation_chances(votes)
    plain = violation_chances(votes, min_overlap=1000)
    fitted_error = np.mean([(fitted[str(i), "r"] >= 0.5) != t for i, t in enumerate(truth)])
    plain_error = np.mean([abs(plain[str(i), "r"] - t) for i, t in enumerate(truth)])
    assert fitted_error <= 0.05
    assert plain_error > 0.2
    assert all(0 <= chance <= 1 for chance in fitted.values())


def test_dawid_skene_reaches_the_fixed_point_that_a_hand_finds() -> None:
    """Ada and Ben always agree, Cleo with them half the time: they are right, she guesses (see test_error_rates)."""
    table = {"ada": [1, 1, 0, 0], "ben": [1, 1, 0, 0], "cleo": [1, 0, 1, 0]}
    votes = [Vote(str(i), rater, {"r": bool(v)}) for rater, row in table.items() for i, v in enumerate(row)]
    fitted = violation_chances(votes, min_overlap=4)
    assert [fitted[str(i), "r"] for i in range(4)] == pytest.approx([1, 1, 0, 0], abs=1e-3)


def test_single_votes_stay_as_they_are_beside_a_fit() -> None:
    votes = [Vote(str(i), rater, {"r": i % 2 == 0}) for i in range(30) for rater in ("ada", "ben")]
    votes.append(Vote("alone", "ada", {"r": True}))
    assert violation_chances(votes)["alone", "r"] == 1.0


def test_ratings_are_a_matrix_with_gaps() -> None:
    table, queries = ratings([Vote("q", "ada", {"r0": True, "r1": False}), Vote("q", "ben", {"r1": True})])
    assert queries == ["q", "q"]
    assert np.array_equal(table, [[1, 0], [np.nan, 1]], equal_nan=True)


def judged(query: str, said: dict[str, bool], **fields: Any) -> Label:
    """A label of one answer; `said` maps raters to verdicts, and the label is their mean."""
    fields.setdefault("violates", {"r": sum(said.values()) / len(said)})
    return Label(query, votes={"r": list(said.values())}, raters={"r": list(said)}, **fields)


def test_soften_weighs_raters_by_how_often_a_lead_overruled_them() -> None:
    """Gus says "violates" of everything; a lead sided with Ada in six of their disputes. Ada and Ben never err."""
    labels = [judged(f"a{i}", {"ada": i % 2 == 0, "ben": i % 2 == 0}) for i in range(20)]
    labels += [judged(f"d{i}", {"ada": False, "gus": True}, violates={"r": 0.0}, decided=True) for i in range(6)]
    labels += [judged(f"g{i}", {"gus": True, "ben": True}) for i in range(4)]
    labels += [judged("split", {"ada": False, "gus": True}), Label("alone", {"r": 1.0})]
    softened, words = soften(labels)
    by_query = {label.query: label.violates["r"] for label in softened}
    assert by_query["split"] < 0.05  # 0.5 by the mean
    assert by_query["d0"] == 0.0
    assert by_query["alone"] == 1.0
    assert by_query["g0"] > 0.9
    assert words.endswith("of 31 overlapping answers softened by Dawid-Skene over 3 people")


def test_soften_doubts_what_all_agreed_on_but_never_turns_it() -> None:
    """Gus and Hal guess; the lead's decisions say so. What the two agreed on stays violating, at 0.5 or above."""
    rng = np.random.default_rng(3)
    labels = []
    for i in range(60):
        truth = i % 3 == 0
        said = {"ada": truth, "gus": bool(rng.random() < 0.5), "hal": bool(rng.random() < 0.5)}
        labels.append(judged(f"q{i}", said, violates={"r": float(truth)}, decided=True))
    labels.append(judged("guessed", {"gus": True, "hal": True}))
    chance = soften(labels)[0][-1].violates["r"]
    assert 0.5 <= chance < 0.75


def test_soften_says_why_it_leaves_the_mean() -> None:
    few = [judged(f"q{i}", {"ada": True, "ben": i > 0}) for i in range(3)]
    softened, words = soften(few)
    assert softened == few
    assert words == "3 overlapping answers by their mean: 3 answers were judged by two or more people; 20 are needed"
    assert soften([Label("q", {"r": 1.0})])[1] == "no answer was judged by two or more"


def test_aggregate_keeps_who_said_what() -> None:
    (label,) = aggregate([Vote("q", "ada", {"r": True}), Vote("q", "ben", {"r": False, "s": True})])
    assert label.votes == {"r": [True, False], "s": [True]}
    assert label.raters == {"r": ["ada", "ben"], "s": ["ben"]}
