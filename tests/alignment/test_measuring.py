"""What an earlier round found out about the same learner is not measured again, unless other probes are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment.config import RoundConfig, profile_defaults
from alignment.evaluate import Answer, choose_probes
from alignment.language_model import LanguageModel
from alignment.measuring import Measuring
from alignment.rundir import RunDir, read_rows, write_rows


def measuring(path: Path, **changes: Any) -> Measuring:
    run = RunDir(path)
    config = RoundConfig(round_id="5f7c1a52-33a2-4d6e-9a5b-0c7f0f1a2b3c", **{**profile_defaults("tiny"), **changes})
    run.create(config)
    return Measuring(config, run, LanguageModel.load("tiny"))


def handed(found: Measuring, *, without: int = 0) -> list[Answer]:
    rows = [Answer(p.id, "as known", False, None, None) for p in choose_probes(found.config)]
    rows = rows[: len(rows) - without]
    write_rows(found.run.inputs / "probes_old.jsonl", rows)
    return rows


def test_known_answers_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measuring(tmp_path)
    rows = handed(found)
    monkeypatch.setattr(Measuring, "answer", lambda *a: pytest.fail("measured again"))
    old, base = found.before()
    assert old == base == rows
    assert read_rows(found.run.learn / "probes_old.jsonl", Answer) == rows


def test_answers_to_other_probes_are_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measuring(tmp_path)
    handed(found, without=1)
    fresh = [Answer(p.id, "fresh", False, None, None) for p in found.probes]
    monkeypatch.setattr(Measuring, "answer", lambda *a: fresh)
    assert found.before()[0] == fresh


def test_a_learner_with_an_adapter_is_held_against_the_base_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measuring(tmp_path, learner_adapter="inputs/adapter")
    handed(found)
    base = [Answer(p.id, "base", True, None, None) for p in found.probes if p.kind == "harmless"]
    write_rows(found.run.inputs / "probes_base.jsonl", base)
    assert found.before()[1] == base
