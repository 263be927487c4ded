"""The draw has exactly the chances it states, whatever the policy, and never takes two near-duplicates."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment import config
from alignment.policies import POLICIES, SIGNALS, Mix, Pool
from alignment.selection import REASONS, inclusion_probabilities, near_duplicates, next_offset, select


def make_pool(n: int, seed: int = 0, failed: tuple[int, ...] = (), twins: int = 0) -> Pool:
    """n samples of random features; the last `twins` of them are copies of the first ones, a hair apart."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(n, dtype=bool)
    mask[list(failed)] = True
    features = rng.normal(size=(n, 12))
    if twins:
        features[n - twins :] = features[:twins] + 1e-3 * rng.normal(size=(twins, 12))
    p = np.where(mask, np.nan, rng.random(n))
    members = np.clip(p + rng.normal(size=(6, n)) * 0.1, 0, 1)
    return Pool(p, members, features, mask, principles=["Private life"] * n)


def test_frequencies_match_propensities_and_the_audit_slice_is_uniform() -> None:
    pool, rng, draws = make_pool(14, failed=(3, 9)), np.random.default_rng(1), 3000
    chosen, audits = np.zeros(14), np.zeros(14)
    for _ in range(draws):
        choices = select(pool, budget=5, audit_share=0.4, rng=rng)
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


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_draws_by_its_propensities_and_never_two_of_a_group(policy: str) -> None:
    # 20 samples, of which 6 have a twin: 14 groups. 4.5 standard errors over 8 policies of 20 samples: p = 0.001.
    pool, rng, draws = make_pool(20, seed=3, twins=6), np.random.default_rng(5), 1000
    groups = near_duplicates(pool.placed[0])
    assert len(set(groups)) == 14
    assert (groups[14:] == groups[:6]).all()
    chosen = np.zeros(20)
    for _ in range(draws):
        choices = select(pool, budget=7, audit_share=0.2, rng=rng, policy=policy)
        taken = [c.chosen for c in choices]
        chosen += taken
        assert sum(taken) == 7
        assert np.bincount(groups[taken]).max() == 1
    propensity = np.array([c.propensity for c in choices])
    assert propensity.sum() == pytest.approx(7)
    assert propensity.min() >= 0.2 * 7 / 20 - 1e-9
    assert (np.abs(chosen / draws - propensity) <= 4.5 * np.sqrt(propensity * (1 - propensity) / draws) + 1e-12).all()
    assert {c.reason for c in choices} - {None, "audit"} <= {*SIGNALS} | {REASONS.get(policy)}


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 40),
    budget=st.floats(0, 50),
    audit_share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
    twins=st.integers(0, 10),
)
def test_chances_are_valid_sum_to_the_budget_and_draw_it(
    n: int, budget: float, audit_share: float, seed: int, twins: int
) -> None:
    rng = np.random.default_rng(seed)
    pool = make_pool(n, seed, twins=min(twins, n // 2))
    choices = select(pool, budget=budget, audit_share=audit_share, rng=rng)
    total = sum(c.propensity for c in choices)
    assert total == pytest.approx(min(budget, n), abs=1e-6)
    assert all(audit_share * min(budget, n) / n - 1e-9 <= c.propensity <= 1 + 1e-9 for c in choices)
    assert abs(sum(c.chosen for c in choices) - total) < 1 + 1e-6
    assert all((c.reason is not None) == c.chosen == bool(c.words) for c in choices)
    groups = near_duplicates(pool.placed[0])
    if n and budget <= len(set(groups)) and max(np.bincount(groups)) * audit_share * budget <= n:
        assert max(np.bincount(groups, weights=[c.chosen for c in choices])) <= 1


def test_chunks_with_a_carried_offset_draw_the_whole_budget_exactly() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        start, sizes, seen, drawn = float(rng.random()), [16, 16, 16, 9], [], 0
        for size in sizes:
            choices = select(
                make_pool(size, seed, twins=2), budget=24 * size / 57, audit_share=0.2, rng=rng,
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


def test_a_group_shares_one_chance_and_is_cut_at_one_by_hand() -> None:
    groups = np.array([0, 0, 1, 2])
    # No floor, 1.2 in three equal parts: the first group's 0.4 is shared 1:3.
    shared = inclusion_probabilities(np.array([1.0, 3, 2, 2]), budget=1.2, floor=0.0, groups=groups)
    assert shared == pytest.approx([0.1, 0.3, 0.4, 0.4])
    # Mean sizes 8, 1, 1 of budget 2: the first group's 1.6 is cut at 1, and 1 is left for the two others.
    cut = inclusion_probabilities(np.array([8.0, 8, 1, 1]), budget=2, floor=0.0, groups=groups)
    assert cut == pytest.approx([0.5, 0.5, 0.5, 0.5])
    # Three groups, budget 3.5: all are full, and the 0.5 that is left goes to what is not certain, the twins.
    full = inclusion_probabilities(np.array([1.0, 1, 1, 1]), budget=3.5, floor=0.0, groups=groups)
    assert full == pytest.approx([0.75, 0.75, 1, 1])


def test_near_duplicates_are_found_whatever_their_place_and_not_where_nothing_differs() -> None:
    features = np.array([[0.0, 0], [0.001, 0], [0.002, 0], [9, 0], [0, 9], [-9, 0]])
    same = np.full(6, 0.5)
    pool = Pool(same, np.zeros((0, 6)), features, np.zeros(6, dtype=bool))
    groups = near_duplicates(pool.placed[0])
    assert len(set(groups[:3])) == 1
    assert len(set(groups)) == 4
    chances = [c.propensity for c in select(pool, budget=1, audit_share=0, policy="risk", rng=np.random.default_rng(0))]
    assert chances == pytest.approx([1 / 12] * 3 + [1 / 4] * 3)
    assert len(set(near_duplicates(np.zeros((5, 3), dtype=np.float32)))) == 5


def test_enough_budget_asks_about_everything() -> None:
    choices = select(make_pool(4), budget=9, audit_share=0.5, rng=np.random.default_rng(0))
    assert all(c.chosen and c.propensity == 1 for c in choices)
    assert all(c.audit_propensity == 0.5 for c in choices)


def test_failed_critiques_come_on_top_as_unjudged() -> None:
    pool = make_pool(5, failed=(0, 1, 2, 3, 4))
    choices = select(pool, budget=2, audit_share=0.2, rng=np.random.default_rng(0))
    assert [c.reason for c in choices] == ["unjudged"] * 5
    assert all(c.propensity == 1 and c.priority == 1 and c.signals == {} for c in choices)


def test_the_reason_is_the_signal_that_contributes_most_in_plain_words() -> None:
    base = Pool(
        np.full(3, 0.02), np.full((6, 3), 0.02), np.eye(3), np.zeros(3, dtype=bool), principles=["Private life"] * 3
    )

    def words(pool: Pool, policy: str = "mix") -> str:
        return select(pool, budget=3, audit_share=0, policy=policy, rng=np.random.default_rng(0))[0].words

    def first(p: float, members: list[float] | None = None) -> Pool:
        table = base.members.copy()
        table[:, 0] = members or p
        return replace(base, probability=np.array([p, 0.02, 0.02]), members=table)

    assert words(first(0.83), "risk") == "predicted to violate Private life, 0.83"
    assert words(first(0.5), "uncertainty") == "the critic is unsure: 0.50"
    assert words(first(0.02, [0.9, 0.9, 0.1, 0.1, 0.1, 0.1])) == "two of six critics disagree"
    assert words(first(0.02, [0.05, 0.4, 0.1, 0.1, 0.1, 0.1]), "bald") == "the critics differ: 0.05 to 0.40"
    assert words(base, "diversity") == "unlike the other samples of this batch"
    assert words(base, "error_reduction") == "a judgement here tells the critic most about the other samples"
    assert words(base, "random") == "drawn at random by the policy, a chance of 100%"


def test_signals_are_kept_as_multiples_of_the_mean_before_weights() -> None:
    pool = Pool(np.array([0.6, 0.1, 0.2]), np.zeros((0, 3)), np.eye(3), np.zeros(3, dtype=bool))
    one, other = (
        select(pool, budget=1, audit_share=0, mix=m, rng=np.random.default_rng(0)) for m in (Mix(), Mix(violation=0))
    )
    assert [c.signals["violation"] for c in one] == [2.0, 0.3333, 0.6667]
    assert [c.signals for c in one] == [c.signals for c in other]
    assert [c.propensity for c in one] != [c.propensity for c in other]


def test_audit_reason_and_the_same_seed_give_the_same_draw() -> None:
    first, again = (select(make_pool(20), budget=10, audit_share=1, rng=np.random.default_rng(4)) for _ in range(2))
    assert first == again
    assert {c.reason for c in first} == {"audit", None}
    assert {c.propensity for c in first} == {0.5}


def test_sixteen_of_five_thousand_take_less_than_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    rng, n = np.random.default_rng(0), 5000
    features = rng.normal(size=(n, 1728)).astype(np.float32)
    p = rng.random(n)
    members = np.clip(p + 0.1 * rng.normal(size=(6, n)), 0, 1)
    took = []
    for _ in range(3):  # the best of three: other work on the machine is no property of the code
        start = time.perf_counter()
        pool = Pool(p, members, features, np.zeros(n, dtype=bool), labelled=features[:300] + 1)
        choices = select(pool, budget=16, audit_share=0.2, rng=rng)
        took.append(time.perf_counter() - start)
    with capsys.disabled():
        print(f"\nselection of 16 from {n} with 1,728 features: {min(took):.2f} s")
    assert sum(c.chosen for c in choices) == 16
    assert min(took) < 1


def test_bad_input_is_named() -> None:
    none = np.array([False])
    with pytest.raises(ValueError, match="probability holds a value outside"):
        Pool(np.array([np.nan]), np.zeros((1, 1)), np.zeros((1, 2)), none)
    with pytest.raises(ValueError, match=r"members has shape \(1, 2\) for 1"):
        Pool(np.zeros(1), np.zeros((1, 2)), np.zeros((1, 2)), none)
    with pytest.raises(ValueError, match="features has 2 entries for 1"):
        Pool(np.zeros(1), np.zeros((1, 1)), np.zeros((2, 2)), none)
    with pytest.raises(ValueError, match="mix is"):
        Mix(0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="policy 'best' is not one of random"):
        select(make_pool(3), budget=1, audit_share=0, policy="best", rng=np.random.default_rng(0))
    assert select(make_pool(0), budget=3, audit_share=0.2, rng=np.random.default_rng(0)) == []


def test_the_configuration_knows_the_policies_and_the_weights_of_the_mix() -> None:
    assert tuple(POLICIES) == config.POLICIES
    defaults = config.RoundConfig(round_id="r")
    assert [getattr(defaults, f"mix_{name}") for name in SIGNALS] == Mix().weights.tolist()
    with pytest.raises(ValueError, match="policy 'best' is not one of"):
        config.RoundConfig(round_id="r", policy="best")
