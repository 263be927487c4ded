"""`bench train` with the tiny model: its rows, not its ratio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment.__main__ import main
from alignment.bench.train import TrainingRun, made_pairs, ratios, run_train_bench, summary


def test_both_train_on_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "train.json"
    arguments = ["--model", "tiny", "--pairs", "6", "--steps", "2", "--batch", "4", "--repeats", "2", "--seed", "1"]
    assert main(["bench", "train", *arguments, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    runs = found["runs"]
    assert [(run["how"], run["repeat"]) for run in runs] == [("plain", 1), ("ours", 1), ("plain", 2), ("ours", 2)]
    assert {(run["steps"], run["examples"]) for run in runs} == {(2, 8)}
    assert len({run["tokens"] for run in runs}) == 1 and runs[0]["tokens"] > 0
    assert all(0 < run["setup"] < run["seconds"] for run in runs)
    assert found["about"]["model"] == "tiny" and found["about"]["pairs"] == 6
    assert "time of ours over plain" in capsys.readouterr().out


def test_ratios_are_of_the_same_repeat() -> None:
    def run(how: str, repeat: int, seconds: float) -> TrainingRun:
        return TrainingRun(how, repeat, seconds, 0.1, seconds / 2 + (how == "ours"), 2, 16, 1000, 0.5)

    runs = [run("plain", 1, 10), run("ours", 1, 5), run("plain", 2, 20), run("ours", 2, 8), run("plain", 3, 10),
            run("ours", 3, 12)]  # fmt: skip
    own = ratios(runs)
    assert (own["ratio"], own["ratio_least"], own["ratio_most"]) == (0.5, 0.4, 1.2)
    assert own["plain_seconds_a_step"] == 5 and own["ours_tokens_a_second"] == 125
    assert own["processor_ratio"] == 0.7  # 3.5 of 5, 5 of 10, 7 of 5
    assert "0.50 (0.40 to 1.20; target 1.1 or less, met), of processor time 0.70 (0.50 to 1.40)" in summary(runs)


def test_pairs_are_of_both_kinds_and_repeatable() -> None:
    pairs = made_pairs(9, seed=2)
    assert [pair.kind for pair in pairs] == ["unsafe", "harmless"] * 4 + ["unsafe"]
    assert len({pair.prompt for pair in pairs}) == 9 and all(pair.rejected for pair in pairs)
    assert made_pairs(9, seed=2) == pairs != made_pairs(9, seed=3)


def test_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="steps 0"):
        run_train_bench("tiny", pairs=4, steps=0, seed=0)
