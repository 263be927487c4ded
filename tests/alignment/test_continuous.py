"""When the next round may start by itself, and what stops it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.continuous import Allowance, Cost, next_step
from alignment.gate import Limits
from alignment.records import Metric
from alignment.schedule import RoundOutcome, Settings

ALLOWANCE = Allowance(rounds=4, reviews=120, minutes=60)
LIMITS = Limits(0.05, 0.05, 1)
ROUND = Cost(1, 24, 10)


def done(number: int, *, accepted: bool = True, before: float = 0.2, after: float = 0.3) -> RoundOutcome:
    metrics = [
        Metric("hypervolume", before, None, None, 50, 0, model="old"),
        Metric("hypervolume", after, after - 0.1, after + 0.1, 50, 0, model="new"),
        Metric("competence", after, None, None, 50, 0, model="new"),
        Metric("attack_success", 0.4, None, None, 60, 0, model="new"),
    ]
    return RoundOutcome(number, "conformity", accepted, Settings((1,), (1,), 24, 0.1), metrics)


@pytest.mark.parametrize(
    ("spent", "coming", "history", "rule", "words"),
    [
        (Cost(), ROUND, [], "", "Round 1 of 4 starts."),
        (Cost(2, 31, 14), ROUND, [done(1), done(2)], "", "Round 3 of 4 starts."),
        (Cost(4, 31, 14), ROUND, [], "rounds", "The budget is spent: 4 of 4 rounds."),
        (
            Cost(2, 97, 14), ROUND, [], "reviews",
            "The budget is spent: 97 of 120 reviews, and the next round asks for 24.",
        ),
        (Cost(2, 96, 14), ROUND, [], "", "Round 3 of 4 starts."),
        (
            Cost(2, 31, 50.5), ROUND, [], "minutes",
            "The budget is spent: 50 of 60 minutes of machine time, and the next round takes about 10.",
        ),
        (Cost(1), ROUND, [done(1, accepted=False)], "", "Round 2 of 4 starts."),
        (
            Cost(2), ROUND, [done(1, accepted=False), done(2, accepted=False)], "patience",
            "No progress: all of the last 2 rounds were rolled back.",
        ),
        (
            Cost(3), ROUND, [done(1, accepted=False), done(2), done(3, accepted=False, before=0.3)], "",
            "Round 4 of 4 starts.",
        ),
        (
            Cost(3), ROUND, [done(1), done(2), done(3, after=0.202)], "gain",
            "No progress: the hypervolume gained 0.002 over the last 3 rounds, from 0.200 (n 50) to 0.202 (n 50, 0.10 "
            "to 0.30); 0.005 was asked for.",
        ),
        (Cost(3), ROUND, [done(1), done(2), done(3, after=0.9, before=0.2, accepted=False)], "gain", ""),
    ],
)  # fmt: skip
def test_rules(spent: Cost, coming: Cost, history: list[RoundOutcome], rule: str, words: str) -> None:
    step = next_step(ALLOWANCE, spent, coming, history, LIMITS)
    assert (step.rule, step.go) == (rule, not rule)
    assert step.words == words or not words


def test_a_broken_floor_stops_first() -> None:
    limits = replace(LIMITS, conformity_floor=0.7)
    step = next_step(ALLOWANCE, Cost(4, 200, 90), ROUND, [done(1)], limits)
    assert step.rule == "floor"
    assert step.words == (
        "A floor is broken: after round 1 conformity is 0.600 (1 - attack success, n 60), below its floor of 0.7."
    )


def test_rules_that_are_off() -> None:
    allowance = replace(ALLOWANCE, patience=0, window=0)
    assert next_step(allowance, Cost(), ROUND, [done(i, accepted=False) for i in range(1, 4)], LIMITS).go


@given(
    allowance=st.builds(Allowance, st.integers(0, 8), st.integers(0, 200), st.floats(0, 100), st.just(0), st.just(0)),
    costs=st.lists(st.tuples(st.integers(0, 40), st.floats(0, 30)), max_size=12),
)
def test_rounds_that_cost_what_was_expected_never_exceed_the_allowance(
    allowance: Allowance, costs: list[tuple[int, float]]
) -> None:
    spent = Cost()
    for reviews, minutes in costs:
        if not next_step(allowance, spent, Cost(1, reviews, minutes), [], LIMITS).go:
            continue
        spent = Cost(spent.rounds + 1, spent.reviews + reviews, spent.minutes + minutes)
        assert spent.rounds <= allowance.rounds
        assert spent.reviews <= allowance.reviews
        assert spent.minutes <= allowance.minutes
