"""Rounds one after the other: what goes from one to the next, and what a killed run does again."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alignment import loop
from alignment.evaluate import Answer
from alignment.loop import LoopSettings, RoundResult, last_adapter, prepare_round, run_loop, within_budget
from alignment.model_card import SHOWN
from alignment.phases import Phases
from alignment.records import GateResult, Label, Metric, Sample
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.schedule import plan_next
from tests.alignment.small_loop import SMALL


@pytest.fixture(scope="module", autouse=True)
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The exemplars' features are computed once for all tests of this file."""
    os.environ["OVERSIGHT_FEATURE_CACHE"] = str(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def settings() -> LoopSettings:
    return LoopSettings("tiny", 2, overrides=SMALL)


@pytest.fixture(scope="module")
def done(settings: LoopSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RoundResult]]:
    out = tmp_path_factory.mktemp("loop")
    return out, run_loop(settings, out, say=lambda line: None)


def test_each_round_starts_where_the_last_ended(done: tuple[Path, list[RoundResult]]) -> None:
    _, (first, second) = done
    assert (first.config.objective, second.config.objective) == ("conformity", "competence")
    assert first.config.learner_adapter == ""
    assert second.config.learner_adapter == ("inputs/adapter" if first.gate.accepted else "")
    assert second.config.attacker_adapter == "inputs/attacker"
    assert (second.run.inputs / "archive.jsonl").exists()
    pool = (second.run.inputs / "pool.jsonl").read_text().splitlines()
    judged = read_rows(first.run.inputs / "labels.jsonl", Label)
    assert len(pool) == sum(len(label.violates) for label in judged) > 0
    kept = "probes_new.jsonl" if first.gate.accepted else "probes_old.jsonl"
    assert (second.run.inputs / "probes_old.jsonl").read_text() == (first.run.learn / kept).read_text()
    base = (first.run.learn / "probes_old.jsonl").read_text()
    assert (second.run.inputs / "probes_base.jsonl").read_text() == base
    learnt = {f"mix_{m.group}": m.value for m in first.metrics if m.name == "selection_weight"}
    assert learnt
    assert all(getattr(second.config, name) == value for name, value in learnt.items() if value is not None)


def test_reviews_stay_within_the_budget_and_are_counted(done: tuple[Path, list[RoundResult]]) -> None:
    for result in done[1]:
        labels = read_rows(result.run.inputs / "labels.jsonl", Label)
        assert result.samples == len(labels) <= result.config.budget
        assert result.reviews == sum(label.reviews for label in labels)
        assert set(result.seconds) == {"propose", "label", "learn"}
        assert result.outcome.minutes == pytest.approx(sum(result.seconds.values()) / 60)


def test_a_round_measures_all_that_a_model_card_shows(done: tuple[Path, list[RoundResult]]) -> None:
    for result in done[1]:
        assert set(SHOWN) <= {m.name for m in result.metrics if m.group == "" and m.model == "new"}


