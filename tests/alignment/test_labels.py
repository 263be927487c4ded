from __future__ import annotations

import numpy as np
import pytest

from alignment.labels import Vote, aggregate, ratings, violation_chances


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
