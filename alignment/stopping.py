"""What the next reviews would buy: a narrower violation rate, and a better critic. Ours throughout.

Both forecasts assume that the next reviews are chosen the way the ones so far were. They inform a person who
decides whether to go on; nothing stops by itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from alignment.metrics.bootstrap import percentile_interval
from alignment.metrics.rates import wilson
from alignment.metrics.result import Z95, Floats, Interval, measured, not_computable
from alignment.records import Metric

MORE = 20  # reviews that a forecast looks ahead
WORTH = 0.005  # AUROC that MORE reviews must be expected to add, or stopping is reasonable
FEWEST_LABELS = 20  # the curve's largest fit must have seen so many
FEWEST_SIZES = 3  # different numbers of labels on the curve
DRAWS = 500  # of the bootstrap
DECAYS_B = np.linspace(0.05, 1.0, 20)  # exponents that are tried


def next_reviews(
    rate: Metric, reviews: int, curve: Sequence[tuple[int, float]], *, more: int = MORE, seed: int
) -> list[Metric]:
    """The rows that a learn phase reports: `expected_width` of `rate` and `forecast` of the critic's `curve`."""
    return [*expected_width(rate, reviews, more=more), forecast(curve, more=more, seed=seed)]


def expected_width(rate: Metric, reviews: int, *, more: int = MORE) -> list[Metric]:
    """next_reviews_width: half the 95 % interval of a share, now (group "now") and after `more` (group "rate").

    `rate` was estimated from `reviews` >= 1 reviewed samples, by any design. Its width is turned into the
    effective size m at which Wilson's interval around the same share is as wide; after `more` reviews of the same
    design m has grown by (reviews + more) / reviews, and the share is taken to stay. For large m this is
    1/sqrt(n); unlike it, it stays right near 0 and 1. Without an interval, or with nothing reviewed: no value.
    """
    name, n = "next_reviews_width", rate.n
    if rate.value is None or rate.ci_low is None or rate.ci_high is None or reviews < 1:
        why = rate.reason if rate.value is None and rate.reason else "the rate has no interval yet"
        return [not_computable(name, why, n=n, group=group) for group in ("now", "rate")]
    now = (rate.ci_high - rate.ci_low) / 2
    size = _wilson_size(rate.value, now)
    interval = Interval(rate.ci_low, rate.ci_high)
    if math.isfinite(size):
        grown = size * (reviews + more) / reviews
        interval = wilson(rate.value * grown, grown)
    after = (interval.high - interval.low) / 2
    words = (
        f"The violation rate is {rate.value:.0%} ({rate.ci_low:.0%} to {rate.ci_high:.0%}); {more} more reviews are "
        f"expected to narrow the interval to {interval.low:.0%} to {interval.high:.0%}"
    )
    return [measured(name, now, None, n, group="now"), measured(name, after, None, n, group="rate", note=words)]


def forecast(curve: Sequence[tuple[int, float]], *, more: int = MORE, seed: int, draws: int = DRAWS) -> Metric:
    """next_reviews_gain, group "critic": how much `more` labels are expected to raise the critic's held-out AUROC.

    curve: (labels, AUROC) of fits on subsets of the people's labels, several a size; undefined scores (nan) are
    left out. 1 - AUROC = a n^-b + c with a, c >= 0 and b in (0, 1] is fitted by least squares weighted by n, and
    kept only where BIC prefers it to a flat line: a flat curve promises nothing, and no curve promises a loss.
    The gain is taken from the largest size on. Interval: bootstrap of the fits within each size (residuals
    widened by sqrt(k / (k - 1)) for k fits), the choice of the line included; the held-out answers are the same
    throughout, so it says how sure the extrapolation is, not how well the AUROC itself is known. n is the largest
    size. Fewer than FEWEST_SIZES sizes, FEWEST_LABELS labels, or two fits a size: no value.
    """
    name, group = "next_reviews_gain", "critic"
    points = sorted((size, score) for size, score in curve if size > 0 and math.isfinite(score))
    n_P = np.array([size for size, _ in points], dtype=np.float64)
    error_P = 1 - np.array([score for _, score in points], dtype=np.float64)
    largest = int(n_P.max()) if len(n_P) else 0
    if (why := _too_few(n_P, largest)) is not None:
        return not_computable(name, why, n=largest, seed=seed, group=group)
    mean_P, residual_P = _within_sizes(n_P, error_P)
    rng = np.random.default_rng(seed)
    drawn_PD = mean_P[:, None] + _redraw(n_P, residual_P, draws, rng)
    gain_D = _gains(n_P, np.column_stack([error_P, drawn_PD]), largest, more)
    interval = percentile_interval(gain_D[1:])
    value = float(gain_D[0])
    row = measured(name, value, interval, largest, seed=seed, group=group)
    return dataclasses.replace(row, reason=stop_words(row, more=more))


