"""Which samples go to people: a budgeted random draw with known chances (the design is ours).

Every judged sample has the same floor a = audit_share * budget / n. The rest of the budget is shared in
proportion to a size, which a policy gives (`policies.py`). Near-duplicates form groups: a group shares one
chance, and that is cut at 1. Chances above 1 are cut to 1 and the excess shared again. The draw is systematic,
through groups in random order: its inclusion probabilities are exactly those chances, the number drawn is the
budget, and of a group, a stretch of length 1 at most, it takes one sample or none. A drawn sample counts as
audit with probability a / chance, hence every sample is an audit sample with chance a: the audit slice is a
uniform random sample. Samples whose critique failed all go to people, on top of the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alignment.policies import POLICIES, SIGNALS, Floats, Mix, Pool, normalised, signal_shares
from alignment.records import FlagReason

ALIKE = 0.95  # cosine above which two samples of usual length count as near-duplicates
FLOOR = 0.01  # least size, as a share of the mean size: no sample is ever out of reach
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# The reason that a policy gives where it decides alone; the mix names the signal that contributes most.
REASONS: dict[str, FlagReason] = {
    "random": "random", "uncertainty": "uncertainty", "disagreement": "disagreement", "bald": "disagreement",
    "error_reduction": "error_reduction", "diversity": "diversity", "risk": "violation",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """The decision on one sample. `reason` is None and `words` empty where nobody is asked.

    `propensity` is the chance of being drawn, `audit_propensity` that of being an audit sample. A failed
    sample keeps the reason "unjudged" even when `audit` is True. `priority` in [0, 1]: higher is shown
    first; audit samples get a random one, so that people cannot tell them by their place. `signals` maps
    each signal to its size before weights, 1 being the mean of the pool.
    """

    propensity: float
    audit_propensity: float
    chosen: bool
    reason: FlagReason | None
    audit: bool
    priority: float
    words: str
    signals: dict[str, float] = field(default_factory=dict)


def select(
    pool: Pool,
    *,
    budget: float,
    audit_share: float,
    rng: np.random.Generator,
    mix: Mix | None = None,
    policy: str = "mix",
    offset: float | None = None,
) -> list[Choice]:
    """One Choice a sample, in order. Empty input: an empty list. `mix` holds the weights of the policy "mix".

    `budget` may be fractional where samples come in chunks: give each chunk its share and `offset` from
    `next_offset`, and the whole round draws exactly its budget. Without it a fractional budget is met on average.
    """
    if budget < 0 or not 0 <= audit_share <= 1:
        raise ValueError(f"budget is {budget}, audit_share {audit_share}; need budget >= 0 and a share in [0, 1]")
    judged, place = pool.judged(), np.flatnonzero(~pool.failed)
    n = len(judged)
    reasons, signals, parts = _sizes(judged, policy, mix or Mix())
    groups = near_duplicates(judged.placed[0])
    floor = audit_share * min(budget, n) / n if n else 0.0
    chance = inclusion_probabilities(parts.sum(axis=1), budget=budget, floor=floor, groups=groups)
    drawn = _systematic(chance, groups, rng, rng.random() if offset is None else offset % 1.0)
    audit_draw, random_place = rng.random(len(pool)), rng.random(len(pool))
    rank = (np.argsort(np.argsort(parts.sum(axis=1), kind="stable")) + 1) / max(n, 1)
    words = "the critic gave no usable judgement of this answer"
    choices = [Choice(1.0, floor, True, "unjudged", bool(draw < floor), 1.0, words) for draw in audit_draw]
    for k, i in enumerate(place):
        pi = float(chance[k])
        found: dict[str, float] = {name: round(float(v), 4) for name, v in zip(reasons, signals[k], strict=True)}
        if not drawn[k]:
            choices[i] = Choice(pi, floor, False, None, False, 0.0, "", found)
            continue
        audit = bool(audit_draw[i] * pi < floor)
        reason: FlagReason = "audit" if audit else reasons[int(parts[k].argmax())]
        priority = float(random_place[i]) if audit else float(rank[k])
        said = _words(judged, k, reason, floor if audit else pi)
        choices[i] = Choice(pi, floor, True, reason, audit, priority, said, found)
    return choices


def _sizes(judged: Pool, policy: str, mix: Mix) -> tuple[list[FlagReason], Floats, Floats]:
    """(reasons, [n, K] sizes with mean 1, [n, K] what each adds to the size)."""
    n = len(judged)
    if policy == "mix":
        shares = signal_shares(judged)
        return list(SIGNALS), shares * n, shares * mix.weights
    if policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is not one of {', '.join(POLICIES)}")
    parts = normalised(POLICIES[policy](judged))[:, None]
    return [REASONS[policy]], parts * n, parts


def next_offset(start: float, propensities: Sequence[float]) -> float:
    """Where the draw of the next chunk goes on: `start` in [0, 1), fixed for the round, and all chances so far."""
    return round(start - math.fsum(propensities), 9) % 1.0


def near_duplicates(placed: NDArray[np.float32], *, alike: float = ALIKE) -> NDArray[np.int64]:
    """A group number a sample [n], from centred features [n, e]; groups are connected by pairs that are alike.

    Alike: squared distance <= 2 (1 - `alike`) times the mean squared length, which is a cosine of `alike` for
    two samples of usual length, and unlike the cosine means something near the centre. No spread at all
    says nothing about who is alike: then each is on its own.
    """
    # Imported here: scipy is slow to load, and records and configuration are read without it.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(placed)
    squared = (placed**2).sum(axis=1)
    scale = float(squared.mean()) if n else 0.0
    if scale <= 0:
        return np.arange(n)
    # One product gives minus half the squared distance: (z, 1, -|z|^2/2) . (z, -|z|^2/2, 1).
    ones, half = np.ones((n, 1), dtype=placed.dtype), -0.5 * squared[:, None]
    left, right = np.concatenate([placed, ones, half], axis=1), np.concatenate([placed, half, ones], axis=1)
    rows, columns = [], []
    for start in range(0, n, 512):
        near = np.flatnonzero(left[start : start + 512] @ right[start:].T >= (alike - 1) * scale)
        rows.append(near // (n - start) + start)
        columns.append(near % (n - start) + start)
    pairs = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_matrix((np.ones(len(pairs[0]), dtype=np.int8), pairs), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def inclusion_probabilities(
    size: Floats, *, budget: float, floor: float, groups: NDArray[np.int64] | None = None
) -> Floats:
    """floor + share of the rest in proportion to `size` [n], cut at 1; sums to min(budget, n).

    A group counts with the mean size of its members and is cut at 1 as a whole, or at the sum of its floors
    where that is more. Where the budget exceeds what all groups may have, the chances of all rise evenly.
    """
    n = len(size)
    if n == 0 or budget >= n:
        return np.ones(n)
    groups = np.arange(n) if groups is None else groups
    size = np.maximum(size, FLOOR * size.mean()) if size.sum() > 0 else np.ones(n)
    count = np.bincount(groups)
    own = np.bincount(groups, weights=size) / count  # [G]: a group shares the chance of one sample
    least = floor * count
    most = np.maximum(1.0, least)
    total, full = least.copy(), np.zeros(len(count), dtype=bool)
    while not full.all():
        rest = budget - most[full].sum() - least[~full].sum()
        total = np.where(full, most, least + rest * own / own[~full].sum())
        over = (total > most) & ~full
        if not over.any():
            break
        full |= over
    total = most if full.all() else total
    chance = floor + (total - least)[groups] * size / (own * count)[groups]
    missing = budget - float(chance.sum())
    return chance + (1 - chance) * missing / (n - float(chance.sum())) if full.all() else chance


def _systematic(
    chance: Floats, groups: NDArray[np.int64], rng: np.random.Generator, offset: float
) -> NDArray[np.bool_]:
    """Draws i where a point offset + integer falls into its stretch of the cumulated chances.

    Groups come in random order, and their members in random order one after the other.
    """
    order = rng.permutation(len(chance))
    place = rng.permutation(int(groups.max()) + 1 if len(groups) else 0)
    order = order[np.argsort(place[groups[order]], kind="stable")]
    # Rounded so that a sum that is whole on paper is whole here, and draws exactly that many.
    ends = np.round(np.cumsum(chance[order]), 9)
    points = np.ceil(np.concatenate([[0.0], ends]) - offset)
    drawn = np.zeros(len(chance), dtype=bool)
    drawn[order] = np.diff(points) > 0
    return drawn


def _words(judged: Pool, k: int, reason: FlagReason, chance: float) -> str:
    p, members = judged.probability[k], judged.members[:, k]
    if reason == "violation":
        title = judged.principles[k] if judged.principles else "a principle"
        return f"predicted to violate {title}, {p:.2f}"
    if reason == "uncertainty":
        return f"the critic is unsure: {p:.2f}"
    if reason == "disagreement":
        few = min(int((members >= 0.5).sum()), int((members < 0.5).sum()))
        if few:
            return f"{_number(few)} of {_number(len(members))} critics disagree"
        return (
            f"the critics differ: {members.min():.2f} to {members.max():.2f}" if len(members) else "the critics differ"
        )
    if reason == "diversity":
        return "unlike the other samples of this batch"
    if reason == "error_reduction":
        return "a judgement here tells the critic most about the other samples"
    drawn = "for the audit" if reason == "audit" else "by the policy"
    return f"drawn at random {drawn}, a chance of {chance:.0%}"


def _number(value: int) -> str:
    return NUMBERS[value] if value < len(NUMBERS) else str(value)
