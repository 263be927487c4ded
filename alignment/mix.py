"""The mix learns its weights from what earlier reviews found."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alignment.config import RoundConfig
from alignment.metrics.result import measured
from alignment.policies import SIGNALS, Mix
from alignment.records import Label, Metric, Sample

PRIOR_REVIEWS = 40  # reviews that the weights before them count as much as (ours)
LEAST = 0.05  # least weight of a signal, of 1: what is never asked for can't show its worth


def learn_mix(signals_NK: ArrayLike, propensity_N: ArrayLike, found_N: ArrayLike, prior: Mix) -> Mix:
    """New weights, sum 1, after N reviews of samples that were drawn with `propensity_N` in (0, 1].

    signals_NK >= 0, columns in the order of SIGNALS: a sample's size by each signal, 1 being the mean of its
    pool (`Flag.signals`), so that 1/propensity times it weighs the review as if that signal alone had drawn.
    found_N in [0, 1]: how wrong the critic was. A signal's yield is its weighted mean of found; its weight is
    multiplied by (yield / mean yield)^(N / (N + 40)), both yields with 40 reviews of the plain mean added, so
    that few reviews change little. No review, or nothing found: the prior's ratios. Ours.
    """
    signals, found = np.asarray(signals_NK, dtype=np.float64), np.asarray(found_N, dtype=np.float64)
    before = prior.weights / prior.weights.sum()
    if not len(found):
        return _mix(before)
    if signals.shape != (len(found), len(SIGNALS)):
        raise ValueError(f"signals has shape {signals.shape}; pass [{len(found)}, {len(SIGNALS)}]")
    weight = signals / np.asarray(propensity_N, dtype=np.float64)[:, None]
    size = weight.sum(axis=0)
    # Kish's: reviews that one heavy weight outvotes count as few.
    count = np.divide(size**2, (weight**2).sum(axis=0), out=np.zeros(len(size)), where=size > 0)
    plain = float(found.mean())
    if plain <= 0:
        return _mix(before)
    yields = np.divide((weight * found[:, None]).sum(axis=0), size, out=np.full(len(size), plain), where=size > 0)
    shrunk = (count * yields + PRIOR_REVIEWS * plain) / (count + PRIOR_REVIEWS)
    trust = len(found) / (len(found) + PRIOR_REVIEWS)
    return _mix(before * (shrunk / plain) ** trust)


def mix_of(config: RoundConfig) -> Mix:
    """The weights that a round is configured with."""
    return Mix(*(getattr(config, f"mix_{name}") for name in SIGNALS))


def _mix(weights: np.ndarray) -> Mix:
    """Scaled to sum 1 with none below LEAST."""
    weights = weights / weights.sum()
    low = weights < LEAST
    if low.any():
        weights = np.where(low, LEAST, weights * (1 - LEAST * low.sum()) / max(weights[~low].sum(), 1e-12))
    return Mix(**{name: float(w) for name, w in zip(SIGNALS, weights, strict=True)})


def selection_weights(samples: list[Sample], labels: list[Label], prior: Mix) -> list[Metric]:
    """`selection_weight` rows, group = signal: what the next round's mix takes over.

    Found is |people - critic| of the answer where it is largest, by the critic before people judged.
    Samples without signals (no usable critique, or another policy) and those nobody judged stay out.
    """
    judged = {label.query: label for label in labels}
    signals, chance, found = [], [], []
    for sample in samples:
        label = judged.get(sample.query["id"])
        sizes = (sample.flag or {}).get("signals") or {}
        if label is None or set(sizes) != set(SIGNALS):
            continue
        before = {c["response"]: c["violation"] for c in sample.critiques}
        wrong = [abs(p - before[r]) for r, p in label.violates.items() if before.get(r) is not None]
        if wrong:
            signals.append([sizes[name] for name in SIGNALS])
            chance.append(sample.propensity)
            found.append(max(wrong))
    learnt = learn_mix(np.array(signals).reshape(-1, len(SIGNALS)), chance, found, prior)
    note = "" if found else "no review of a drawn sample: the weights stay as they were"
    return [
        measured("selection_weight", weight, None, len(found), group=name, note=note)
        for name, weight in zip(SIGNALS, learnt.weights, strict=True)
    ]
