"""Members' weights, the correlation of their errors, and the learning curve."""

from __future__ import annotations

import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from alignment import critic_curve
from alignment.critic import Critic, HeldOut
from alignment.critic_curve import DRAWS, learning_curve
from alignment.critic_fit import fit_critic
from alignment.critic_metrics import member_metrics
from alignment.heads import Head
from alignment.metrics.result import Interval, measured
from alignment.records import Metric
from alignment.stopping import next_reviews
from tests.alignment.made_answers import PRINCIPLES, rows, wide


def critic(**weights: float) -> Critic:
    head = Head(np.zeros(1), np.ones(1), np.zeros(1), 0.0)
    return Critic(dict.fromkeys(weights, head), dict(weights), {}, {})


def held_out(errors_MN: np.ndarray) -> HeldOut:
    n = errors_MN.shape[1]
    return HeldOut([0.5] * n, [0.5] * n, [""] * n, errors_MN)


def by_group(found: list[Metric], name: str) -> dict[str, Metric]:
    return {m.group: m for m in found if m.name == name}


def test_weights_and_correlations_by_hand() -> None:
    """b errs as a does, c the other way round, on 12 answers; a and d share nothing: r is 1, -1 and 0."""
    a = np.array([0.1, -0.1, 0.3, -0.3] * 3)
    d = np.array([0.2, 0.2, -0.2, -0.2] * 3)  # a . d = 0.02 - 0.02 - 0.06 + 0.06
    found = member_metrics(critic(a=0.5, b=0.25, c=0.25, d=0.0), held_out(np.stack([a, 2 * a + 0.1, -a, d])), seed=0)
    weights = by_group(found, "critic_member_weight")
    assert {g: (m.value, m.ci_low, m.n) for g, m in weights.items()} == {
        "a": (0.5, None, 12), "b": (0.25, None, 12), "c": (0.25, None, 12), "d": (0.0, None, 12)
    }  # fmt: skip
    pairs = by_group(found, "critic_error_correlation")
    assert set(pairs) == {"a|b", "a|c", "a|d", "b|c", "b|d", "c|d", ""}
    values = [pairs[g].value for g in ("a|b", "a|c", "a|d", "b|c")]
    assert values == pytest.approx([1.0, -1.0, 0.0, -1.0], abs=1e-9)
    assert pairs[""].value == pytest.approx((1 - 1 + 0 - 1 + 0 + 0) / 6)
    assert (pairs["a|b"].ci_low, pairs["a|b"].n) == (pytest.approx(1.0), 12)
    low, high = pairs["a|d"].ci_low, pairs["a|d"].ci_high
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_the_interval_holds_the_true_correlation() -> None:
    """200 sets of 60 errors with a true correlation of 0.6: the intervals hold it in about 95%."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        shared, own = rng.normal(size=60), rng.normal(size=(2, 60))
        errors = np.sqrt(0.6) * shared + np.sqrt(0.4) * own
        found = member_metrics(critic(a=0.5, b=0.5), held_out(errors), seed=1)
        pair = by_group(found, "critic_error_correlation")["a|b"]
        assert pair.ci_low is not None
        assert pair.ci_high is not None
        inside += pair.ci_low <= 0.6 <= pair.ci_high
    assert 0.88 <= inside / 200 <= 0.99


def test_with_fewer_than_ten_answers_or_flat_errors_there_is_no_correlation() -> None:
    few = by_group(member_metrics(critic(a=0.5, b=0.5), held_out(np.eye(2, 9)), seed=0), "critic_error_correlation")
    assert {g: m.value for g, m in few.items()} == {"a|b": None, "": None}
    assert "people have judged 9 answers" in few["a|b"].reason
    flat = np.stack([np.arange(10.0), np.full(10, 0.3), np.arange(10.0)[::-1]])
    found = by_group(member_metrics(critic(a=1, b=0, c=0), held_out(flat), seed=0), "critic_error_correlation")
    assert (found["a|b"].value, found["b|c"].value) == (None, None)
    assert "same error everywhere" in found["a|b"].reason
    assert found["a|c"].value == found[""].value == pytest.approx(-1)  # the mean is over what can be computed
    nobody = member_metrics(critic(a=0.5, b=0.5), HeldOut([], []), seed=0)
    assert by_group(nobody, "critic_error_correlation")[""].n == 0
    single = member_metrics(critic(a=1.0), held_out(np.ones((1, 20))), seed=0)
    assert "single member" in single[-1].reason


def test_layers_that_read_the_same_sentence_err_together() -> None:
    made = rows(80, noise=1.5)
    found = member_metrics(*fit_critic(made, PRINCIPLES, seed=0), seed=0)
    weights = by_group(found, "critic_member_weight")
    assert sum(m.value or 0 for m in weights.values()) == pytest.approx(1)
    pairs = by_group(found, "critic_error_correlation")
    assert len(pairs) == 15 + 1
    # "peak 1" is "layer 1" again here, where answers are a single sentence; two layers have noise of their own.
    same, apart = pairs["layer 1|peak 1"].value, pairs["layer 1|layer 2"].value
    assert same is not None
    assert apart is not None
    assert same > 0.99
    assert apart < same


def test_the_curve_rises_where_labels_help_and_has_six_fits_a_size() -> None:
    made = [*rows(20, seed=1, human=False, noise=3.0), *rows(160, noise=3.0)]
    curve = learning_curve(made, seed=0)
    assert [size for size, _ in curve] == [s for s in (40, 80, 120, 160) for _ in range(DRAWS)]
    mean = {size: np.mean([score for n, score in curve if n == size]) for size in (40, 160)}
    assert mean[160] > mean[40] + 0.01
    assert all(0.4 < score <= 1 for _, score in curve)
    assert curve == learning_curve(made, seed=0)
    rate = measured("violation_rate_weighted", 0.5, Interval(0.4, 0.6), 160)
    gain = next_reviews(rate, 160, curve, seed=0)[-1]
    assert gain.value is not None
    assert 0 <= gain.value < 0.1


def test_prompts_are_drawn_and_not_answers() -> None:
    """Ten prompts of 8 answers each: a quarter of them is three whole prompts, and each share lies in the next."""
    made = [replace(row, prompt=f"prompt {i // 8}") for i, row in enumerate(rows(80))]
    seen: list[set[str]] = []
    real = critic_curve.held_out_logits

    def spy(material, *args, **options):  # type: ignore[no-untyped-def]
        seen.append({g for g, w in zip(material.groups, material.weight, strict=True) if w > 0})
        counts = [int(((material.groups == g) & (material.weight > 0)).sum()) for g in seen[-1]]
        assert set(counts) == {8}  # never half a prompt
        return real(material, *args, **options)

    with patch.object(critic_curve, "held_out_logits", spy):
        curve = learning_curve(made, seed=0)
    assert [len(s) for s in seen] == [3, 5, 8, 10] * DRAWS
    assert seen[0] < seen[1] < seen[2] < seen[3]
    assert len({frozenset(s) for s in seen[::4]}) > 1
    assert sorted({n for n, _ in curve}) == [20, 40, 60, 80]


def test_without_enough_labels_of_both_kinds_there_is_no_curve() -> None:
    assert learning_curve(rows(19), seed=0) == []
    assert learning_curve([*rows(40, seed=1, human=False), *rows(19)], seed=0) == []
    assert learning_curve([r for r in rows(80) if r.violates], seed=0) == []
    assert learning_curve([], seed=0) == []
    assert len(learning_curve(rows(20), seed=0)) == 4 * DRAWS


def test_the_curve_of_320_labels_takes_a_moment() -> None:
    made = [*wide(300, human=False, seed=1), *wide(320, human=True, seed=2)]
    learning_curve(made[:40] + made[-40:], seed=0)
    begun = time.perf_counter()
    assert len(learning_curve(made, seed=0)) == 4 * DRAWS
    assert time.perf_counter() - begun < 4  # 2 are promised; a busy machine gets twice that
