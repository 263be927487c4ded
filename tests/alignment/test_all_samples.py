"""Estimates over all samples: right on average, and with intervals that hold what they promise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from alignment.metrics.all_samples import estimate_all
from alignment.policies import entropy, normalised
from alignment.selection import inclusion_probabilities

NAN = float("nan")
ROUNDS = 500
# What the critic makes of the true log-odds z.
CRITICS = {
    "calibrated": lambda z, rng: z,
    "too sure": lambda z, rng: 2 * z,
    "too timid": lambda z, rng: 0.4 * z,
    "too kind": lambda z, rng: z - 1.5,
    "too harsh": lambda z, rng: z + 1.5,
    "half blind": lambda z, rng: 0.7 * (z + 2 * rng.normal(size=len(z))) - 0.2,
    "blind": lambda z, rng: rng.normal(size=len(z)),
}


def simulate_rounds(
    critic: str, *, n: int, budget: int, prevalence: float, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(P of the critic, truth, propensity, drawn), each [n], for 500 rounds drawn as a round draws."""
    rng = np.random.default_rng(seed)
    shift = _shift_for(prevalence)
    for _ in range(ROUNDS):
        z = shift + 2 * rng.normal(size=n)
        truth = rng.random(n) < 1 / (1 + np.exp(-z))
        p = 1 / (1 + np.exp(-CRITICS[critic](z, rng)))
        size = 0.4 * normalised(p) + 0.6 * normalised(entropy(p))
        chance = inclusion_probabilities(size, budget=budget, floor=0.2 * budget / n)
        order = rng.permutation(n)
        ends = np.round(np.cumsum(chance[order]), 9)
        drawn = np.zeros(n, dtype=bool)
        drawn[order] = np.diff(np.ceil(np.concatenate([[0.0], ends]) - rng.random())) > 0
        yield p, truth, chance, drawn


def _shift_for(prevalence: float) -> float:
    z, low, high = 2 * np.random.default_rng(0).normal(size=50_000), -15.0, 15.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if (1 / (1 + np.exp(-middle - z))).mean() > prevalence else (middle, high)
    return middle


@pytest.mark.parametrize(
    ("critic", "n", "budget", "prevalence"),
    [
        ("calibrated", 200, 16, 0.05),
        ("too sure", 200, 24, 0.2),
        ("too kind", 200, 16, 0.2),
        ("too timid", 1000, 24, 0.5),
        ("too harsh", 1000, 64, 0.05),
        ("half blind", 1000, 16, 0.2),
        ("too kind", 1000, 64, 0.5),
        ("calibrated", 5000, 64, 0.2),
        ("too harsh", 5000, 24, 0.05),
        ("blind", 1000, 64, 0.2),
    ],
)
def test_intervals_hold_the_truth_in_93_of_100_simulated_rounds(
    critic: str, n: int, budget: int, prevalence: float, capsys: pytest.CaptureFixture[str]
) -> None:
    held: dict[str, list[bool]] = {"violation_rate_all": [], "critic_precision": [], "critic_recall": []}
    widths: dict[str, list[float]] = {name: [] for name in held}
    names = [str(i) for i in range(n)]
    for p, truth, chance, drawn in simulate_rounds(critic, n=n, budget=budget, prevalence=prevalence, seed=7):
        called = p >= 0.5
        wanted = {
            "violation_rate_all": truth.mean(),
            "critic_precision": truth[called].mean() if called.any() else None,
            "critic_recall": called[truth].mean() if truth.any() else None,
        }
        for metric in estimate_all(p, np.where(drawn, truth, NAN), chance, names):
            value = wanted[metric.name]
            if value is None or metric.value is None:
                continue
            assert metric.ci_low is not None and metric.ci_high is not None
            held[metric.name].append(bool(metric.ci_low - 1e-9 <= value <= metric.ci_high + 1e-9))
            widths[metric.name].append(metric.ci_high - metric.ci_low)
    shares = {name: round(float(np.mean(own)), 3) for name, own in held.items()}
    with capsys.disabled():
        mean_widths = {name: round(float(np.mean(own)), 2) for name, own in widths.items()}
        print(f"\n{critic}, {budget} of {n}, {prevalence:.0%}: held {shares}, width {mean_widths}")
    assert min(shares.values()) >= 0.93


