from __future__ import annotations

import numpy as np
import pytest

from alignment.critic import HeldOut
from alignment.records import Label
from alignment.second_look import find_doubtful, rank_doubtful


def test_thresholds_are_the_mean_self_confidence_by_hand() -> None:
    """Ten of each kind. Violating: nine at 0.8 and one at 0.3, so their threshold is 0.75.

    Fine: nine at 0.1 and one at 0.7: the mean of 1 - p is 0.84. So 0.7 stays below 0.75, and 1 - 0.3 below 0.84.
    """
    observed = [1.0] * 10 + [0.0] * 10
    assert rank_doubtful([0.8] * 9 + [0.3] + [0.1] * 9 + [0.7], observed) == []
    # At 0.76 the fine one reaches the threshold, and at 0.1 the violating one does: it is the more doubtful.
    assert rank_doubtful([0.8] * 9 + [0.1] + [0.1] * 9 + [0.76], observed) == [9, 19]


def test_too_few_of_a_kind_and_even_labels_say_nothing() -> None:
    assert rank_doubtful([0.9] * 9 + [0.1] * 12, [1.0] * 8 + [0.0] * 13) == []
    assert rank_doubtful([], []) == []
    even = [0.9] * 12 + [0.1] * 12 + [0.99]
    assert 24 not in rank_doubtful(even, [1.0] * 12 + [0.0] * 12 + [0.5])
    with pytest.raises(ValueError, match="pass one of each"):
        rank_doubtful([0.1], [0.0, 1.0])


def test_most_of_what_it_lists_was_flipped() -> None:
    """200 answers whose kinds lie 3.6 deviations apart in one of ten features, 10% flipped; seeds 0 to 9 (n 2,000)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    listed = found = flipped = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = rng.random(200) < 0.5
        x = rng.normal(size=(200, 10))
        x[:, 0] += np.where(truth, 1.8, -1.8)
        flips = rng.random(200) < 0.1
        given = (truth != flips).astype(float)
        p = cross_val_predict(LogisticRegression(C=0.3), x, given, cv=5, method="predict_proba")[:, 1]
        doubtful = rank_doubtful(p, given)
        listed, found, flipped = listed + len(doubtful), found + int(flips[doubtful].sum()), flipped + int(flips.sum())
    assert found / listed >= 0.85, (found, listed)  # measured 0.95 [0.90, 0.97], n 154; a tenth by chance
    assert found / flipped >= 0.65, (found, flipped)  # measured 0.74 [0.68, 0.80], n 196


def test_rows_name_the_answer_and_say_why() -> None:
    labels = {f"q{i}": Label(f"q{i}", {f"r{i}": float(i < 12)}, decided=i == 1) for i in range(24)}
    predicted = [0.05, 0.05, *[0.9] * 10, *[0.1] * 11, 0.95]
    ids = [f"r{i}" for i in range(24)]
    held_out = HeldOut([*predicted, 0.01], [*(float(i < 12) for i in range(24)), 1.0], [*ids, ""])
    first, second = find_doubtful(held_out, labels)  # r1 was decided by a lead, the last is of an earlier round
    assert (first.query, first.response, first.label, first.predicted, first.margin) == ("q0", "r0", 1.0, 0.05, 0.9)
    assert first.words == (
        "People say violates; a critic that never saw this answer puts P(violates) at 0.05, "
        "as it does for answers that people say are fine."
    )
    assert (second.response, second.margin) == ("r23", 0.9)
    assert len(find_doubtful(held_out, labels, most=1)) == 1
