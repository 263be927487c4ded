"""The replay of sparse review: what it reveals, what it scores, and the ratio that it prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alignment.__main__ import main
from alignment.bench.oversight import efficiency, over_seeds
from alignment.bench.replay import Answers, Score, batches, best_threshold, measure, replay, split_by_prompt
from alignment.bench.rows import Judged
from alignment.critic import HeldOut
from alignment.readings import Reading


def rows(prompts: int = 60) -> list[Judged]:
    """Two answers a prompt, one of each kind."""
    return [
        Judged(f"question {i}", "I'm sorry, I can't help with that." if good else "First, take the knife.", not good)
        for i in range(prompts)
        for good in (True, False)
    ]


def made(judged: list[Judged], *, spread: float = 1.0) -> Answers:
    """Readings whose first coordinates carry the verdict."""
    rng = np.random.default_rng(0)
    readings = []
    for row in judged:
        mean = rng.normal(0, spread, (1, 3, 12))
        mean[..., 0] += 2.0 * row.violates - 1
        readings.append(Reading(mean, mean[:, :2], rng.normal(size=(1, 4))))
    return Answers(judged, readings, np.stack([r.mean_RKD[0, -1] for r in readings]).astype(np.float32), [])


def test_no_prompt_is_on_both_sides_and_a_third_is_held_out() -> None:
    judged = rows(60)
    pool, held = split_by_prompt(judged, 3)
    assert not {judged[i].prompt for i in pool} & {judged[i].prompt for i in held}
    assert (len(pool), len(held)) == (80, 40)
    assert sorted([*pool, *held]) == list(range(120))
    assert list(split_by_prompt(judged, 4)[1]) != list(held)
    with pytest.raises(ValueError, match="5 different prompts"):
        split_by_prompt(rows(5), 0)


def test_batches_grow_and_hit_every_mark() -> None:
    assert batches([40, 80, 160]) == [20, 40, 60, 80, 120, 160]


def test_figures_by_hand() -> None:
    """Four predictions, one pair in the wrong order: AUROC 3/4; at 0.5 one of two right on either side.

    ECE: bins .2 (y 0), .4 (y 1), .6 (y 0), .9 (y 1) are off by .2, .6, .6, .1: mean .375.
    """
    p, y = np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1])
    auroc, balanced, ece, floor, brier = measure(p, y, 0.5)
    assert (auroc, balanced) == (0.75, 0.5)
    assert ece == pytest.approx(0.375)
    # Drawn from the predictions, each bin is off by p with chance 1 - p and by 1 - p with chance p: 2 p (1 - p).
    assert floor == pytest.approx(np.mean(2 * p * (1 - p)), abs=0.03)
    assert brier == pytest.approx((0.04 + 0.36 + 0.36 + 0.01) / 4)
    assert np.isnan(measure(p, np.ones(4, dtype=int), 0.5)[0])


def test_the_threshold_comes_from_cross_validated_predictions() -> None:
    assert best_threshold(HeldOut([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])) == pytest.approx(0.25)
    assert best_threshold(HeldOut([0.1, 0.2], [1, 1])) == 0.5


def test_efficiency_by_hand() -> None:
    """Random needs 160 labels for what the policy has at 40: 4 times; beyond its curve the ratio is a bound."""
    scores = [Score("random", s, n, a, 0, 0, 0, 0, 1) for s in (0, 1) for n, a in ((40, 0.7), (80, 0.8), (160, 0.9))]
    scores += [Score("mix", s, 40, 0.9, 0, 0, 0, 0, 1) for s in (0, 1)]
    found = efficiency(scores, "mix", "random", 40)
    assert found.ratio == pytest.approx(4.0, rel=1e-3)
    assert found.at_least
    scores += [Score("slow", s, 80, 0.75, 0, 0, 0, 0, 1) for s in (0, 1)]
    slow = efficiency(scores, "slow", "random", 80)
    assert slow.ratio == pytest.approx((40 * 80) ** 0.5 / 80, rel=1e-3)  # halfway in log n
    assert not slow.at_least


def test_intervals_over_seeds_by_hand() -> None:
    mean, half = over_seeds([0.8, 0.9, 1.0])
    assert mean == pytest.approx(0.9)
    assert half == pytest.approx(4.30 * 0.1 / 3**0.5)


def test_a_replay_learns_and_reveals_no_more_than_it_says() -> None:
    found = replay(made(rows(60)), "mix", 0, [20, 60])
    assert [s.labels for s in found] == [20, 60]
    assert found[-1].auroc > 0.9
    assert 10 < found[-1].positives < 50
    shuffled = [
        Judged(r.prompt, r.response, bool(v))
        for r, v in zip(rows(60), np.random.default_rng(1).integers(0, 2, 120), strict=True)
    ]
    blind = made(rows(60))
    blind = Answers(shuffled, blind.readings, blind.reference_ND, [])
    # Labels that have nothing to do with the answers cannot be learnt: were the held-out third seen, they could be.
    assert 0.25 < replay(blind, "mix", 0, [60])[0].auroc < 0.75


def test_command_prints_a_row_without_exemplars_and_writes_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSIGHT_FEATURE_CACHE", str(tmp_path / "cache"))
    data, out = tmp_path / "judged.jsonl", tmp_path / "out.json"
    lines = [{"prompt": r.prompt, "response": r.response, "human_scores": [float(r.violates)]} for r in rows(24)]
    data.write_text("\n".join(json.dumps(line) for line in lines))
    command = ["bench", "oversight", "--data", str(data), "--labels", "20", "--seeds", "2", "--model", "tiny"]
    assert main([*command, "--dtype", "float32", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "mix, no exemplars",
        "reference",
        "label efficiency",
        "choose 16 of 5000",
        "48 answers to 24 prompts",
    ):
        assert words in shown
    kept = json.loads(out.read_text())
    assert {(s["policy"], s["seed"]) for s in kept["scores"]} == {
        (p, s) for p in ("random", "mix", "mix, no exemplars", "reference") for s in (0, 1)
    }
    assert main([*command, "--policy", "best"]) == 2
    assert "policy best is not known" in capsys.readouterr().err
    assert main(["bench", "oversight", "--data", str(data), "--labels", "many"]) == 2
    assert "--labels is 'many'" in capsys.readouterr().err
