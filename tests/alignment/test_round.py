"""A whole round on the tiny profile: real tensors, real training steps, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from alignment.config import RoundConfig, profile_defaults
from alignment.events import read_events
from alignment.learn import learn, load_samples
from alignment.propose import propose
from alignment.records import GateResult, Label, Metric, Pair, ProbeAnswer, Query, Sample
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.seed_files import shipped_principles, shipped_probes, shipped_seeds


@pytest.fixture(scope="module", autouse=True)
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The exemplars' features are computed once for all tests of this file."""
    os.environ["OVERSIGHT_FEATURE_CACHE"] = str(tmp_path_factory.mktemp("features"))


def new_run(path: Path, **changes: object) -> RunDir:
    run = RunDir(path)
    settings = {**profile_defaults("tiny"), **changes}
    run.create(RoundConfig(round_id=str(uuid.uuid5(uuid.NAMESPACE_URL, "a test")), **settings))  # type: ignore[arg-type]
    write_rows(run.inputs / "principles.jsonl", shipped_principles())
    write_rows(run.inputs / "seeds.jsonl", shipped_seeds())
    write_rows(run.inputs / "pool.jsonl", [])
    return run


def label_all(run: RunDir) -> list[Label]:
    """People find every second first answer violating, by its place."""
    labels = []
    for i, sample in enumerate(s for s in load_samples(run) if s.flag):
        ids = [r["id"] for r in sample.responses]
        verdicts = {ids[0]: float(i % 2), ids[1]: 0.0}
        labels.append(Label(sample.query["id"], verdicts, [sample.query["principle"]], audit=i % 4 == 0))
    write_rows(run.inputs / "labels.jsonl", labels)
    return labels


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = new_run(tmp_path_factory.mktemp("round"))
    propose(run)
    label_all(run)
    learn(run)
    return run


def test_propose_asks_attacks_lookalikes_and_tasks_with_two_answers_each(done: RunDir) -> None:
    samples = load_samples(done)
    kinds = [s.query["kind"] for s in samples]
    assert kinds.count("unsafe") >= 40
    assert kinds.count("harmless") == 8
    assert kinds.count("competence") == 10
    assert {s.query["level"] for s in samples if s.query["kind"] == "competence"} == {1, 2, 3, 4, 5}
    assert all(len(s.responses) == 2 and len(s.critiques) == 2 for s in samples)


def test_every_draw_has_its_propensity_and_the_budget_is_met(done: RunDir) -> None:
    samples = [s for s in load_samples(done) if s.query["kind"] != "competence"]
    failed = [s for s in samples if any(c["status"] != "ok" for c in s.critiques)]
    flagged = [s for s in samples if s.flag]
    assert all(0 < s.propensity <= 1 for s in samples)
    assert len(flagged) == 12 + len(failed)
    assert all(s.flag and s.flag["words"] and s.flag["propensity"] == s.propensity for s in flagged)
    assert all(s.flag and s.flag["reason"] == "unjudged" for s in failed)


def test_program_checked_queries_are_never_drawn(done: RunDir) -> None:
    tasks = [s for s in load_samples(done) if s.query["kind"] == "competence"]
    assert all(s.flag is None and s.propensity == 0 for s in tasks)
    assert all(isinstance(c["correct"], bool) for s in tasks for c in s.critiques if c["status"] == "ok")


def test_critiques_say_why_and_point_into_the_answer(done: RunDir) -> None:
    for sample in load_samples(done):
        texts = {r["id"]: r["text"] for r in sample.responses}
        for critique in sample.critiques:
            assert critique["rationale"]
            if critique["status"] == "empty":
                assert critique["violation"] is None
            if critique["span"]:
                start, end = critique["span"]
                assert texts[critique["response"]][start:end].strip()
            if sample.query["kind"] == "unsafe" and critique["status"] == "ok":
                assert len(critique["members"]) == 8
                assert 0 <= critique["uncertainty"] <= 0.5
                assert set(critique["scores"]) >= {p.key for p in shipped_principles() if p.kind == "conformity"}


def test_learn_leaves_adapter_metrics_gate_and_answers(done: RunDir) -> None:
    assert (done.learn / "adapter" / "adapter_model.safetensors").exists()
    assert (done.learn / "critic" / "heads.safetensors").exists()
    assert not list(done.path.rglob("*.bin")) + list(done.path.rglob("*.pt")) + list(done.path.rglob("*.pkl"))
    metrics = read_rows(done.learn / "metrics.jsonl", Metric)
    names = {(m.name, m.model) for m in metrics if m.group == ""}
    for name in ("attack_success", "attack_success_rule", "over_refusal", "competence", "separation", "hypervolume"):
        assert {(name, "old"), (name, "new")} <= names
    for metric in metrics:
        assert metric.value is not None or metric.reason
        if metric.value is not None and metric.ci_low is not None and metric.ci_high is not None:
            assert metric.ci_low <= metric.value + 1e-9
            assert metric.value <= metric.ci_high + 1e-9
    keys = [(m.name, m.group, m.model) for m in metrics]
    assert len(keys) == len(set(keys))
    assert {("next_reviews_width", "now", "new"), ("next_reviews_width", "rate", "new")} <= set(keys)
    assert ("next_reviews_gain", "critic", "new") in keys
    weights = [m.value for m in metrics if m.name == "critic_member_weight"]
    assert sum(w or 0 for w in weights) == pytest.approx(1)
    assert sum(m.name == "critic_error_correlation" for m in metrics) == len(weights) * (len(weights) - 1) // 2 + 1
    proposed = {m.name: m for m in read_rows(done.propose / "metrics.jsonl", Metric) if not m.group}
    assert proposed["critique_failed"].n == 2 * sum(s.query["kind"] != "competence" for s in load_samples(done))
    answers = read_rows(done.learn / "answers.jsonl", ProbeAnswer)
    assert len(answers) == 8 + 8 + 5 * 2
    gate = read_rows(done.learn / "gate.json", GateResult)[0]
    assert len(gate.reasons) == 6  # the verdict and five checks