def stop_words(gain: Metric, *, more: int = MORE) -> str:
    """The gain and what it suggests: stopping below WORTH, going on where even the interval's low end is above 0."""
    if gain.value is None or gain.ci_low is None or gain.ci_high is None:
        return gain.reason
    expected = f"{more} more reviews are expected to raise AUROC by {gain.value:.3f}"
    interval = f"({gain.ci_low:.3f} to {gain.ci_high:.3f})"
    if gain.value < WORTH:
        advice = "stopping is reasonable"
    elif gain.ci_low > 0:
        advice = "going on pays"
    else:
        advice = "going on may pay, but the interval includes no gain at all"
    return f"{expected} {interval}: {advice}"


# --- Parts ------------------------------------------------------------------------------------------


def _wilson_size(share: float, half: float) -> float:
    """The n at which Wilson's interval around `share` has this half-width; inf for a width of 0 (or of 1/2 on).

    With x = z^2/n the half-width is sqrt(p(1-p) x + x^2/4) / (1 + x), a quadratic in x with one positive root.
    """
    if not 0 < half < 0.5:
        return math.inf
    a, b, c = half**2 - 0.25, 2 * half**2 - share * (1 - share), half**2
    x = (-b - math.sqrt(b * b - 4 * a * c)) / (2 * a)
    return Z95**2 / x


def _too_few(n_P: Floats, largest: int) -> str | None:
    sizes, fits = np.unique(n_P, return_counts=True)
    if not largest:
        return (
            f"people have judged fewer than {FEWEST_LABELS} answers that the critic learns from, or found all of them "
            f"of one kind"
        )
    if largest < FEWEST_LABELS:
        return f"people have judged {largest} answers that the critic learns from; {FEWEST_LABELS} are needed"
    if len(sizes) < FEWEST_SIZES or (fits >= 2).sum() < FEWEST_SIZES - 1:
        return (
            f"the critic's learning curve has {len(n_P)} usable fits of {len(sizes)} sizes; {FEWEST_SIZES} are needed"
        )
    return None


def _within_sizes(n_P: Floats, error_P: Floats) -> tuple[Floats, Floats]:
    """(mean error of the point's size, its widened residual); a size with one fit borrows in `_redraw`."""
    mean_P, residual_P = np.zeros_like(error_P), np.full_like(error_P, np.nan)
    for size in np.unique(n_P):
        own = n_P == size
        mean_P[own] = error_P[own].mean()
        if (k := int(own.sum())) >= 2:
            residual_P[own] = (error_P[own] - mean_P[own]) * math.sqrt(k / (k - 1))
    return mean_P, residual_P


def _redraw(n_P: Floats, residual_P: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """[P, D] residuals drawn with replacement within each size; one fit alone draws from all the others'."""
    drawn_PD = np.empty((len(n_P), draws))
    everywhere = residual_P[np.isfinite(residual_P)]
    for size in np.unique(n_P):
        own = n_P == size
        source = residual_P[own] if own.sum() >= 2 else everywhere
        drawn_PD[own] = rng.choice(source, (int(own.sum()), draws))
    return drawn_PD


def _gains(n_P: Floats, error_PD: Floats, largest: int, more: int) -> Floats:
    """[D] error at `largest` minus error at `largest` + `more` on the line fitted to each column; never below 0."""
    points = len(n_P)
    weight_P = (n_P / n_P.mean())[:, None]
    flat_D = np.average(error_PD, axis=0, weights=n_P)
    least_D = (weight_P * (error_PD - flat_D) ** 2).sum(axis=0)
    curved_D = np.full(error_PD.shape[1], np.inf)
    gain_D = np.zeros(error_PD.shape[1])
    for b in DECAYS_B:
        power_P = (n_P / largest) ** -b  # 1 at the largest size, so that a is the part of the error that can go
        a_D, c_D = _fit_line(power_P, error_PD, n_P)
        rest_D = (weight_P * (error_PD - a_D * power_P[:, None] - c_D) ** 2).sum(axis=0)
        better_D = rest_D < curved_D
        curved_D[better_D] = rest_D[better_D]
        gain_D[better_D] = (a_D * (1 - ((largest + more) / largest) ** -b))[better_D]
    # BIC: the curve has two parameters more than the flat line.
    tiny = 1e-12
    bic_D = points * (np.log(curved_D + tiny) - np.log(least_D + tiny)) + 2 * math.log(points)
    return np.where(bic_D < 0, gain_D, 0.0)


def _fit_line(x_P: Floats, y_PD: Floats, weight_P: Floats) -> tuple[Floats, Floats]:
    """(a [D], c [D]) of y = a x + c by weighted least squares, a and c >= 0; y >= 0."""
    w_P = weight_P / weight_P.sum()
    x_mean, y_mean_D = float(w_P @ x_P), w_P @ y_PD
    a_D = (w_P * (x_P - x_mean)) @ (y_PD - y_mean_D) / float(w_P @ (x_P - x_mean) ** 2)
    c_D = y_mean_D - a_D * x_mean
    through_zero_D = np.maximum((w_P * x_P) @ y_PD / float(w_P @ x_P**2), 0.0)
    falls = a_D <= 0
    a_D = np.where(falls, 0.0, np.where(c_D < 0, through_zero_D, a_D))
    c_D = np.where(falls, y_mean_D, np.maximum(c_D, 0.0))
    return a_D, c_D
