"""The mix moves towards the signals that found errors, a little at a time."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mix import LEAST, learn_mix, selection_weights
from alignment.policies import SIGNALS, Mix
from alignment.records import Label, Sample

EVEN = Mix(1, 1, 1, 1, 1)


def test_nothing_reviewed_or_nothing_found_leaves_the_ratios() -> None:
    prior = Mix(2, 1, 1, 0.5, 0.5)
    for found in ([], [0.0, 0.0]):
        learnt = learn_mix(np.ones((len(found), 5)), np.ones(len(found)), found, prior)
        assert learnt.weights == pytest.approx(prior.weights / 5)


def test_one_review_by_hand() -> None:
    # Two reviews: the first signal points at the error only, the others at both alike; certain draws.
    signals = [[2.0, 1, 1, 1, 1], [0.0, 1, 1, 1, 1]]
    learnt = learn_mix(signals, [1, 1], [1, 0], EVEN)
    # Yield of the first 1, of the others 0.5, mean 0.5. Kish: 1 review. (1 + 40 * 0.5) / 41 = 0.5122.
    factor = (0.5121951 / 0.5) ** (2 / 42)
    assert learnt.weights == pytest.approx(np.array([factor, 1, 1, 1, 1]) / (factor + 4))


def test_a_rare_draw_counts_as_much_as_it_stands_for() -> None:
    # The same finds; where the find was the rare draw, it stands for many, and the signal that is even gains on
    # the one that points elsewhere.
    signals = np.array([[2.0, 1, 1, 1, 1], [0.0, 1, 1, 1, 1]] * 200)
    found = np.array([1.0, 0.0] * 200)
    rare = learn_mix(signals, np.array([0.1, 1.0] * 200), found, EVEN)
    even = learn_mix(signals, np.ones(400), found, EVEN)
    assert rare.violation < even.violation
    assert even.violation > 0.25


def test_the_weights_find_the_best_signal_and_keep_a_floor() -> None:
    # 2,000 samples, errors where the second signal is high, ten rounds of 60 draws by the current mix, seed 0.
    rng = np.random.default_rng(0)
    mix = EVEN
    for _ in range(10):
        signals = rng.gamma(1.0, 1.0, size=(2000, 5))
        signals /= signals.mean(axis=0)
        wrong = (rng.random(2000) < np.minimum(0.25 * signals[:, 1] ** 2, 1)).astype(float)
        size = signals @ mix.weights / mix.weights.sum()
        chance = np.minimum(0.2 * 60 / 2000 + 0.8 * 60 * size / size.sum(), 1)
        drawn = rng.random(2000) < chance
        mix = learn_mix(signals[drawn], chance[drawn], wrong[drawn], mix)
    assert mix.uncertainty == max(mix.weights)
    assert mix.uncertainty > 0.4
    assert min(mix.weights) >= LEAST - 1e-9
    assert mix.weights.sum() == pytest.approx(1)


def sample(query: str, violation: float | None, signals: dict[str, float]) -> Sample:
    flag = {"query": query, "reason": "violation", "propensity": 0.5, "priority": 1.0, "words": "", "signals": signals}
    critique = {"response": f"{query}-0", "violation": violation}
    return Sample({"id": query}, [], [critique], flag, 0.5)


def test_rows_are_made_from_reviews_of_drawn_samples_with_signals() -> None:
    sizes = dict.fromkeys(SIGNALS, 1.0)
    samples = [
        sample("a", 0.9, {**sizes, "violation": 3.0}), sample("b", 0.1, sizes), sample("c", None, {}),
        sample("d", 0.2, sizes),
    ]  # fmt: skip
    labels = [Label("a", {"a-0": 0.0}), Label("b", {"b-0": 0.0}), Label("c", {"c-0": 1.0})]
    rows = selection_weights(samples, labels, Mix())
    assert [row.group for row in rows] == list(SIGNALS)
    assert {(row.name, row.n, row.reason) for row in rows} == {("selection_weight", 2, "")}
    assert sum(row.value or 0 for row in rows) == pytest.approx(1)
    assert (rows[0].value or 0) > Mix().violation
    unreviewed = selection_weights(samples, [], Mix())
    assert [row.value for row in unreviewed] == pytest.approx(Mix().weights.tolist())
    assert "stay as they were" in unreviewed[0].reason