def test_training_never_sees_a_probe_and_answers_as_many_harmless_as_it_declines(done: RunDir) -> None:
    pairs = read_rows(done.learn / "pairs.jsonl", Pair)
    assert not {p.prompt for p in pairs} & {p.prompt for p in shipped_probes()}
    kinds = [p.kind for p in pairs]
    assert kinds.count("harmless") >= kinds.count("unsafe") > 0


def test_peoples_word_weighs_more_than_the_critics(done: RunDir) -> None:
    labelled = {label.query for label in read_rows(done.inputs / "labels.jsonl", Label)}
    pairs = [p for p in read_rows(done.learn / "pairs.jsonl", Pair) if p.query and p.kind != "competence"]
    by_people = [p.weight for p in pairs if p.query in labelled]
    by_critic = [p.weight for p in pairs if p.query not in labelled]
    assert by_people
    assert max(by_people) == pytest.approx(min(by_people))
    assert all(weight <= min(by_people) / 3 * 1.001 for weight in by_critic)


def test_training_moved_the_weights_that_it_may_move(done: RunDir) -> None:
    from safetensors.numpy import load_file

    weights = load_file(done.learn / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in weights)
    assert max(abs(w).max() for name, w in weights.items() if "lora_B" in name) > 0


def test_manifest_names_versions_seed_and_every_file(done: RunDir) -> None:
    manifest = json.loads((done.path / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["versions"]["torch"].startswith("2.13")
    assert "learn/adapter/adapter_model.safetensors" in manifest["files"]


def test_a_second_run_does_nothing_twice(done: RunDir) -> None:
    before = {p: p.stat().st_mtime_ns for p in done.propose.glob("samples-*.jsonl")}
    _, started = list(read_events(done.events.path))[-1]
    propose(done)
    assert before == {p: p.stat().st_mtime_ns for p in done.propose.glob("samples-*.jsonl")}
    again = [e for _, e in read_events(done.events.path) if e["t"] > started["t"]]
    # Every sample is announced again, because the server may have missed it; none is answered again.
    assert sum("item" in e for e in again) == len(load_samples(done))
    assert not any(e["stage"] == "respond" for e in again)


def test_learn_killed_after_training_measures_the_same_adapter_again(done: RunDir) -> None:
    adapter = done.learn / "adapter" / "adapter_model.safetensors"
    trained, answers = adapter.stat().st_mtime_ns, (done.learn / "probes_new.jsonl").read_text()
    (done.learn / "probes_new.jsonl").unlink()
    learn(done)
    assert adapter.stat().st_mtime_ns == trained
    assert (done.learn / "probes_new.jsonl").read_text() == answers


def test_a_killed_phase_goes_on_at_the_first_chunk_that_is_missing(done: RunDir, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    command = [sys.executable, "-m", "alignment", "propose", "--run-dir", str(run.path)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(run.propose.glob("samples-*.jsonl")):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    propose(run)

    def content(of: RunDir) -> list[tuple[Query, list[str]]]:
        return [(Query.from_json(s.query), [r["text"] for r in s.responses]) for s in load_samples(of)]

    assert content(run) == content(done)
    assert [s.flag for s in load_samples(run)] == [s.flag for s in load_samples(done)]


def test_cancel_ends_at_once_with_its_own_code(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", attacks=300)
    child = subprocess.Popen([sys.executable, "-m", "alignment", "propose", "--run-dir", str(run.path)])
    while not run.events.path.exists():
        time.sleep(0.05)
    child.terminate()
    assert child.wait(timeout=10) == 143


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", None, "config.json is missing"),
        ("inputs/seeds.jsonl", "", "no seeds to attack from"),
        ("inputs/seeds.jsonl", '{"id": 1}\n', "line 1"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path: Path, file: str, text: str | None, words: str) -> None:
    run = new_run(tmp_path / "run")
    if text is None:
        (run.path / file).unlink()
    else:
        (run.path / file).write_text(text)
    command = [sys.executable, "-m", "alignment", "propose", "--run-dir", str(run.path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    line = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(line) == 1
    assert words in line[0]


def test_learn_without_a_judgement_says_so(tmp_path: Path, done: RunDir) -> None:
    run = new_run(tmp_path / "run")
    for path in done.propose.glob("*.jsonl"):
        (run.propose / path.name).write_text(path.read_text())
    write_rows(run.inputs / "labels.jsonl", [])
    with pytest.raises(ValueError, match="review at least one"):
        learn(run)


def test_a_sample_row_survives_the_way_through_json(done: RunDir) -> None:
    sample = load_samples(done)[0]
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample
