"""The draw has exactly the chances it states, whatever the signals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.selection import Mix, Signals, inclusion_probabilities, next_offset, select


def signals(n: int, seed: int = 0, failed: tuple[int, ...] = ()) -> Signals:
    rng = np.random.default_rng(seed)
    mask = np.zeros(n, dtype=bool)
    mask[list(failed)] = True
    return Signals(
        violation=np.where(mask, np.nan, rng.random(n)),
        uncertainty=np.where(mask, np.nan, rng.random(n) * 0.3),
        disagreement=np.where(mask, np.nan, rng.integers(0, 4, n) / 6),
        features=rng.normal(size=(n, 5)),
        failed=mask,
        principles=["Private life"] * n,
        members=6,
    )


def test_frequencies_match_propensities_and_the_audit_slice_is_uniform() -> None:
    given_signals, rng, draws = signals(14, failed=(3, 9)), np.random.default_rng(1), 6000
    chosen, audits = np.zeros(14), np.zeros(14)
    for _ in range(draws):
        choices = select(given_signals, budget=5, audit_share=0.4, mix=Mix(), rng=rng)
        chosen += [c.chosen for c in choices]
        audits += [c.audit for c in choices]
        assert sum(c.chosen for c in choices) == 5 + 2
    propensity = np.array([c.propensity for c in choices])
    assert propensity[[3, 9]].tolist() == [1, 1]
    assert np.delete(propensity, [3, 9]).sum() == pytest.approx(5)
    noise = np.sqrt(propensity * (1 - propensity) / draws)
    assert (np.abs(chosen / draws - propensity) <= 4 * noise + 1e-12).all()
    audit_chance = 0.4 * 5 / 12
    assert (np.abs(audits / draws - audit_chance) <= 4 * np.sqrt(audit_chance * (1 - audit_chance) / draws)).all()
    assert all(c.audit_propensity == pytest.approx(audit_chance) for c in choices)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 40),
    budget=st.floats(0, 50),
    audit_share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_chances_are_valid_sum_to_the_budget_and_draw_it(n: int, budget: float, audit_share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    choices = select(signals(n, seed), budget=budget, audit_share=audit_share, mix=Mix(), rng=rng)
    total = sum(c.propensity for c in choices)
    assert total == pytest.approx(min(budget, n), abs=1e-6)
    assert all(audit_share * min(budget, n) / n - 1e-9 <= c.propensity <= 1 + 1e-9 for c in choices)
    assert abs(sum(c.chosen for c in choices) - total) < 1 + 1e-6
    assert all((c.reason is not None) == c.chosen == bool(c.words) for c in choices)


def test_chunks_with_a_carried_offset_draw_the_whole_budget_exactly() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        start, sizes, seen, drawn = float(rng.random()), [16, 16, 16, 9], [], 0
        for size in sizes:
            choices = select(
                signals(size, seed), budget=24 * size / 57, audit_share=0.2, mix=Mix(), rng=rng,
                offset=next_offset(start, seen),
            )  # fmt: skip
            seen += [c.propensity for c in choices]
            drawn += sum(c.chosen for c in choices)
        assert drawn == 24


def test_chances_above_one_are_cut_and_the_excess_shared_by_hand() -> None:
    # Floor 0.1 each, 2.6 left: 8:1:1:0.. over four items gives 2.18 to the first, so it is cut to 1, and
    # 3 - 1 - 0.3 = 1.7 is shared 1:1:2.
    chance = inclusion_probabilities(np.array([8.0, 1, 1, 2]), budget=3, floor=0.1)
    assert chance == pytest.approx([1, 0.1 + 1.7 / 4, 0.1 + 1.7 / 4, 0.1 + 1.7 / 2])


def test_enough_budget_asks_about_everything() -> None:
    choices = select(signals(4), budget=9, audit_share=0.5, mix=Mix(), rng=np.random.default_rng(0))
    assert all(c.chosen and c.propensity == 1 for c in choices)
    assert all(c.audit_propensity == 0.5 for c in choices)


def test_near_duplicates_share_one_chance() -> None:
    features = np.array([[0.0, 0], [0.001, 0], [0.002, 0], [9, 0], [0, 9], [-9, 0]])
    same = np.full(6, 0.5)
    base = Signals(same, same, same, features, np.zeros(6, dtype=bool))
    mix = Mix(violation=1, uncertainty=0, disagreement=0, diversity=0)
    choices = select(base, budget=1, audit_share=0, mix=mix, rng=np.random.default_rng(0))
    chances = [c.propensity for c in choices]
    assert chances[0] == pytest.approx(chances[3] / 3, rel=1e-3)
    assert sum(chances[:3]) == pytest.approx(chances[3], rel=1e-3)


def test_failed_critiques_come_on_top_as_unjudged() -> None:
    choices = select(
        signals(5, failed=(0, 1, 2, 3, 4)), budget=2, audit_share=0.2, mix=Mix(), rng=np.random.default_rng(0)
    )
    assert [c.reason for c in choices] == ["unjudged"] * 5
    assert all(c.propensity == 1 and c.priority == 1 for c in choices)


def test_the_reason_is_the_signal_that_contributes_most_in_plain_words() -> None:
    def one_signal(**values: float) -> Signals:
        n = 3
        columns = {k: np.array([values.get(k, 0.0), 0.01, 0.01]) for k in ("violation", "uncertainty", "disagreement")}
        failed = np.zeros(n, dtype=bool)
        return Signals(**columns, features=np.eye(3), failed=failed, principles=["Private life"] * n, members=6)

    def words(given_signals: Signals) -> str:
        return select(given_signals, budget=3, audit_share=0, mix=Mix(), rng=np.random.default_rng(0))[0].words

    assert words(one_signal(violation=0.83)) == "predicted to violate Private life, 0.83"
    assert words(one_signal(disagreement=2 / 6)) == "two of six critics disagree"
    assert words(one_signal(uncertainty=0.21)) == "the critic is unsure: 0.00, give or take 0.21"
    assert words(one_signal()) == "unlike the other samples of this batch"


def test_audit_reason_and_the_same_seed_give_the_same_draw() -> None:
    first, again = (
        select(signals(20), budget=10, audit_share=1, mix=Mix(), rng=np.random.default_rng(4)) for _ in range(2)
    )
    assert first == again
    assert {c.reason for c in first} == {"audit", None}
    assert {c.propensity for c in first} == {0.5}


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="violation holds a missing"):
        Signals(np.array([np.nan]), np.zeros(1), np.zeros(1), np.zeros((1, 2)), np.array([False]))
    with pytest.raises(ValueError, match="uncertainty has 2 entries for 1"):
        Signals(np.zeros(1), np.zeros(2), np.zeros(1), np.zeros((1, 2)), np.array([False]))
    with pytest.raises(ValueError, match="mix is"):
        Mix(0, 0, 0, 0)
    assert select(signals(0), budget=3, audit_share=0.2, mix=Mix(), rng=np.random.default_rng(0)) == []
