"""Which samples go to people: a budgeted random draw with known chances (the design is ours).

Every judged sample has the same floor a = audit_share * budget / n. The rest of the budget is shared in
proportion to a size: the four signals, each normalised to sum 1 and weighted by the mix, divided by how
crowded the sample's neighbourhood is, so that near-duplicates share one another's chance. Chances above 1 are
cut to 1 and the excess shared again. The draw is systematic in random order: its inclusion probabilities are
exactly those chances, and the number drawn is the budget. A drawn sample counts as audit with probability
a / chance, hence every sample is an audit sample with chance a: the audit slice is a uniform random sample.
Samples whose critique failed all go to people, on top of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alignment.records import FlagReason

Floats = NDArray[np.float64]
SIGNALS: tuple[FlagReason, ...] = ("violation", "uncertainty", "disagreement", "diversity")
NEIGHBOUR = 1 / 3  # width of a neighbourhood, in median distances between samples
FLOOR = 0.01  # least size, as a share of the mean size: no sample is ever out of reach
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True)
class Signals:
    """What the critic found, one entry a sample. Entries of failed samples are ignored and may be nan.

    violation, uncertainty, disagreement [n] are >= 0 as in `records.Critique` (for two answers take the
    larger); features [n, d] place samples for diversity; failed [n]: no usable critique.
    `principles` [n] are titles for the words; `members` is the size of the critic's ensemble, 0 if unknown.
    """

    violation: Floats
    uncertainty: Floats
    disagreement: Floats
    features: Floats
    failed: NDArray[np.bool_]
    principles: Sequence[str] = ()
    members: int = 0

    def __post_init__(self) -> None:
        n = len(self.failed)
        for name in ("violation", "uncertainty", "disagreement", "features"):
            values = getattr(self, name)
            if len(values) != n:
                raise ValueError(f"{name} has {len(values)} entries for {n} samples; pass one per sample")
            judged = values[~self.failed]
            if judged.size and not (np.isfinite(judged).all() and (name == "features" or (judged >= 0).all())):
                raise ValueError(f"{name} holds a missing or negative value for a judged sample; mark it failed")
        if self.principles and len(self.principles) != n:
            raise ValueError(f"{len(self.principles)} principle titles for {n} samples; pass one per sample, or none")


@dataclass(frozen=True)
class Mix:
    """Weights of the signals; only their ratio matters."""

    violation: float = 0.35
    uncertainty: float = 0.3
    disagreement: float = 0.15
    diversity: float = 0.2

    def __post_init__(self) -> None:
        weights = (self.violation, self.uncertainty, self.disagreement, self.diversity)
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"mix is {weights}; weights are 0 or more and at least one is above 0")


@dataclass(frozen=True)
class Choice:
    """The decision on one sample. `reason` is None and `words` empty where nobody is asked.

    `propensity` is the chance of being drawn, `audit_propensity` that of being an audit sample. A failed
    sample keeps the reason "unjudged" even when `audit` is True. `priority` in [0, 1]: higher is shown
    first; audit samples get a random one, so that people cannot tell them by their place.
    """

    propensity: float
    audit_propensity: float
    chosen: bool
    reason: FlagReason | None
    audit: bool
    priority: float
    words: str


def select(
    signals: Signals,
    *,
    budget: float,
    audit_share: float,
    mix: Mix,
    rng: np.random.Generator,
    offset: float | None = None,
) -> list[Choice]:
    """One Choice a sample, in order. Empty input: an empty list.

    `budget` may be fractional where samples come in chunks: give each chunk its share and `offset` from
    `next_offset`, and the whole round draws exactly its budget. Without it a fractional budget is met on average.
    """
    if budget < 0 or not 0 <= audit_share <= 1:
        raise ValueError(f"budget is {budget}, audit_share {audit_share}; need budget >= 0 and a share in [0, 1]")
    judged = np.flatnonzero(~signals.failed)
    n = len(judged)
    parts = _contributions(signals, judged, mix)  # [n, 4]
    floor = audit_share * min(budget, n) / n if n else 0.0
    chance = inclusion_probabilities(parts.sum(axis=1), budget=budget, floor=floor)
    drawn = _systematic(chance, rng, rng.random() if offset is None else offset % 1.0)
    audit_draw, random_place = rng.random(len(signals.failed)), rng.random(len(signals.failed))
    rank = (np.argsort(np.argsort(parts.sum(axis=1), kind="stable")) + 1) / max(n, 1)
    choices: list[Choice] = []
    place = {int(item): position for position, item in enumerate(judged)}
    for i in range(len(signals.failed)):
        if signals.failed[i]:
            words = "the critic gave no usable judgement of this answer"
            choices.append(Choice(1.0, floor, True, "unjudged", bool(audit_draw[i] < floor), 1.0, words))
            continue
        k = place[i]
        pi = float(chance[k])
        if not drawn[k]:
            choices.append(Choice(pi, floor, False, None, False, 0.0, ""))
            continue
        audit = bool(audit_draw[i] * pi < floor)
        reason: FlagReason = "audit" if audit else SIGNALS[int(parts[k].argmax())]
        priority = float(random_place[i]) if audit else float(rank[k])
        words = _words(signals, i, reason, floor)
        choices.append(Choice(pi, floor, True, reason, audit, priority, words))
    return choices


def next_offset(start: float, propensities: Sequence[float]) -> float:
    """Where the draw of the next chunk goes on: `start` in [0, 1), fixed for the round, and all chances so far."""
    return round(start - math.fsum(propensities), 9) % 1.0


def inclusion_probabilities(size: Floats, *, budget: float, floor: float) -> Floats:
    """floor + share of the rest in proportion to `size` [n], cut at 1; sums to min(budget, n)."""
    n = len(size)
    if n == 0 or budget >= n:
        return np.ones(n)
    size = np.maximum(size, FLOOR * size.mean()) if size.sum() > 0 else np.ones(n)
    chance = np.full(n, floor)
    full = np.zeros(n, dtype=bool)
    while True:
        rest = budget - full.sum() - floor * (~full).sum()
        chance = np.where(full, 1.0, floor + rest * size / size[~full].sum())
        over = (chance > 1) & ~full
        if not over.any():
            return chance
        full |= over


def _systematic(chance: Floats, rng: np.random.Generator, offset: float) -> NDArray[np.bool_]:
    """Draws i where a point offset + integer falls into its stretch of the cumulated chances, in random order."""
    order = rng.permutation(len(chance))
    # Rounded so that a sum that is whole on paper is whole here, and draws exactly that many.
    ends = np.round(np.cumsum(chance[order]), 9)
    points = np.ceil(np.concatenate([[0.0], ends]) - offset)
    drawn = np.zeros(len(chance), dtype=bool)
    drawn[order] = np.diff(points) > 0
    return drawn


def _contributions(signals: Signals, judged: NDArray[np.int64], mix: Mix) -> Floats:
    """[n, 4]: what each signal adds to a sample's size, after damping by the density of its neighbourhood."""
    density, novelty = _neighbourhood(signals.features[judged])
    columns = [signals.violation[judged], signals.uncertainty[judged], signals.disagreement[judged], novelty]
    weights = (mix.violation, mix.uncertainty, mix.disagreement, mix.diversity)
    shares = [w * c / c.sum() if c.sum() > 0 else np.zeros(len(c)) for w, c in zip(weights, columns, strict=True)]
    parts: Floats = np.stack(shares, axis=1) / density[:, None]
    return parts


