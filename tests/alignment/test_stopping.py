"""What the next reviews would buy, on rates and curves whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alignment.metrics.rates import wilson
from alignment.metrics.result import Interval, measured, not_computable
from alignment.stopping import expected_width, forecast, next_reviews, stop_words

SIZES = (10, 20, 30, 40)


def rate_of(violating: int, n: int) -> tuple[float, Interval]:
    return violating / n, wilson(violating, n)


def make_curve(truth, *, fits: int, noise: float, rng: np.random.Generator) -> list[tuple[int, float]]:
    """`fits` scores a size, with noise that shrinks as 1/sqrt(labels) down to `noise` at the largest size."""
    return [
        (n, truth(n) + rng.normal(0, noise * math.sqrt(SIZES[-1] / n))) for n in SIZES for _ in range(fits)
    ]  # fmt: skip


def test_the_width_after_more_reviews_is_that_of_so_many_reviews() -> None:
    share, interval = rate_of(12, 40)
    now, after = expected_width(measured("violation_rate_weighted", share, interval, 40), 40, more=20)
    assert now.value == pytest.approx((interval.high - interval.low) / 2)
    wanted = wilson(18, 60)  # the same share of 60
    assert after.value == pytest.approx((wanted.high - wanted.low) / 2)
    assert (now.name, now.group, after.group) == ("next_reviews_width", "now", "rate")
    assert after.reason == (
        "The violation rate is 30% (18% to 45%); 20 more reviews are expected to narrow the interval to 20% to 43%"
    )


def test_a_design_of_a_smaller_effective_size_grows_in_proportion() -> None:
    """80 reviews that are worth 25 of equal weight: 20 more make them worth 25 * 100 / 80."""
    interval = wilson(5, 25)
    _, after = expected_width(measured("violation_rate_weighted", 0.2, interval, 160), 80, more=20)
    wanted = wilson(0.2 * 31.25, 31.25)
    assert after.value == pytest.approx((wanted.high - wanted.low) / 2)


def test_far_from_the_ends_the_width_shrinks_as_one_over_the_root() -> None:
    share, interval = rate_of(2000, 4000)
    now, after = expected_width(measured("violation_rate_weighted", share, interval, 4000), 4000, more=4000)
    assert after.value / now.value == pytest.approx(1 / math.sqrt(2), rel=1e-3)  # type: ignore[operator]


def test_a_rate_without_a_value_passes_its_reason_on() -> None:
    rows = expected_width(not_computable("violation_rate_weighted", "no sample was reviewed"), 0)
    assert [(row.value, row.reason) for row in rows] == [(None, "no sample was reviewed")] * 2
    one = expected_width(measured("violation_rate_weighted", 0.5, None, 1), 1)
    assert one[1].value is None and one[1].reason == "the rate has no interval yet"


def test_an_exact_power_law_is_continued() -> None:
    """1 - AUROC = 0.6 / sqrt(n) + 0.05: from 40 to 60 labels the gain is 0.6 (40^-1/2 - 60^-1/2) = 0.0174."""
    curve = [(n, 1 - (0.6 * n**-0.5 + 0.05)) for n in SIZES for _ in range(2)]
    gain = forecast(curve, more=20, seed=0)
    assert gain.value == pytest.approx(0.6 * (40**-0.5 - 60**-0.5), abs=1e-4)
    assert gain.ci_low == pytest.approx(gain.value) and gain.ci_high == pytest.approx(gain.value)
    assert (gain.name, gain.group, gain.n) == ("next_reviews_gain", "critic", 40)
    assert gain.reason.endswith("(0.017 to 0.017): going on pays")


def test_a_falling_curve_promises_nothing() -> None:
    gain = forecast([(n, 0.9 - n / 1000) for n in SIZES for _ in range(2)], seed=0)
    assert (gain.value, gain.ci_low) == (0.0, 0.0)
    assert (
        gain.reason == "20 more reviews are expected to raise AUROC by 0.000 (0.000 to 0.000): stopping is reasonable"
    )


def test_flat_curves_promise_nothing_and_steep_ones_are_covered() -> None:
    """200 simulated curves each, seed 0, four fits a size, noise 0.01 AUROC at the largest."""
    rng, simulated = np.random.default_rng(0), 200
    flat = [forecast(make_curve(lambda n: 0.85, fits=4, noise=0.01, rng=rng), seed=s) for s in range(simulated)]
    promised = sum(gain.value != 0 for gain in flat)
    assert promised <= 0.05 * simulated, f"{promised} of {simulated} flat curves promised a gain"
    truth = 0.6 * (40**-0.5 - 60**-0.5)
    steep = [
        forecast(make_curve(lambda n: 1 - (0.6 * n**-0.5 + 0.05), fits=4, noise=0.01, rng=rng), seed=s)
        for s in range(simulated)
    ]
    covered = sum(gain.ci_low <= truth <= gain.ci_high for gain in steep)  # type: ignore[operator]
    assert wilson(covered, simulated).high >= 0.93, f"{covered} of {simulated} intervals hold the truth {truth:.4f}"
    assert np.mean([gain.value for gain in steep]) == pytest.approx(truth, rel=0.2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        ([], "fewer than 20 answers that the critic learns from, or found all of them of one kind"),
        ([(3, 0.6), (6, 0.7), (12, 0.8)] * 3, "people have judged 12 answers"),
        ([(20, 0.7), (40, 0.8)] * 3, "has 6 usable fits of 2 sizes"),
        ([(10, 0.6), (20, 0.7), (40, 0.8)], "has 3 usable fits of 3 sizes"),
        ([(10, math.nan), (20, math.nan), (40, 0.8), (40, 0.8)], "has 2 usable fits of 1 sizes"),
    ],
)
def test_too_little_to_go_by_is_said(curve: list[tuple[int, float]], why: str) -> None:
    gain = forecast(curve, seed=0)
    assert gain.value is None and why in gain.reason


def test_the_same_seed_gives_the_same_interval() -> None:
    curve = make_curve(lambda n: 1 - n**-0.5, fits=3, noise=0.01, rng=np.random.default_rng(1))
    assert forecast(curve, seed=5) == forecast(list(reversed(curve)), seed=5)


def test_what_is_advised() -> None:
    def words(value: float, low: float, high: float) -> str:
        return stop_words(measured("next_reviews_gain", value, Interval(low, high), 80))

    assert words(0.004, 0.0, 0.011) == (
        "20 more reviews are expected to raise AUROC by 0.004 (0.000 to 0.011): stopping is reasonable"
    )
    assert words(0.012, 0.006, 0.02).endswith("going on pays")
    assert words(0.012, 0.0, 0.02).endswith("the interval includes no gain at all")


def test_all_rows_of_a_phase() -> None:
    share, interval = rate_of(12, 40)
    rows = next_reviews(measured("violation_rate_weighted", share, interval, 40), 40, [], seed=3)
    assert [(row.name, row.group) for row in rows] == [
        ("next_reviews_width", "now"), ("next_reviews_width", "rate"), ("next_reviews_gain", "critic"),
    ]  # fmt: skip
