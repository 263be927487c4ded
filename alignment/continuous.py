"""Whether the next round may start by itself: a stated allowance, and rules that stop (ours). Pure functions.

A round is launched only where the allowance still holds all that it is expected to cost, so that rounds which cost
what was expected never exceed it. A running round is not cut: one that takes longer than any before it can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alignment.gate import Limits, broken_floor
from alignment.records import Metric, Record
from alignment.schedule import RoundOutcome

Rule = Literal["", "rounds", "reviews", "minutes", "floor", "patience", "gain"]


@dataclass(frozen=True)
class Allowance(Record):
    """What rounds may cost in total, and when they stop making progress."""

    rounds: int
    reviews: int  # judgements of people
    minutes: float  # of machine time
    patience: int = 2  # rounds in a row without an accepted checkpoint that stop; 0: never
    window: int = 3  # rounds over which the hypervolume has to gain; 0: never looked at
    least_gain: float = 0.005  # of hypervolume, over those rounds


@dataclass(frozen=True)
class Cost:
    rounds: int = 0
    reviews: int = 0
    minutes: float = 0.0


@dataclass(frozen=True)
class Step:
    """`go`, or the rule that says stop; `words` say either for people."""

    go: bool
    words: str
    rule: Rule = ""


def next_step(allowance: Allowance, spent: Cost, coming: Cost, history: Sequence[RoundOutcome], limits: Limits) -> Step:
    """Whether a round that costs `coming` may follow what was `spent`.

    `history` are the finished rounds since the start, oldest first, and `limits` those of the newest: a floor broken
    or no progress stops before the allowance is looked at, because it is the more telling reason.
    """
    return (
        _floor(history, limits) or _patience(allowance, history) or _gain(allowance, history)
        or _allowance(allowance, spent, coming)
        or Step(True, f"Round {spent.rounds + 1} of {allowance.rounds} starts.")
    )  # fmt: skip


def _floor(history: Sequence[RoundOutcome], limits: Limits) -> Step | None:
    if not history:
        return None
    broken = broken_floor([m for m in history[-1].metrics if m.model == "new"], limits)
    return Step(False, f"A floor is broken: after round {history[-1].number} {broken}.", "floor") if broken else None


def _patience(allowance: Allowance, history: Sequence[RoundOutcome]) -> Step | None:
    recent = history[-allowance.patience :] if allowance.patience else []
    if not recent or len(recent) < allowance.patience or any(r.accepted for r in recent):
        return None
    rounds = f"round {recent[0].number} was" if len(recent) == 1 else f"all of the last {len(recent)} rounds were"
    return Step(False, f"No progress: {rounds} rolled back.", "patience")


def _gain(allowance: Allowance, history: Sequence[RoundOutcome]) -> Step | None:
    """Of the model that is kept: after an accepted round the new one's, after a rolled-back one the old one's."""
    recent = history[-allowance.window :] if allowance.window else []
    if not recent or len(recent) < allowance.window:
        return None
    before = recent[0].find("hypervolume", model="old")
    after = recent[-1].find("hypervolume", model="new" if recent[-1].accepted else "old")
    if before is None or after is None or before.value is None or after.value is None:
        return None  # what is not known stops nothing; the allowance does
    gain = after.value - before.value
    if gain >= allowance.least_gain:
        return None
    words = (
        f"No progress: the hypervolume gained {gain:.3f} over the last {len(recent)} rounds, from {_number(before)} to "
        f"{_number(after)}; {allowance.least_gain:g} was asked for."
    )
    return Step(False, words, "gain")


def _allowance(allowance: Allowance, spent: Cost, coming: Cost) -> Step | None:
    if spent.rounds + coming.rounds > allowance.rounds:
        return Step(False, f"The budget is spent: {spent.rounds} of {allowance.rounds} rounds.", "rounds")
    if spent.reviews + coming.reviews > allowance.reviews:
        words = f"{spent.reviews} of {allowance.reviews} reviews, and the next round asks for {coming.reviews}"
        return Step(False, f"The budget is spent: {words}.", "reviews")
    if spent.minutes + coming.minutes > allowance.minutes:
        words = (
            f"{spent.minutes:.0f} of {allowance.minutes:.0f} minutes of machine time, and the next round takes about "
        )
        return Step(False, f"The budget is spent: {words}{max(1, math.ceil(coming.minutes))}.", "minutes")
    return None


def _number(metric: Metric) -> str:
    span = "" if metric.ci_low is None or metric.ci_high is None else f", {metric.ci_low:.2f} to {metric.ci_high:.2f}"
    return f"{metric.value:.3f} (n {metric.n}{span})"
