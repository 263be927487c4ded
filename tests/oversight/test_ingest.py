"""Events and files of a run folder become rows, once, whatever is repeated."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from alignment import records
from alignment.config import RoundConfig
from alignment.rundir import RunDir, write_rows
from oversight import ingest
from oversight.models import Checkpoint, Critique, LogLine, MetricPoint, ProbeAnswer, Query, Round, Sample
from tests.oversight.runs import event, make_queued_round, sample_item

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def round() -> Round:
    return make_queued_round()


@pytest.fixture
def folder(tmp_path: Path, round: Round) -> RunDir:
    folder = RunDir(tmp_path / str(round.pk))
    for path in (folder.propose, folder.learn):
        path.mkdir(parents=True)
    Round.objects.filter(pk=round.pk).update(status="proposing")
    return folder


def tail_for(round: Round, folder: RunDir) -> ingest.Tail:
    round.refresh_from_db()
    return ingest.Tail(round, folder)


def write(folder: RunDir, *lines: str) -> None:
    with folder.events.path.open("a") as file:
        file.writelines(lines)


def test_samples_become_rows_and_repeats_change_nothing(round: Round, folder: RunDir) -> None:
    flagged, audit, quiet = sample_item(), sample_item(reason="audit"), sample_item(reason=None)
    write(folder, *(event("select", 1.0, item=item) for item in (flagged, audit, quiet)))
    assert tail_for(round, folder).take_in()
    # A resumed phase emits its samples again; people may have decided one in between.
    Sample.objects.filter(pk=flagged["query"]["id"]).update(status="decided")
    write(folder, event("select", 2.0, item=flagged))
    tail = tail_for(round, folder)
    tail.take_in()
    assert not tail.take_in()
    assert (Query.objects.count(), Sample.objects.count(), Critique.objects.count()) == (3, 3, 6)
    sample = Sample.objects.get(pk=flagged["query"]["id"])
    assert (sample.status, sample.flag_reason, sample.priority, sample.audit) == ("decided", "violation", 0.9, False)
    assert Sample.objects.get(pk=audit["query"]["id"]).audit
    assert Sample.objects.get(pk=quiet["query"]["id"]).status == "unflagged"
    critique = sample.critiques.get(response_index=1)
    assert (critique.violation, critique.span, critique.scores) == (pytest.approx(0.4), [0, 3], {"private-life": 0.9})
    round.refresh_from_db()
    assert round.first_flag_at is not None


def test_parents_are_linked_where_they_are_known(round: Round, folder: RunDir) -> None:
    parent = sample_item()
    child = sample_item(parent=parent["query"]["id"])
    orphan = sample_item(parent="00000000-0000-4000-8000-000000000000")
    write(folder, *(event("select", 1.0, item=item) for item in (child, parent, orphan)))
    tail_for(round, folder).take_in()
    assert str(Query.objects.get(pk=child["query"]["id"]).parent_id) == parent["query"]["id"]
    assert Query.objects.get(pk=orphan["query"]["id"]).parent is None


TURNS = [{"role": "user", "content": "Tell me of doors."}, {"role": "assistant", "content": "A do\x00or opens."}]


def test_the_turns_before_an_attack_are_kept_and_found(round: Round, folder: RunDir) -> None:
    plain, told = sample_item(), sample_item()
    told["query"]["history"] = TURNS
    write(folder, event("select", 1.0, item=plain), event("select", 2.0, item=told))
    tail_for(round, folder).take_in()
    sample = Sample.objects.select_related("query").get(pk=told["query"]["id"])
    assert sample.query.history == [TURNS[0], {"role": "assistant", "content": "A door opens."}]
    assert " opens " in f" {sample.words.text} "
    other = Sample.objects.select_related("query").get(pk=plain["query"]["id"])
    assert other.query.history == [] and other.content_hash != sample.content_hash


@pytest.mark.parametrize("turn", [{"role": "system", "content": "x"}, {"role": "user"}, {"role": "user", "content": 3}])
def test_a_turn_that_is_none_is_named(round: Round, folder: RunDir, turn: dict[str, Any]) -> None:
    told = sample_item()
    told["query"]["history"] = [turn]
    write(folder, event("select", 1.0, item=told))
    with pytest.raises(ValueError, match="no turn"):
        tail_for(round, folder).take_in()


def test_text_that_no_database_takes(round: Round, folder: RunDir) -> None:
    write(folder, event("select", 1.0, item=sample_item(text="a\x00b\ud800c"), message="nul \x00 here"))
    tail_for(round, folder).take_in()
    assert Query.objects.get().text == "ab?c"
    assert LogLine.objects.get().text == "nul  here"


def test_seconds_by_stage_and_progress(round: Round, folder: RunDir) -> None:
    tail = tail_for(round, folder)
    start = tail.since
    write(
        folder,
        event("attack", start + 2, done=0, total=10),
        event("respond", start + 5, done=0, total=10, message="answering"),
        event("attack", start + 9, done=3, total=10),
        event("respond", start + 10, done=4, total=10),
    )
    tail.take_in()
    round.refresh_from_db()
    assert round.stage_seconds == {"load": 2.0, "attack": 4.0, "respond": 4.0}
    assert (round.stage, round.stage_done, round.stage_total) == ("respond", 4, 10)
    assert round.stage_started_at is not None and round.stage_started_at.timestamp() == pytest.approx(start + 10)
    write(folder, event("finished", start + 12))
    tail.take_in()
    round.refresh_from_db()
    assert round.stage_seconds["respond"] == 6.0
    # The time between two attempts belongs to no stage.
    assert tail_for(round, folder).since == pytest.approx(time.time(), abs=1)


def test_the_log_in_words(round: Round, folder: RunDir) -> None:
    write(
        folder,
        event("train", 1.0, metrics={"loss": 0.123456, "step": 3}),
        event("train", 2.0, message="half way", metrics={"loss": 0.1}),
        event("train", 3.0, error="no room on the disk"),
        event("train", 4.0),
    )
    tail = tail_for(round, folder)
    tail.take_in()
    assert list(LogLine.objects.values_list("text", "error")) == [
        ("loss 0.1235, step 3", False),
        ("half way · loss 0.1", False),
        ("no room on the disk", True),
    ]
    assert tail.error == "no room on the disk"


def test_half_a_line_waits(round: Round, folder: RunDir) -> None:
    line = event("select", 1.0, item=sample_item())
    write(folder, line[:50])
    tail = tail_for(round, folder)
    assert not tail.take_in()
    write(folder, line[50:])
    assert tail.take_in()
    assert Sample.objects.count() == 1


def test_a_log_shorter_than_before_is_taken_from_its_end(round: Round, folder: RunDir) -> None:
    Round.objects.filter(pk=round.pk).update(events_offset=10_000)
    write(folder, event("select", 1.0, message="old"))
    tail = tail_for(round, folder)
    write(folder, event("select", 2.0, message="new"))
    tail.take_in()
    assert [line.text for line in LogLine.objects.all()] == ["new"]


@pytest.mark.parametrize("change", [{"attempt": 2}, {"status": "failed"}])
def test_a_superseded_attempt_writes_nothing(round: Round, folder: RunDir, change: dict[str, Any]) -> None:
    tail = tail_for(round, folder)
    Round.objects.filter(pk=round.pk).update(**change)
    write(folder, event("select", 1.0, item=sample_item()))
    with pytest.raises(ingest.Superseded):
        tail.take_in()
    assert not Sample.objects.exists()


def test_an_item_of_another_form_is_named(round: Round, folder: RunDir) -> None:
    write(folder, event("select", 1.0, item={**sample_item(), "colour": "red"}))
    with pytest.raises(ValueError, match="no field colour"):
        tail_for(round, folder).take_in()


def test_queries_do_not_grow_with_samples(round: Round, folder: RunDir, django_assert_max_num_queries) -> None:
    write(folder, *(event("select", 1.0, item=sample_item()) for _ in range(200)))
    tail = tail_for(round, folder)
    with django_assert_max_num_queries(30):
        tail.take_in()
    assert Sample.objects.count() == 200


# --- What a learn phase leaves -----------------------------------------------------------------------


def write_results(folder: RunDir, *, accepted: bool = True) -> None:
    def metric(name: str, value: float | None, **more: Any) -> records.Metric:
        return records.Metric(name=name, value=value, ci_low=0.1, ci_high=0.3, n=10, seed=0, **more)

    write_rows(
        folder.learn / "metrics.jsonl",
        [
            metric("attack_success", 0.2),
            metric("attack_success", 0.4, model="old"),
            metric("critic_recall", None, reason="nothing was reviewed"),
            metric("hypervolume", math.nan),
        ],
    )
    answer = records.ProbeAnswer("p-1", "unsafe", "privacy", 0, "Where?", "There.", "No.", "violates", "refused")
    write_rows(folder.learn / "answers.jsonl", [answer])
    gate = {"accepted": accepted, "reasons": ["attack success fell from 0.40 to 0.20"]}
    (folder.learn / "gate.json").write_text(json.dumps(gate))
    for name in ("adapter", "critic"):
        (folder.learn / name).mkdir(exist_ok=True)
        (folder.learn / name / "weights.safetensors").write_bytes(b"w")


@pytest.mark.parametrize("accepted", [True, False])
def test_learn_results(round: Round, folder: RunDir, accepted: bool) -> None:
    write_results(folder, accepted=accepted)
    folder.create(RoundConfig(round_id=str(round.pk), number=4))
    for _ in range(2):  # a retry takes them in again
        reason = ingest.save_learn_results(round, folder)
    assert reason == ("" if accepted else "Rolled back: attack success fell from 0.40 to 0.20")
    points = {(p.name, p.model): p for p in MetricPoint.objects.all()}
    assert len(points) == 4
    assert points["attack_success", "old"].value == 0.4
    assert points["critic_recall", "new"].reason == "nothing was reviewed"
    broken = points["hypervolume", "new"]
    assert (broken.value, broken.reason) == (None, "the value came out as nan")
    assert ProbeAnswer.objects.get().after_verdict == "refused"
    learner = Checkpoint.objects.get(role="learner")
    assert learner.verdict == ("accepted" if accepted else "rolled back")
    assert learner.path == f"{round.pk}/learn/adapter"
    assert Checkpoint.objects.get(role="critic").verdict == "accepted"
    assert (learner.card["round"], learner.card["base_model"], learner.card["accepted"]) == (4, "tiny", accepted)
    assert learner.card["sha256"] == learner.sha256 and learner.card["reviewers"] == 0