def _neighbourhood(features: Floats) -> tuple[Floats, Floats]:
    """(density, novelty), each [n]. Distances d are measured in their median over pairs.

    density = sum over samples of exp(-(d / width)^2): 1 alone, 2 with an exact duplicate.
    novelty = distance to the nearest other sample, at most 1.
    """
    n = len(features)
    if n < 2:
        return np.ones(n), np.ones(n)
    squared = (features**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squared[:, None] + squared[None, :] - 2 * features @ features.T, 0.0))
    pairs = distance[np.triu_indices(n, 1)]
    scale = float(np.median(pairs)) or float(pairs.max())
    if scale <= 0:
        return np.full(n, float(n)), np.zeros(n)
    distance /= scale
    density = np.exp(-((distance / NEIGHBOUR) ** 2)).sum(axis=1)
    np.fill_diagonal(distance, np.inf)
    return density, np.minimum(distance.min(axis=1), 1.0)


def _words(signals: Signals, i: int, reason: FlagReason, floor: float) -> str:
    p = signals.violation[i]
    if reason == "violation":
        title = signals.principles[i] if signals.principles else "a principle"
        return f"predicted to violate {title}, {p:.2f}"
    if reason == "uncertainty":
        return f"the critic is unsure: {p:.2f}, give or take {signals.uncertainty[i]:.2f}"
    if reason == "disagreement":
        share = float(signals.disagreement[i])
        if not signals.members:
            return f"{share:.0%} of the critics disagree with the rest"
        few = round(share * signals.members)
        return f"{_number(few)} of {_number(signals.members)} critics disagree"
    if reason == "diversity":
        return "unlike the other samples of this batch"
    return f"drawn at random for the audit, a chance of {floor:.0%}"


def _number(value: int) -> str:
    return NUMBERS[value] if value < len(NUMBERS) else str(value)
