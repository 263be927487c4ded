"""A phase from start to end: inputs, child, cancel, failures in words, and run folders on other machines."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from alignment import records
from alignment.config import RoundConfig
from alignment.rundir import RunDir, read_rows
from oversight import runfiles, runner, tasks
from oversight.models import Checkpoint, Label, LogLine, MetricPoint, Round, Sample
from oversight.services import rounds
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user
from tests.oversight.runs import child, make_queued_round
from tests.oversight.test_ingest import write_results

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def runs(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    settings.RUNS_URL = str(tmp_path / "runs")
    return tmp_path / "runs"


def run(monkeypatch: pytest.MonkeyPatch, round: Round, code: str) -> Round:
    monkeypatch.setattr(runner, "phase_command", child(code))
    tasks.run_phase(str(round.pk), round.attempt)
    round.refresh_from_db()
    return round


# --- Configuration ----------------------------------------------------------------------------------


def test_config_is_profile_then_experiment_then_overrides() -> None:
    experiment = make_experiment(seed=7, settings={"attacks": 20, "budget": 3})
    round = make_round(experiment=experiment, objective="competence")
    config = runner.build_config(round=round, overrides={"budget": 5})
    assert (config["attacks"], config["budget"], config["probes"], config["seed"]) == (20, 5, 8, 7)
    assert (config["round_id"], config["objective"], config["profile"]) == (str(round.pk), "competence", "tiny")
    json.dumps(config)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"attaks": 3}, "attaks"),
        ({"attacks": "many"}, "attacks is 'many'"),
        ({"budget": -1}, "budget is -1"),
        ({"attacks": True}, "attacks is True"),
        ({"levels": 3}, "levels is 3"),
    ],
)
def test_a_bad_setting_is_named(overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        runner.build_config(round=make_round(), overrides=overrides)


def test_whole_numbers_will_do_for_fractions() -> None:
    assert runner.build_config(round=make_round(), overrides={"audit_share": 1})["audit_share"] == 1


def test_the_next_round_takes_over_the_learnt_mix_unless_somebody_chose_one() -> None:
    experiment = make_experiment()
    for number, status, weight in ((1, "done", 0.4), (2, "done", 0.5), (3, "failed", 0.9)):
        earlier = make_round(experiment=experiment, number=number, status=status)
        MetricPoint.objects.create(
            round=earlier, name="selection_weight", group="violation", value=weight, n=10, seed=0, model="new"
        )
    round = make_round(experiment=experiment, number=4)
    default = RoundConfig(round_id="").mix_diversity
    config = runner.build_config(round=round, overrides={})
    assert (config["mix_violation"], config["mix_diversity"]) == (0.5, default)
    assert runner.build_config(round=round, overrides={"mix_diversity": 0.3})["mix_violation"] == 0.25


def test_the_next_round_takes_over_what_was_learnt_of_the_same_judge() -> None:
    experiment = make_experiment(judge="http://host/v1#m")
    for number, judge, status, weight in (
        (1, "http://host/v1#m", "done", 0.35), (2, "critic", "done", 0.7), (3, "http://host/v1#m", "failed", 0.9),
    ):  # fmt: skip
        earlier = make_round(experiment=experiment, number=number, status=status, config={"judge": judge})
        for group, value in (("asked", weight), ("words", 0.1)):
            MetricPoint.objects.create(round=earlier, name="critic_member_weight", group=group, value=value, n=10)
    round = make_round(experiment=experiment, number=4)
    config = runner.build_config(round=round, overrides={})
    assert (config["judge"], config["asked_weight"]) == ("http://host/v1#m", 0.35)
    assert runner.build_config(round=round, overrides={"judge": "critic"})["asked_weight"] == 0.7
    assert runner.build_config(round=round, overrides={"asked_weight": 0.1})["asked_weight"] == 0.1
    for judge in ("", "tiny"):  # nobody is asked, and one that no round has asked before
        assert runner.build_config(round=round, overrides={"judge": judge})["asked_weight"] == 0.2


def test_command_is_the_one_that_anybody_may_type() -> None:
    assert runner.phase_command("learn", Path("/r"))[1:] == ["-m", "alignment", "learn", "--run-dir", "/r"]


# --- From start to end ------------------------------------------------------------------------------


def test_propose_ends_in_review(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    round = run(monkeypatch, make_queued_round(), "emit('select', done=1, total=1, item=ITEM)")
    assert (round.status, round.reason) == ("reviewing", "")
    assert Sample.objects.get().status == "queued"
    inputs = runs / str(round.pk) / "inputs"
    assert [seed.id for seed in read_rows(inputs / "seeds.jsonl", records.SeedPair)] == ["s-1"]
    assert [p.key for p in read_rows(inputs / "principles.jsonl", records.Principle)] == ["private-life", "no-fraud"]
    assert round.heartbeat_at is not None


def test_learn_ends_in_done(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    round = make_queued_round(phase="learn")
    sample = make_sample(round=round, status="decided", audit=True)
    Label.objects.create(sample=sample, violates={"0": 1.0}, preferred=1, principles=["private-life"])
    folder = RunDir(runs / str(round.pk))
    folder.learn.mkdir(parents=True)
    write_results(folder, accepted=False)
    round = run(monkeypatch, round, "emit('finished')")
    assert (round.status, round.reason) == ("done", "Rolled back: attack success fell from 0.40 to 0.20")
    (label,) = read_rows(folder.inputs / "labels.jsonl", records.Label)
    ids = [response["id"] for response in sample.responses]
    assert (label.violates, label.preferred, label.audit, label.source) == ({ids[0]: 1.0}, ids[1], True, "human")


def test_the_next_round_starts_from_the_last_accepted_checkpoint(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    experiment = make_experiment()
    first = make_round(experiment=experiment, status="done", number=1)
    sample = make_sample(round=first, status="decided")
    Label.objects.create(sample=sample, violates={"0": 1.0, "1": 0.0}, rewrite="Ask her.")
    adapter = runs / str(first.pk) / "learn" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "w.safetensors").write_bytes(b"weights")
    Checkpoint.objects.create(
        experiment=experiment, round=first, role="learner", verdict="accepted",
        path=f"{first.pk}/learn/adapter", sha256=runfiles.digest_folder(adapter),
    )  # fmt: skip
    second = run(monkeypatch, make_queued_round(experiment=experiment, number=2), "emit('select', item=ITEM)")
    assert second.status == "reviewing"
    inputs = runs / str(second.pk) / "inputs"
    assert (inputs / "adapter" / "w.safetensors").read_bytes() == b"weights"
    assert second.config["learner_adapter"] == "inputs/adapter"
    pool = read_rows(inputs / "pool.jsonl", records.PoolItem)
    assert [(item.violates, item.rewrite, item.round) for item in pool] == [(1.0, "Ask her.", 1), (0.0, "Ask her.", 1)]
    # A checkpoint that somebody changed is not trained on.
    (adapter / "w.safetensors").write_bytes(b"others")
    Round.objects.filter(pk=second.pk).update(status="done")
    third = run(monkeypatch, make_queued_round(experiment=experiment, number=3), "pass")
    assert third.status == "failed"
    assert "was changed" in third.reason


def test_the_next_round_takes_over_what_the_attacker_found(runs: Path) -> None:
    first = make_queued_round(phase="learn")
    before = runfiles.run_folder(first)
    runfiles.write_inputs(first, before)
    (before.propose / "archive.jsonl").write_text("as the critic saw it\n")
    (before.propose / "operators.jsonl").write_text("yields\n")
    (before.learn / "archive.jsonl").write_text("as people saw it\n")
    (before.learn / "attacker").mkdir()
    (before.learn / "attacker" / "adapter_model.safetensors").write_text("weights")
    Round.objects.filter(pk=first.pk).update(status="failed")
    second = make_queued_round(experiment=first.experiment, number=2)
    assert (first.config["attacker_adapter"], second.config["attacker_adapter"]) == ("", "inputs/attacker")
    after = runfiles.run_folder(second)
    runfiles.write_inputs(second, after)
    assert not (after.inputs / "archive.jsonl").exists(), "a round that is not done hands nothing on"
    Round.objects.filter(pk=first.pk).update(status="done")
    runfiles.write_inputs(second, after)
    assert (after.inputs / "archive.jsonl").read_text() == "as people saw it\n"
    assert (after.inputs / "operators.jsonl").read_text() == "yields\n"
    assert (after.inputs / "attacker" / "adapter_model.safetensors").read_text() == "weights"
    # A retry keeps what the first attempt started from.
    (before.learn / "archive.jsonl").write_text("changed\n")
    runfiles.write_inputs(second, after)
    assert (after.inputs / "archive.jsonl").read_text() == "as people saw it\n"


def test_secrets_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.setenv("DATABASE_URL", "postgres://hidden")
    code = "emit('load', message=f'saw {sorted({*os.environ} & {\"SECRET_KEY\", \"DATABASE_URL\", \"REDIS_URL\"})}')"
    round = run(monkeypatch, make_queued_round(), code)
    assert "saw []" in [line.text for line in round.log.all()]


def test_a_message_that_came_twice_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    round = run(monkeypatch, make_queued_round(), "emit('load', message='ran', item=ITEM)")
    tasks.run_phase(str(round.pk), round.attempt)
    tasks.run_phase(str(round.pk), round.attempt - 1)
    assert LogLine.objects.filter(text="ran").count() == 1


# --- Failures in words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("emit('load'); sys.exit('no such model: x')", "stage load with exit code 1: no such model: x"),
        ("emit('respond'); print('model y is missing; fetch it', file=sys.stderr); sys.exit(2)",
         "The propose phase stopped in stage respond: model y is missing; fetch it"),
        ("emit('respond'); os.kill(os.getpid(), signal.SIGKILL)", "stage respond: the process was ended by SIGKILL"),
        ("emit('critique', error='CUDA out of memory'); sys.exit(2)", "stage critique: CUDA out of memory"),
        ("emit('judge'); emit('error', error='disk is full'); sys.exit(2)", "stopped in stage judge: disk is full"),
        ("print('\\x1b[31mred\\x1b[0m \\u202e', file=sys.stderr); sys.exit(3)", "exit code 3: red"),
        ("sys.exit(1)", "exit code 1: it said nothing"),
        ("emit('select', item={'type': 'sample', 'colour': 1})", "no field colour"),
    ],
)  # fmt: skip
def test_the_round_says_why(monkeypatch: pytest.MonkeyPatch, code: str, reason: str) -> None:
    round = run(monkeypatch, make_queued_round(), code)
    assert round.status == "failed"
    assert reason in round.reason
    assert "\x1b" not in round.reason


def test_a_phase_that_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    round = run(monkeypatch, make_queued_round(phase="learn"), "pass")
    assert round.status == "failed"
    assert "metrics.jsonl" in round.reason


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.RUNS_URL = str(tmp_path / "file" / "runs")
    round = run(monkeypatch, make_queued_round(), "pass")
    assert round.status == "failed"
    assert "Not a directory" in round.reason


def test_retry_goes_on_in_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "mark = FOLDER + '/propose/half'\n"
        "if not os.path.exists(mark):\n"
        "    open(mark, 'w').close(); emit('attack'); sys.exit(1)\n"
        "emit('select', message='resumed', item=ITEM)"
    )
    monkeypatch.setattr("oversight.workers.listening", lambda queue: ["somebody"])
    round = run(monkeypatch, make_queued_round(), code)
    assert round.status == "failed"
    round = rounds.retry_round(round=round, user=None)
    assert run(monkeypatch, round, code).status == "reviewing"
    assert round.log.filter(text="resumed").count() == 1


# --- Cancel, and attempts that lost their round ------------------------------------------------------


STUBBORN = (
    "import subprocess\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
    "emit('respond', message=f'{os.getpid()} {other.pid}')\n"
    "time.sleep(100)\n"
)
POLITE = (
    "def end(*_):\n    emit('respond', message='stopped'); sys.exit(143)\n"
    "signal.signal(signal.SIGTERM, end)\nemit('respond', message='started'); time.sleep(100)\n"
)


def run_in_background(monkeypatch: pytest.MonkeyPatch, round: Round, code: str) -> threading.Thread:
    monkeypatch.setattr(runner, "phase_command", child(code))

    def work() -> None:
        try:
            runner.run_phase(str(round.pk), round.attempt)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_for_line(round: Round, seconds: float = 10) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        line = round.log.filter(stage="respond").first()
        if line is not None:
            return line.text
        time.sleep(0.1)
    raise AssertionError("the child said nothing")


def test_cancel_lets_the_child_finish_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    round = make_queued_round()
    thread = run_in_background(monkeypatch, round, POLITE)
    wait_for_line(round)
    began = time.monotonic()
    round.refresh_from_db()
    rounds.cancel_round(round=round, user=None)
    thread.join(10)
    round.refresh_from_db()
    assert (round.status, thread.is_alive()) == ("cancelled", False)
    assert time.monotonic() - began < 4


def test_cancel_ends_a_stubborn_child_and_its_children_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    round = make_queued_round()
    thread = run_in_background(monkeypatch, round, STUBBORN)
    pids = [int(pid) for pid in wait_for_line(round).split()]
    began = time.monotonic()
    round.refresh_from_db()
    rounds.cancel_round(round=round, user=None)
    thread.join(15)
    round.refresh_from_db()
    assert round.status == "cancelled"
    assert time.monotonic() - began < 10
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_an_attempt_taken_for_dead_stops_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    round = make_queued_round()
    thread = run_in_background(monkeypatch, round, POLITE)
    wait_for_line(round)
    Round.objects.filter(pk=round.pk).update(attempt=2, status="queued", reason="")
    thread.join(10)
    round.refresh_from_db()
    assert (round.status, round.reason, round.attempt) == ("queued", "", 2)


def test_the_heartbeat_goes_on_while_the_child_is_silent(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.HEARTBEAT_SECONDS = 1
    round = make_queued_round()
    thread = run_in_background(monkeypatch, round, "emit('respond', message='started'); time.sleep(4)")
    wait_for_line(round)
    round.refresh_from_db()
    before = round.heartbeat_at
    time.sleep(2.5)
    round.refresh_from_db()
    assert before is not None and round.heartbeat_at is not None and round.heartbeat_at > before
    thread.join(10)


def test_a_database_that_is_away_too_long_stops_the_phase(settings: Any) -> None:
    """Others take the attempt for dead by then, and two must not work in one folder."""
    settings.LOST_AFTER_SECONDS = 10
    pulse = runner.Pulse(make_queued_round())
    pulse.check()
    pulse.answered -= 9
    with pytest.raises(runner.PhaseFailed, match="did not answer for 9 seconds"):
        pulse.check()


# --- Run folders under a URL -------------------------------------------------------------------------


def remote_urls() -> list[Any]:
    there = os.environ.get("OVERSIGHT_TEST_S3_URL")
    skip = pytest.mark.skipif(not there, reason="OVERSIGHT_TEST_S3_URL is not set")
    return ["file", pytest.param(there, marks=skip, id="s3")]


@pytest.mark.parametrize("url", remote_urls())
def test_another_machine_takes_the_round_up(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path, url: str
) -> None:
    settings.RUNS_URL = f"file://{tmp_path}/shared" if url == "file" else f"{url.rstrip('/')}/{tmp_path.name}"
    monkeypatch.setattr("oversight.workers.listening", lambda queue: ["somebody"])
    code = (
        "mark = FOLDER + '/propose/attacks.jsonl'\n"
        "if not os.path.exists(mark):\n"
        "    open(mark, 'w').write('whole'); emit('attack'); sys.exit(1)\n"
        "emit('select', message='resumed', item=ITEM)"
    )
    settings.VAR_DIR = tmp_path / "machine-1"
    round = run(monkeypatch, make_queued_round(), code)
    assert round.status == "failed"
    round = rounds.retry_round(round=round, user=None)
    settings.VAR_DIR = tmp_path / "machine-2"
    round = run(monkeypatch, round, code)
    assert round.status == "reviewing"
    assert round.log.filter(text="resumed").exists()
    copy = tmp_path / "machine-2" / "runs-cache" / str(round.pk)
    assert (copy / "propose" / "attacks.jsonl").read_text() == "whole"
    # What is shared is all there, and only once whole.
    settings.VAR_DIR = tmp_path / "machine-3"
    folder = runfiles.run_folder(round)
    runfiles.pull(folder)
    assert {p.name for p in folder.path.rglob("*") if p.is_file()} == {
        "config.json", "events.jsonl", "attacks.jsonl", "seeds.jsonl", "principles.jsonl", "pool.jsonl",
    }  # fmt: skip


def test_a_newer_local_log_is_kept(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_URL = f"file://{tmp_path}/shared"
    folder = runfiles.run_folder(make_queued_round())
    folder.path.mkdir(parents=True)
    folder.events.path.write_text("one\n")
    runfiles.push(folder)
    folder.events.path.write_text("one\ntwo\n")
    runfiles.pull(folder)
    assert folder.events.path.read_text() == "one\ntwo\n"


def test_votes_are_what_people_said_blind_overruled_ones_too(db: None) -> None:
    """A dispute that a lead decided still counts as a disagreement among people."""
    sample = make_sample(round=make_round(status="done"), status="decided")
    ada, bob, lead = make_user(), make_user(), make_user("lead")
    make_review(sample=sample, reviewer=ada, action="approve")
    first = make_review(sample=sample, reviewer=bob, action="both_bad")
    make_review(sample=sample, reviewer=bob, action="approve", saw_critic=True, supersedes=first)
    decision = make_review(sample=sample, reviewer=lead, action="approve", purpose="adjudication", saw_critic=True)
    undone = make_review(sample=sample, reviewer=make_user(), action="both_bad")
    make_review(sample=sample, reviewer=undone.reviewer, action="undo", supersedes=undone)
    Label.objects.create(sample=sample, violates={"0": 0.0, "1": 0.0}, how="adjudicated", evidence=[str(decision.pk)])
    (row,) = runfiles.labels(sample.round)
    assert {key: sorted(own) for key, own in row.votes.items()} == {
        response["id"]: [False, True] for response in sample.responses
    }
    assert row.reviews == 1
    assert row.decided
    # The same two pseudonyms for both answers, in the order of the votes, and not the names.
    first, second = row.raters.values()
    assert first == second
    assert len(set(first)) == 2
    assert not {ada.username, bob.username, str(ada.pk), str(bob.pk)} & set(first)
