"""Whole rounds without a server, as `make demo` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment.__main__ import main
from alignment.records import Label
from alignment.rundir import RunDir, read_rows


def test_two_rounds_alternate_and_print_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSIGHT_FEATURE_CACHE", str(tmp_path / "features"))
    assert main(["demo", "--profile", "tiny", "--rounds", "2", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    assert "round 1 (conformity)" in printed
    assert "round 2 (competence)" in printed
    assert printed.count("attack_success ") == 2
    first, second = (RunDir(tmp_path / "demo" / f"round-{n}") for n in (1, 2))
    labels = read_rows(first.inputs / "labels.jsonl", Label)
    assert labels
    assert {label.source for label in labels} == {"simulated"}
    # What people said in round 1 is what round 2's critic starts from.
    judged = sum(len(label.violates) for label in labels)
    assert len((second.inputs / "pool.jsonl").read_text().splitlines()) == judged


def test_a_profile_without_its_model_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--profile", "laptop", "--out", str(tmp_path)]) == 2
    assert "--learner" in capsys.readouterr().err
