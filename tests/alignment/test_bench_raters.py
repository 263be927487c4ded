from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from alignment.bench.raters import read_alphas, run_raters, score_flips
from alignment.bench.rows import Judged, read_judged

REAL = Path(os.environ.get("OVERSIGHT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "harm_judgements.jsonl"


def judged(number: int, *scores: float) -> Judged:
    return Judged(f"prompt {number}", "answer", float(np.mean(scores)) >= 0.5, scores)


def test_alphas_by_hand() -> None:
    """Two raters of four answers: sides agree in three of four, so nominal alpha is 1 - 7 * 2 / (64 - 25 - 9)."""
    rows = [judged(0, 0.0, 0.0), judged(1, 0.25, 0.75), judged(2, 1.0, 1.0), judged(3, 0.75, 0.5)]
    scores, sides = read_alphas(rows)
    assert sides.value == pytest.approx(1 - 7 * 2 / 30)
    assert (scores.n, sides.n) == (4, 4)
    # Interval: observed 2 * (0.5^2 + 0.25^2) / 8; expected sum over all pairs of the eight values / (8 * 7).
    values = np.array([0, 0, 0.25, 0.75, 1, 1, 0.75, 0.5])
    expected = ((values[:, None] - values) ** 2).sum() / 56
    assert scores.value == pytest.approx(1 - 2 * (0.25 + 0.0625) / 8 / expected)


def test_dawid_skene_finds_the_careful_rater() -> None:
    """At 20% flips with errors 0.08, 0.2, 0.32 on 1,000 answers; one seed, n 1,000."""
    truth = np.random.default_rng(0).random(1000) < 0.3
    row = score_flips(truth, flips=0.2, seed=0)
    assert row.n == 1000
    assert row.right["one rater"] == pytest.approx(0.8, abs=0.05)  # 4 standard errors
    assert row.right["majority"] > row.right["one rater"] + 0.05
    assert row.right["dawid-skene"] > row.right["majority"]
    assert row.right["known errors"] > row.right["majority"]


def test_the_run_prints_a_table_and_keeps_its_rows(tmp_path: Path) -> None:
    rows = [judged(i, *((0.75, 1.0) if i % 3 else (0.0, 0.25))) for i in range(60)]
    rows.append(Judged("single", "answer", True, (1.0,)))
    result = run_raters(rows, seeds=[0, 1], out=tmp_path / "raters.json")
    printed = result.table()
    assert "61 rows, 60 with two human scores or more" in printed
    assert "n=61 answers, mean over 2 seeds" in printed
    for share in ("10%", "20%", "30%"):
        assert share in printed
    kept = json.loads((tmp_path / "raters.json").read_text())
    assert [(row["flips"], row["seed"]) for row in kept["flipped"]] == [
        (flips, seed) for flips in (0.1, 0.2, 0.3) for seed in (0, 1)
    ]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="none of 1 rows has two human_scores"):
        run_raters([judged(0, 1.0)], seeds=[0])
    with pytest.raises(ValueError, match="all 2 labels are the same"):
        run_raters([judged(0, 1.0, 1.0), judged(1, 1.0, 0.5)], seeds=[0])
    with pytest.raises(ValueError, match="no seed"):
        run_raters([judged(0, 1.0, 0.0)], seeds=[])


def test_real_raters_agree_as_measured() -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL} is absent; set OVERSIGHT_DATA to the folder that has it")
    rows = [row for row in read_judged(REAL) if len(row.scores) >= 2]
    scores, sides = read_alphas(rows)
    assert (len(rows), scores.n) == (386, 386)
    assert scores.value == pytest.approx(0.821, abs=0.001)
    assert sides.value == pytest.approx(0.678, abs=0.001)
