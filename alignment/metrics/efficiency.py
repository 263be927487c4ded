"""What a review buys, compared with reviewing at random."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from alignment.metrics.result import Z95, Interval, measured, not_computable, same_length
from alignment.records import Metric


def review_yield(found: ArrayLike, audit: ArrayLike, *, model: str = "new") -> Metric:
    """Violations found a review, over violations found an audit review; 1 = no better than chance.

    found [n]: the review found a violation; audit [n]: the sample was drawn uniformly at random. The audit
    reviews are part of all reviews, so numerator and denominator share them. Interval: log scale, delta
    method with that covariance, shares smoothed by half a count so that it has width at 0 and 1.
    No reviews, no audit reviews, or no violation in the audit slice: no value.
    """
    hit, drawn = np.asarray(found, dtype=bool), np.asarray(audit, dtype=bool)
    n = same_length(found=hit, audit=drawn)
    m = int(drawn.sum())
    if n == 0 or m == 0:
        why = "nothing was reviewed" if n == 0 else "no audit sample was reviewed"
        return not_computable("review_yield", why, n=n, model=model)
    audit_hits, hits = int(hit[drawn].sum()), int(hit.sum())
    if audit_hits == 0:
        why = f"the audit slice ({m} reviews) holds no violation to compare with"
        return not_computable("review_yield", why, n=n, model=model)
    value = (hits / n) / (audit_hits / m)
    if m == n:
        why = "every review was an audit review, so the ratio is 1 by definition"
        return measured("review_yield", value, None, n, model=model, note=why)
    k = n - m
    q, r = (audit_hits + 0.5) / (m + 1), (hits - audit_hits + 0.5) / (k + 1)
    p = (m * q + k * r) / n
    variance_all = (m * q * (1 - q) + k * r * (1 - r)) / (n * p) ** 2
    variance = variance_all + (1 - q) / (m * q) - 2 * (1 - q) / (n * p)
    half = Z95 * math.sqrt(max(variance, 0.0))
    return measured("review_yield", value, Interval(value * math.exp(-half), value * math.exp(half)), n, model=model)