def test_the_critic_is_corrected_by_what_people_found_by_hand() -> None:
    # The critic says 0.25 on average; people differ by -0.2 and +0.6, so +0.2 on average. It called nothing.
    rate, precision, recall = estimate_all([0.2, 0.4, 0.1, 0.3], [0, 1, NAN, NAN], [0.5] * 4, list("abcd"))
    assert (rate.value, rate.n) == (pytest.approx(0.45), 2)
    assert precision.value is None
    assert precision.reason == "the critic called no answer violating"
    assert recall.value == 0
    # Weights 1 and 4: (-0.2 + 4 * 0.6) / 5 = 0.44.
    uneven = estimate_all([0.2, 0.4, 0.1, 0.3], [0, 1, NAN, NAN], [1, 0.25, 0.5, 0.5], list("abcd"))
    assert uneven[0].value == pytest.approx(0.25 + 0.44)


def test_precision_and_recall_put_the_parts_together_by_hand() -> None:
    # Called: 0.8 on average, people 1 against 0.9: 0.9. Passed: 0.2, people 0.5 higher: 0.7, of 2 answers each.
    found = estimate_all([0.9, 0.7, 0.1, 0.3], [1, NAN, NAN, 0.8], [0.5] * 4, list("abcd"))
    assert [m.value for m in found] == pytest.approx([0.8, 0.9, 0.9 / 1.6])


def test_everything_reviewed_leaves_no_doubt() -> None:
    found = estimate_all([0.9, 0.7, 0.1, 0.3], [1, 0, 0, 1], [1.0] * 4, list("abcd"))
    assert [(m.value, m.ci_low, m.ci_high) for m in found[:2]] == [(0.5, 0.5, 0.5)] * 2
    assert found[2].value == 0.5


def test_a_failed_critique_stays_in_every_denominator_with_its_best_and_worst() -> None:
    # Four answers reviewed whole: one called rightly, one passed rightly, two not judged of which one violates.
    found = {m.name: m for m in estimate_all([0.9, 0.1, NAN, NAN], [1, 0, 1, 0], [1.0] * 4, list("abcd"))}
    assert found["violation_rate_all"].value == 0.5
    assert found["critic_recall"].value == 0.5  # the failed one is a miss
    assert found["critic_recall_best"].value == 1
    assert found["critic_recall_worst"].value == 0.5
    assert found["critic_precision"].value == 1
    assert found["critic_precision_best"].value == 1
    assert found["critic_precision_worst"].value == 0.5
    assert (found["critic_precision"].ci_low, found["critic_precision"].ci_high) == (0.5, 1)
    assert found["critic_precision"].reason.startswith("the critic gave no judgement of 2 answers")
    # One of them not reviewed: the rate lies between 1/4 and 2/4.
    open_case = {m.name: m.value for m in estimate_all([0.9, 0.1, 0.2, NAN], [1, 0, 0, NAN], [1.0] * 4, list("abcd"))}
    assert open_case["violation_rate_all_best"] == 0.25
    assert open_case["violation_rate_all_worst"] == 0.5


def test_answers_of_one_query_count_as_one_draw() -> None:
    p, human = [0.2] * 40, [1.0, 1, 0, 0] * 5 + [NAN] * 20
    alone = estimate_all(p, human, [0.5] * 40, [str(i) for i in range(40)])[0]
    pairs = estimate_all(p, human, [0.5] * 40, [str(i // 2) for i in range(40)])[0]
    assert alone.value == pairs.value == 0.5
    assert (pairs.ci_high or 0) > (alone.ci_high or 0)


def test_what_cannot_be_estimated_says_why() -> None:
    assert {m.reason for m in estimate_all([0.2], [NAN], [0.5], ["a"])} == {"no sample was reviewed"}
    assert {m.value for m in estimate_all([], [], [], [])} == {None}
    with pytest.raises(ValueError, match=r"propensity holds 0\.0"):
        estimate_all([0.2], [1], [0], ["a"])
