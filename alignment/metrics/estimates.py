"""Rates over all samples, estimated from the reviewed ones: each counts 1/propensity times.

Flagged samples were chosen because they look bad, so their plain mean says little about the rest. What the
critic says of the others is used too in `all_samples.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, measured, not_computable, same_length
from alignment.records import Metric


def hajek(
    name: str,
    values: ArrayLike,
    weights: ArrayLike,
    *,
    clusters: Sequence[str] | None = None,
    empty: str = "no sample was reviewed",
    group: str = "",
    model: str = "new",
) -> Metric:
    """Hajek's ratio estimate sum(w y) / sum(w) of a share, y [n] in [0, 1], w [n] = 1/propensity.

    Interval: linearised variance between `clusters` (the answers to one query hang together; default: each
    on its own), turned into an effective sample size for Wilson's interval (Korn and Graubard 1998, with
    Wilson in place of Clopper-Pearson), so that it stays in [0, 1] and never has zero width. No finite
    population correction: it speaks of the process that made the samples, not only of these.
    Empty, or all weights 0: no value.
    """
    y, w = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    same_length(values=y, weights=w)
    if (w < 0).any() or not np.isfinite(w).all():
        raise ValueError(f"weights hold {w[(w < 0) | ~np.isfinite(w)][0]}; 1/propensity is finite and above 0")
    used = w > 0
    names = [str(i) for i in range(len(y))] if clusters is None else list(clusters)
    if len(names) != len(y):
        raise ValueError(f"{len(names)} cluster names for {len(y)} values; pass one per value")
    y, w, names = y[used], w[used], [c for c, u in zip(names, used, strict=True) if u]
    if len(y) == 0:
        return not_computable(name, empty, group=group, model=model)
    share = float((w * y).sum() / w.sum())
    size = _effective_size(y, w, names, share)
    return measured(name, share, wilson(share * size, size), len(y), group=group, model=model)


def weighted_rate(
    name: str,
    violates: ArrayLike,
    propensity: ArrayLike,
    *,
    clusters: Sequence[str] | None = None,
    group: str = "",
    model: str = "new",
) -> Metric:
    """Share of all answers that violate, from reviewed ones: `hajek` with w = 1/propensity.

    violates [n] in [0, 1] is people's P(violates). Flagged samples nobody got to are treated as missing at
    random within equal propensity; where people work down a queue by priority, review it to its end.
    """
    return hajek(name, violates, _inverse(propensity), clusters=clusters, group=group, model=model)


def _inverse(propensity: ArrayLike) -> Floats:
    chance = np.asarray(propensity, dtype=np.float64)
    bad = ~((chance > 0) & (chance <= 1 + 1e-9))
    if bad.any():
        raise ValueError(f"propensity holds {chance[bad][0]}; a reviewed sample's chance lies in (0, 1]")
    return 1 / np.minimum(chance, 1.0)


def _effective_size(y: Floats, w: Floats, clusters: list[str], share: float) -> float:
    """How many independent, equally weighted answers would give the same variance; at most n.

    Kish's (sum w)^2 / sum w^2, over clusters, where the linearised variance is 0 (all alike, or one cluster).
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    which = np.array([order[c] for c in clusters])
    sums = np.bincount(which, weights=w)
    kish = float(sums.sum() ** 2 / (sums**2).sum())
    residuals = np.bincount(which, weights=w * (y - share)) / w.sum()
    k = len(order)
    variance = k / (k - 1) * float((residuals**2).sum()) if k > 1 else 0.0
    if variance <= 1e-15 or not 0 < share < 1:
        return kish
    return min(share * (1 - share) / variance, float(len(y)))