def test_a_finished_run_is_read_and_not_run_again(
    settings: LoopSettings, done: tuple[Path, list[RoundResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = done
    for phase in ("propose", "learn"):
        monkeypatch.setattr(loop, phase, lambda run: pytest.fail("a finished phase ran again"))
    assert run_loop(settings, out, say=lambda line: None) == before


def test_a_run_killed_in_learn_repeats_learn_only(
    settings: LoopSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by stand-ins of the phases; what these write themselves is tested with the rounds."""
    ran: list[str] = []

    def fake_propose(run: RunDir) -> None:
        ran.append("propose")
        write_rows(run.propose / "samples-000.jsonl", [sample("a", "random"), sample("b", "audit")])
        write_rows(run.propose / "metrics.jsonl", [])

    def killed(run: RunDir) -> None:
        ran.append("learn")
        run.events.emit("train")
        raise KeyboardInterrupt

    def fake_learn(run: RunDir) -> None:
        ran.append("learn")
        write_rows(run.learn / "gate.json", [GateResult(True, ["Accepted."])])
        write_rows(run.learn / "metrics.jsonl", [])

    monkeypatch.setattr(loop, "propose", fake_propose)
    monkeypatch.setattr(loop, "learn", killed)
    monkeypatch.setattr(loop, "judge_samples", lambda asked, *a, **k: [Label(s.query["id"], {}) for s in asked])
    one = replace(settings, rounds=1)
    with pytest.raises(KeyboardInterrupt):
        run_loop(one, tmp_path, say=lambda line: None)
    monkeypatch.setattr(loop, "learn", fake_learn)
    (result,) = run_loop(one, tmp_path, say=lambda line: None)
    assert ran == ["propose", "learn", "learn"]
    assert (result.gate.accepted, result.samples) == (True, 2)


def test_the_time_of_a_killed_attempt_counts(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "round-1")
    run.path.mkdir()
    phases = Phases(tmp_path)
    begun = time.time() - 100
    phases.path.write_text(json.dumps({"round-1": {"begun": {"learn": begun}}}))
    run.events.path.write_text(json.dumps({"t": begun + 40, "stage": "train"}) + "\n")
    assert phases.run(run, "learn", lambda: None) == pytest.approx(40, abs=1)
    assert phases.run(run, "learn", lambda: pytest.fail("it ran again")) == pytest.approx(40, abs=1)


def test_after_a_rollback_the_last_accepted_checkpoint_goes_on(settings: LoopSettings, tmp_path: Path) -> None:
    """Round 1 was accepted, round 2 rolled back: round 3 has the adapter of round 1 and what round 2 knew of it."""
    first, second = (made_round(settings, tmp_path, n, accepted=n == 1) for n in (1, 2))
    assert last_adapter([first, second]) == first.run.learn / "adapter"
    assert last_adapter([made_round(settings, tmp_path / "other", 1, accepted=False)]) is None
    third = RunDir(tmp_path / "round-3")
    config = prepare_round(settings, third, 3, second.plan, [first, second])
    assert config.learner_adapter == "inputs/adapter"
    assert (third.inputs / "adapter" / "weights").read_text() == "of round 1"
    assert [a.text for a in read_rows(third.inputs / "probes_old.jsonl", Answer)] == ["old of round 2"]
    # The base model was measured when round 1 began.
    assert [a.text for a in read_rows(third.inputs / "probes_base.jsonl", Answer)] == ["base, said round 2"]


def test_other_settings_in_the_same_folder_are_refused(settings: LoopSettings, tmp_path: Path) -> None:
    plan = made_round(settings, tmp_path, 1, accepted=True).plan
    run = RunDir(tmp_path / "again")
    prepare_round(settings, run, 1, plan, [])
    with pytest.raises(ValueError, match="exists with other settings"):
        prepare_round(replace(settings, seed=1), run, 1, plan, [])


def test_people_judge_no_more_than_the_budget_and_first_what_was_drawn() -> None:
    samples = [sample("a", "unjudged"), sample("b", "violation"), sample("c", ""), sample("d", "audit")]
    assert [s.query["id"] for s in within_budget(samples, 3)] == ["a", "b", "d"]
    assert [s.query["id"] for s in within_budget(samples, 2)] == ["b", "d"]
    assert within_budget(samples, 0) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"rounds": 0}, "rounds is 0"), ({"profile": "laptop"}, "--learner"), ({"schedule": "no"}, "schedule 'no'")],
)
def test_bad_settings_are_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LoopSettings(**{"profile": "tiny", "rounds": 1, **changes}).base_config()  # type: ignore[arg-type]


def sample(query: str, reason: str) -> Sample:
    flag = {"query": query, "reason": reason} if reason else None
    return Sample({"id": query, "kind": "unsafe"}, [], [], flag, 0.5)


def made_round(settings: LoopSettings, folder: Path, number: int, *, accepted: bool) -> RoundResult:
    """A finished round whose files say where they come from."""
    run = RunDir(folder / f"round-{number}")
    for path in (run.inputs, run.propose, run.learn / "adapter"):
        path.mkdir(parents=True)
    (run.learn / "adapter" / "weights").write_text(f"of round {number}")
    write_rows(run.inputs / "labels.jsonl", [])
    write_rows(run.propose / "samples-000.jsonl", [])
    for name, text in (("old", f"old of round {number}"), ("new", "new"), ("base", f"base, said round {number}")):
        write_rows(run.learn / f"probes_{name}.jsonl", [Answer("p", text, False, None, None)])
    base = settings.base_config()
    config = replace(base, number=number, learner_adapter="inputs/adapter" if number > 1 else "")
    plan = plan_next("alternating", [], first=loop.Settings.of(base))
    metrics = [Metric("competence", 0.1, None, None, 5, 0, model=model) for model in ("old", "new")]
    return RoundResult(run, config, plan, GateResult(accepted, []), metrics, [], 0, 0, {"propose": 1.0})
