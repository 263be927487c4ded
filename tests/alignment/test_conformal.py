"""The promised risk is kept, and too few labels never look safe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alignment.conformal import Router, routing_coverage

SPLITS = 20


def judged(n: int, rng: np.random.Generator, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """(P of a critic that is too sure of itself, truth) [n]."""
    z = sharpness * rng.normal(size=n) - 0.5
    return 1 / (1 + np.exp(-2.5 * z)), (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)


def test_the_quantile_by_hand() -> None:
    # Scores 0.1 to 0.9; ceil(10 * 0.8) = 8th of nine is 0.8, so a verdict with 1 - P <= 0.8 is in.
    p = np.arange(1, 10) / 10
    router = Router.fit(p, np.zeros(9), 0.2)
    assert router.sets([0.79, 0.81, 0.1]).tolist() == [[True, True], [False, True], [True, False]]
    assert router.decides([0.79, 0.81, 0.1]) == [None, 1, 0]


def test_too_few_labels_decide_nothing_and_neither_does_a_failed_critique() -> None:
    # alpha 0.1 needs nine labels: ceil(9 * 0.9) = 9 of 8 does not exist, ceil(10 * 0.9) = 9 of 9 does.
    assert Router.fit([0.01] * 8, [0] * 8, 0.1).decides([0.01, 0.99]) == [None, None]
    enough = Router.fit([0.01] * 9, [0] * 9, 0.1)
    assert enough.decides([0.005, 0.995]) == [0, 1]
    assert enough.decides([0.5]) == [None]  # neither verdict conforms: an answer like none seen before
    assert enough.decides([float("nan")]) == [None]
    assert Router.fit([], [], 0.1).decides([0.0, 1.0]) == [None, None]


def test_by_class_nothing_is_called_fine_before_enough_violations_were_seen() -> None:
    p, y = [0.01] * 30 + [0.99] * 3, [0.0] * 30 + [1.0] * 3
    assert Router.fit(p, y, 0.1).decides([0.01]) == [0]
    assert Router.fit(p, y, 0.1, by_class=True).decides([0.01, 0.99]) == [None, 1]


def test_a_weight_stands_for_that_many_labels() -> None:
    # Three labels that stand for three answers each reach what nine reach, for an answer that stands for itself.
    few = Router.fit([0.1, 0.2, 0.3], [0, 0, 0], 0.1, [3, 3, 3])
    many = Router.fit([0.1] * 3 + [0.2] * 3 + [0.3] * 3, [0] * 9, 0.1)
    points = np.linspace(0, 1, 21)
    assert few.sets(points, np.ones(21)).tolist() == many.sets(points).tolist()
    # An answer that stands for many like it is decided by nobody.
    assert few.decides([0.1], [30.0]) == [None]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("by_class", [False, True])
def test_coverage_over_20_splits_holds_the_promise(alpha: float, by_class: bool) -> None:
    # Split means spread by less than 0.02, so 20 of them are known to about 0.01; seed 0.
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        p, y = judged(800, rng)
        router = Router.fit(p[:300], y[:300], alpha, by_class=by_class)
        found.append(router.sets(p[300:])[np.arange(500), y[300:].astype(int)].mean())
    mean, half = np.mean(found), 2.093 * np.std(found, ddof=1) / math.sqrt(SPLITS)
    assert mean - half <= 1 - alpha + 0.01
    assert mean + half >= 1 - alpha


def test_weights_keep_the_promise_for_answers_that_were_drawn_otherwise() -> None:
    # Calibration answers were drawn where the critic is unsure; the promise is for all. 20 splits, seed 1.
    rng = np.random.default_rng(1)
    plain, weighted = [], []
    for _ in range(SPLITS):
        p, y = judged(4000, rng)
        chance = 0.02 + 0.5 * (4 * p * (1 - p)) ** 2
        drawn, alpha = rng.random(4000) < chance, 0.1
        for found, w in ((plain, None), (weighted, 1 / chance)):
            router = Router.fit(p[drawn], y[drawn], alpha, None if w is None else w[drawn])
            sets = router.sets(p, w)
            found.append(sets[np.arange(4000), y.astype(int)].mean())
    half = 2.093 * np.std(weighted, ddof=1) / math.sqrt(SPLITS)
    assert abs(np.mean(weighted) - 0.9) <= half + 0.005
    assert abs(np.mean(plain) - 0.9) > abs(np.mean(weighted) - 0.9)


def test_coverage_as_reported_on_held_out_predictions() -> None:
    p, y = judged(400, np.random.default_rng(3))
    metric = routing_coverage(p.tolist(), y.tolist(), 0.1, seed=0)
    assert (metric.n, metric.reason) == (400, "promised: 90%")
    assert metric.ci_low is not None and metric.ci_high is not None
    assert metric.ci_low <= 0.9 <= metric.ci_high
    assert routing_coverage([0.1] * 3, [0.0] * 3, 0.1, seed=0).value is None


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="alpha is 1"):
        Router.fit([0.1], [0], 1)
    with pytest.raises(ValueError, match="leave out failed critiques"):
        Router.fit([float("nan")], [0], 0.1)
