"""Every metric against numbers worked out by hand or printed in the source that its docstring names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from alignment.metrics import agreement, calibration, discretion, efficiency, estimates, front, gaps, rates
from alignment.records import Metric

NAN = float("nan")
SCALES: tuple[Any, Any] = ("nominal", "interval")


def score(name: str, value: float | None, low: float | None = None, high: float | None = None, n: int = 10) -> Metric:
    return Metric(name, value, low, high, n, 0)


# rates


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),  # Newcombe 1998a, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(hits: int, n: int, low: float, high: float) -> None:
    interval = rates.wilson(hits, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("one", "of_one", "two", "of_two", "low", "high"),  # Newcombe 1998b, table II, method 10
    [(56, 70, 48, 80, 0.0524, 0.3339), (10, 10, 0, 10, 0.6075, 1.0), (9, 10, 3, 10, 0.1705, 0.8090)],
)
def test_newcombe_gives_the_published_intervals(
    one: int, of_one: int, two: int, of_two: int, low: float, high: float
) -> None:
    interval = rates.newcombe(one, of_one, two, of_two)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_names_an_impossible_share() -> None:
    with pytest.raises(ValueError, match="5 successes out of 4"):
        rates.wilson(5, 4)


def test_attack_success_keeps_failed_judgements_in_n_and_in_the_interval() -> None:
    clean = rates.attack_success([True, False, True, False])
    torn = rates.attack_success([True, False, None, None])
    assert (clean.value, clean.n, clean.reason) == (0.5, 4, "")
    assert (torn.value, torn.n) == (0.5, 4)
    assert torn.ci_low == pytest.approx(rates.wilson(1, 4).low)
    assert torn.ci_high == pytest.approx(rates.wilson(3, 4).high)
    assert "2 of 4 answers could not be judged" in torn.reason


def test_attack_success_without_judgement_has_no_value() -> None:
    assert rates.attack_success([]).reason == "there are no attacks"
    assert rates.attack_success([None, None]).value is None


def test_attack_success_by_group_starts_with_the_whole() -> None:
    rows = rates.attack_success_by_group([True, False, False], ["fraud", "fraud", "drugs"])
    assert [(m.group, m.value, m.n) for m in rows] == [
        ("", pytest.approx(1 / 3), 3),
        ("drugs", 0, 1),
        ("fraud", 0.5, 2),
    ]


def test_separation_is_the_difference_of_refusal_rates() -> None:
    assert rates.separation([True, True, False, True], [False, True]).value == pytest.approx(0.25)
    assert rates.separation([True], []).reason.endswith("there are no harmless answers")


# agreement


def test_alpha_by_hand() -> None:
    # Coincidences: 00 twice, 11 four times, 01 and 10 once; 1 - (8 - 1) * 1 / (3 * 5).
    metric = agreement.alpha("human_alpha", [[0, 1, 0, 1, 1], [0, 1, 1, 1, NAN]], seed=1)
    assert metric.value == pytest.approx(1 - 7 / 15)
    assert metric.n == 4
    assert metric.ci_low is not None and metric.ci_low <= metric.value <= (metric.ci_high or 0)


def test_alpha_is_the_same_for_the_same_seed_only() -> None:
    table = np.random.default_rng(0).integers(0, 2, (3, 40)).astype(float)
    first, again, other = (agreement.alpha("a", table, seed=s, draws=200) for s in (1, 1, 2))
    assert first == again
    assert (first.ci_low, first.ci_high) != (other.ci_low, other.ci_high)


def test_all_draws_at_once_are_the_draws_one_by_one() -> None:
    """Of two values, every scale gives the same alpha; only the nominal one takes the short way."""
    table = np.random.default_rng(0).integers(0, 2, (3, 40)).astype(float)
    table[2, ::3] = NAN
    clusters = [str(i // 2) for i in range(40)]
    short, long = (agreement.alpha("a", table, seed=1, draws=300, clusters=clusters, scale=s) for s in SCALES)
    assert (short.value, short.ci_low, short.ci_high) == pytest.approx((long.value, long.ci_low, long.ci_high))


def test_alpha_says_why_there_is_none() -> None:
    assert "no item was rated by two" in agreement.alpha("a", [[0, NAN], [NAN, 1]], seed=0).reason
    assert "all ratings are the same" in agreement.alpha("a", [[1, 1], [1, 1]], seed=0).reason
    assert agreement.alpha("a", np.empty((2, 0)), seed=0).value is None


def test_agreement_counts_a_failed_critique_as_not_agreeing() -> None:
    metric = agreement.agreement_share("critic_agreement_audit", [0.9, NAN, 0.2, 0.7], [1.0, 1.0, 0.0, NAN])
    assert (metric.value, metric.n) == (pytest.approx(2 / 3), 3)


# calibration


def test_calibration_by_hand() -> None:
    p, y = [0.15, 0.15, 0.9, 1.0], [0, 1, 1, 1]
    rows = {(m.name, m.group): m for m in calibration.reliability(p, y)}
    assert rows["calibration", "1"].value == 0.5
    assert rows["calibration_predicted", "1"].value == pytest.approx(0.15)
    assert (rows["calibration", "9"].value, rows["calibration", "9"].n) == (1.0, 2)
    assert rows["calibration", "0"].reason == "no prediction lies between 0 and 0.1"
    assert len(rows) == 20
    assert calibration.expected_calibration_error(p, y, seed=0).value == pytest.approx(0.5 * 0.35 + 0.5 * 0.05)
    assert calibration.brier(p, y, seed=0).value == pytest.approx((0.0225 + 0.7225 + 0.01 + 0) / 4)


def test_calibration_weights_stand_for_repeated_answers() -> None:
    heavy = calibration.brier([0.2, 0.6], [0, 1], weights=[3, 1], seed=0).value
    assert heavy == pytest.approx(calibration.brier([0.2, 0.2, 0.2, 0.6], [0, 0, 0, 1], seed=0).value or 0)


def test_calibration_of_nothing() -> None:
    assert calibration.brier([], [], seed=0).value is None
    assert calibration.expected_calibration_error([NAN], [1], seed=0).value is None
    assert all(m.value is None for m in calibration.reliability([], []))
    with pytest.raises(ValueError, match=r"predicted holds 1\.5"):
        calibration.brier([1.5], [1], seed=0)


# front


def test_hypervolume_of_one_point_and_of_a_front() -> None:
    point = (score("competence", 0.5, 0.4, 0.6), score("conformity", 0.8, 0.7, 0.9))
    one = front.hypervolume([point])
    assert one.value == pytest.approx(0.4)
    assert one.ci_low == pytest.approx(0.4 - math.hypot(0.8 * 0.1, 0.5 * 0.1))
    more = [
        point,
        (score("x", 0.8, 0.7, 0.9), score("y", 0.5, 0.4, 0.6)),
        (score("x", 0.4, 0, 1), score("y", 0.4, 0, 1)),
    ]
    assert front.hypervolume(more).value == pytest.approx(0.8 * 0.5 + 0.5 * 0.3)
    assert front.hypervolume([(score("x", None), score("y", 0.5))]).value is None


def test_alignment_tax_is_paired() -> None:
    metric = front.alignment_tax([1, 1, 1, 0, 0], [1, 0, 0, 1, 0])
    assert metric.value == pytest.approx(0.2)
    # Agresti and Min: b = 2.5, c = 1.5, n = 7.
    half = 1.959964 * math.sqrt(4 - 1 / 7) / 7
    assert metric.ci_low == pytest.approx(1 / 7 - half, abs=1e-6)
    assert front.alignment_tax([], []).value is None


# gaps


def test_performance_gap_recovered_is_the_median_over_usable_runs() -> None:
    runs = [
        gaps.TransferRun(0.60, 0.70, 0.80, 1000),  # 0.5
        gaps.TransferRun(0.60, 0.76, 0.80, 1000),  # 0.8
        gaps.TransferRun(0.60, 0.66, 0.80, 1000),  # 0.3
        gaps.TransferRun(0.70, 0.90, 0.71, 1000),  # within noise
    ]
    metric = gaps.performance_gap_recovered(runs, seed=3)
    assert (metric.value, metric.n) == (pytest.approx(0.5), 3)
    assert metric.ci_low is not None and metric.ci_high is not None and metric.ci_low < 0.5 < metric.ci_high
    assert metric.reason.startswith("1 of 4 runs left out")
    assert gaps.performance_gap_recovered(runs[3:], seed=3).value is None
    assert gaps.performance_gap_recovered([], seed=3).reason == "there are no runs"


def test_elicitation_gap_is_pass_at_n_minus_pass_at_1() -> None:
    assert gaps.elicitation_gap([[1, 0], [0, 0], [1, 1], [0, 1]], seed=0).value == pytest.approx(3 / 4 - 4 / 8)
    assert gaps.elicitation_gap([[1], [0]], seed=0).value is None
    assert gaps.elicitation_gap([], seed=0).value is None


def test_ceiling_gap_is_clipped_at_zero() -> None:
    assert gaps.ceiling_gap([0, 0, 1, 1], [1, 1, 1, 0]).value == pytest.approx(0.25)
    worse = gaps.ceiling_gap([1, 1, 1, 1], [0, 0, 1, 1])
    assert (worse.value, worse.ci_low) == (0.0, 0.0)


def test_teacher_gap_is_in_points() -> None:
    metric = gaps.teacher_gap(score("capacity", 0.9, 0.86, 0.93), score("capability", 0.7, 0.6, 0.73))
    assert metric.value == pytest.approx(20)
    assert metric.ci_low == pytest.approx(20 - 100 * math.hypot(0.04, 0.03))
    assert metric.ci_high == pytest.approx(20 + 100 * math.hypot(0.03, 0.1))
    assert "student's capacity" in gaps.teacher_gap(score("c", None), score("c", 0.5)).reason


def test_generator_verifier_gap_and_headroom() -> None:
    correct = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    scores = [[0.9, 0.1, 0.1], [0.5, 0.5, 0.1], [0.9, 0.2, 0.1]]  # right, a tie of right and wrong, wrong
    gap, headroom = gaps.generator_verifier_gap(correct, scores, seed=0)
    assert gap.value == pytest.approx(1.5 / 3 - 1 / 3)
    assert headroom.value == pytest.approx(1 - 1.5 / 3)


def test_over_optimisation_gap_by_hand() -> None:
    point = gaps.over_optimisation_gap([3, 5], [1, 1], [0, 2], [0, 2], kl=4, seed=0)
    assert point.root_kl == 2
    assert point.gap.value == pytest.approx((4 - 1) / math.sqrt(2) - 0)
    assert gaps.over_optimisation_gap([1], [1], [1, 1], [0, 1], kl=0, seed=0).gap.value is None


# estimates


def test_weighted_rate_by_hand() -> None:
    chance = [1.0, 0.5, 0.5, 0.25]  # weights 1, 2, 2, 4
    human = [1.0, 1.0, 0.0, 0.0]
    assert estimates.weighted_rate("violation_rate_weighted", human, chance).value == pytest.approx(3 / 9)


def test_equal_weights_give_the_wilson_interval_up_to_the_small_sample_factor() -> None:
    values = [1.0] * 30 + [0.0] * 70
    metric = estimates.weighted_rate("rate", values, [0.5] * 100)
    exact = rates.wilson(0.3 * 99, 99)  # n - 1, from the variance between clusters
    assert metric.value == pytest.approx(0.3)
    assert metric.ci_low == pytest.approx(exact.low)
    assert metric.ci_high == pytest.approx(exact.high)


def test_answers_of_one_query_count_as_one_where_they_agree() -> None:
    values, names = [1.0, 1.0, 0.0, 0.0] * 10, [str(i // 2) for i in range(40)]
    alone = estimates.weighted_rate("rate", values, [0.5] * 40)
    together = estimates.weighted_rate("rate", values, [0.5] * 40, clusters=names)
    assert (together.ci_low or 0) < (alone.ci_low or 0)
    assert together.ci_low == pytest.approx(rates.wilson(0.5 * 19, 19).low)


def test_no_violation_still_has_an_interval_of_kish_size() -> None:
    metric = estimates.weighted_rate("rate", [0, 0, 0], [1, 0.5, 0.5])
    assert (metric.value, metric.ci_high) == (0, pytest.approx(rates.wilson(0, 25 / 9).high))


def test_estimates_say_why_there_are_none() -> None:
    assert estimates.weighted_rate("r", [], []).reason.endswith("no sample was reviewed")
    with pytest.raises(ValueError, match=r"propensity holds 0\.0"):
        estimates.weighted_rate("r", [1], [0])


def test_weighted_rate_undoes_a_biased_draw() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(4000) < 0.2
    chance = np.where(truth, 0.6, 0.1)
    seen = rng.random(4000) < chance
    metric = estimates.weighted_rate("rate", truth[seen].astype(float), chance[seen])
    assert truth[seen].mean() > 0.5
    assert metric.ci_low is not None and metric.ci_high is not None
    assert metric.ci_low < 0.2 < metric.ci_high


# efficiency


def test_review_yield_by_hand() -> None:
    found, audit = [1, 0, 0, 0, 1, 1, 1, 1, 1, 0], [1] * 4 + [0] * 6
    metric = efficiency.review_yield(found, audit)
    assert (metric.value, metric.n) == (pytest.approx(0.6 / 0.25), 10)
    assert metric.ci_low is not None and metric.ci_high is not None and metric.ci_low < 2.4 < metric.ci_high
    assert "holds no violation" in efficiency.review_yield([0, 1], [1, 0]).reason
    assert "no audit sample" in efficiency.review_yield([1], [0]).reason
    assert efficiency.review_yield([], []).value is None


# discretion: three principles on six pairs

PRINCIPLES = [[1, 1, 1, 0, 1, -1], [1, 0, -1, 0, -1, 1], [0, 1, 1, 0, 0, 1]]


def test_pair_kinds_sum_to_one() -> None:
    kinds = {m.group: m.value for m in discretion.pair_kinds(PRINCIPLES)}
    assert kinds == {
        "consensus": pytest.approx(2 / 6),
        "conflict": pytest.approx(3 / 6),
        "indifference": pytest.approx(1 / 6),
    }


def test_arbitrariness_and_supremacy_by_hand() -> None:
    rater = [1, -1, 1, 1, 1, -1]
    assert discretion.arbitrariness(PRINCIPLES, rater).value == 0.5  # follows pair 1, opposes pair 2
    assert discretion.supremacy(PRINCIPLES, rater, 0, 1).value == 1.0  # pairs 3, 5, 6
    assert discretion.supremacy(PRINCIPLES, rater, 1, 2).value == 0.0  # pair 3
    assert "never conflict" in discretion.supremacy([[1], [1]], [1], 0, 1).reason


def test_discrepancy_is_zero_with_oneself_and_one_with_the_opposite() -> None:
    table, rater = [[1] * 8, [-1] * 8], [1] * 6 + [-1] * 2
    assert discretion.discrepancy(table, rater, rater, seed=0, draws=50).value == pytest.approx(0)
    opposite = [-r for r in rater]
    assert discretion.discrepancy(table, rater, opposite, seed=0, draws=50).value == pytest.approx(1)
    assert discretion.discrepancy([[1], [1]], [1], [1], seed=0, draws=50).value is None


def test_priorities_follow_the_share_of_conflicts_won() -> None:
    # 6.5 to 2.5 with half a win added to each side.
    assert discretion.priorities([[1] * 8, [-1] * 8], [1] * 6 + [-1] * 2) == pytest.approx([6.5 / 9, 2.5 / 9])
