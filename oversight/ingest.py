"""Run folder to rows: what a running phase says, and what it leaves behind. Everything may be taken in twice."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from alignment import records
from alignment.events import read_events
from alignment.rundir import RunDir, read_rows
from oversight import search
from oversight.cards import write_card
from oversight.events import publish
from oversight.models import (
    Checkpoint,
    Critique,
    Experiment,
    LogLine,
    MetricPoint,
    ProbeAnswer,
    Query,
    Round,
    Sample,
    SecondLook,
)
from oversight.models.samples import call_letter
from oversight.runfiles import digest_folder
from oversight.selectors.starts import find_start

log = logging.getLogger(__name__)
BATCH = 500  # events taken in by one transaction


class Superseded(Exception):
    """The round went on without this attempt: it was taken for dead, cancelled or retried."""


def lock_attempt(round_id: UUID, attempt: int) -> Round:
    """The round's row, locked; raises Superseded where another attempt, or none, now owns it."""
    round = Round.objects.select_for_update().get(pk=round_id)
    if round.attempt != attempt or round.status not in (Round.Status.PROPOSING, Round.Status.LEARNING):
        raise Superseded(f"round {round_id} is {round.status} at attempt {round.attempt}, not {attempt}")
    return round


class Tail:
    """Follows events.jsonl of one attempt. The place reached is kept in `Round.events_offset` (bytes)."""

    def __init__(self, round: Round, folder: RunDir) -> None:
        self.round_id, self.attempt = round.pk, round.attempt
        self.path = folder.events.path
        size = self.path.stat().st_size if self.path.exists() else 0
        # Shorter than before: another machine's attempt died before it sent its log. Its samples come again.
        self.offset = min(round.events_offset, size)
        self.stage, self.since = "load", time.time()
        self.error = ""  # the last error that the child wrote

    def take_in(self) -> bool:
        """Turns what was written since the last call into rows; True where there was anything."""
        events: list[tuple[int, dict[str, Any]]] = []
        for offset, event in read_events(self.path, self.offset):
            before = events[-1][1] if events else {"stage": self.stage, "done": 0, "total": 0}
            events.append((offset, _stay_in_stage(_clean(event), before)))
            if len(events) == BATCH:
                break
        if not events:
            return False
        seconds = self._seconds([event for _, event in events])
        with transaction.atomic():
            round = lock_attempt(self.round_id, self.attempt)
            flagged = _save_samples(round, [event["item"] for _, event in events if _is_sample(event)])
            LogLine.objects.bulk_create(_log_lines(round, [event for _, event in events]))
            self._save_progress(round, events, seconds)
            if flagged and round.first_flag_at is None:
                round.first_flag_at = timezone.now()
            round.save(update_fields=[*PROGRESS, "first_flag_at"])
            publish("round", str(round.pk))
            if flagged:
                publish("queue")
        self.offset, self.stage, self.since = events[-1][0], events[-1][1]["stage"], events[-1][1]["t"]
        self.error = next((event["error"] for _, event in reversed(events) if event.get("error")), self.error)
        return True

    def _seconds(self, events: list[dict[str, Any]]) -> dict[str, float]:
        """Seconds by stage: the time up to an event belongs to the stage that was running before it."""
        found: dict[str, float] = {}
        stage, since = self.stage, self.since
        for event in events:
            found[stage] = found.get(stage, 0.0) + max(0.0, event["t"] - since)
            stage, since = event["stage"], event["t"]
        return found

    def _save_progress(self, round: Round, events: list[tuple[int, dict[str, Any]]], seconds: dict[str, float]) -> None:
        offset, last = events[-1]
        if last["stage"] != round.stage or round.stage_started_at is None:
            first = next(event for _, event in reversed(events) if event["stage"] == last["stage"])
            round.stage_started_at = datetime.fromtimestamp(first["t"], UTC)
        round.stage, round.stage_done, round.stage_total = last["stage"], last["done"], last["total"]
        round.stage_seconds = {
            **round.stage_seconds,
            **{stage: _milliseconds(round.stage_seconds.get(stage, 0) + more) for stage, more in seconds.items()},
        }
        round.events_offset, round.heartbeat_at = offset, timezone.now()


def _stay_in_stage(event: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """An error belongs to the stage it happened in: the child's last word names none."""
    if event["stage"] != "error":
        return event
    return {**event, "stage": before["stage"], "done": before["done"], "total": before["total"]}


PROGRESS = ["stage", "stage_done", "stage_total", "stage_started_at", "stage_seconds", "events_offset", "heartbeat_at"]


def _milliseconds(seconds: float) -> float:
    return float(f"{seconds:.3f}")


def _is_sample(event: dict[str, Any]) -> bool:
    return isinstance(event.get("item"), dict) and event["item"].get("type") == "sample"


def _log_lines(round: Round, events: list[dict[str, Any]]) -> list[LogLine]:
    lines = []
    for event in events:
        error, text = event.get("error", ""), event.get("message", "")
        numbers = ", ".join(f"{name} {_number(value)}" for name, value in (event.get("metrics") or {}).items())
        text = error or " · ".join(part for part in (text, numbers) if part)
        if text:
            at = datetime.fromtimestamp(event["t"], UTC)
            lines.append(LogLine(round=round, at=at, stage=event["stage"][:40], text=text[:4000], error=bool(error)))
    return lines


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clean(value: Any) -> Any:
    """Model text as the database can hold it: no NUL (PostgreSQL refuses it), no half characters."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(part) for part in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- Samples ---------------------------------------------------------------------------------------


def _save_samples(round: Round, items: list[dict[str, Any]]) -> int:
    """Writes the samples that are new; returns how many of these go to people. Caller holds the round's lock."""
    rows = {}
    for item in items:
        sample = records.Sample.from_json({key: value for key, value in item.items() if key != "type"})
        rows[sample.query["id"]] = (records.Query.from_json(sample.query), sample)
    known = {str(pk) for pk in Sample.objects.filter(pk__in=list(rows)).values_list("pk", flat=True)}
    new = {key: value for key, value in rows.items() if key not in known}
    if not new:
        return 0
    parents = {query.parent for query, _ in new.values() if query.parent}
    reachable = set(new) | {str(pk) for pk in Query.objects.filter(pk__in=parents).values_list("pk", flat=True)}
    queries = [_query(round, query, reachable) for query, _ in new.values()]
    Query.objects.bulk_create(queries)
    samples = [_sample(round, query, sample) for query, sample in new.values()]
    Sample.objects.bulk_create(samples)
    search.index_samples((row, query.searched) for row, query in zip(samples, queries, strict=True))
    Critique.objects.bulk_create([row for _, sample in new.values() for row in _critiques(sample)])
    return sum(sample.status == Sample.Status.QUEUED for sample in samples)


def _query(round: Round, query: records.Query, reachable: set[str]) -> Query:
    return Query(
        id=query.id, round=round, text=query.text, kind=query.kind, category=query.category,
        principle=query.principle, style=query.style, level=query.level, operator=query.operator,
        written_by=query.written_by, seed_key=query.seed, task=query.task, history=_turns(query),
        parent_id=query.parent if query.parent in reachable else None,
    )  # fmt: skip


def _turns(query: records.Query) -> list[dict[str, str]]:
    for turn in query.history:
        if turn.get("role") not in ("user", "assistant") or not isinstance(turn.get("content"), str):
            raise ValueError(
                f"query {query.id}: {turn!r:.200} is no turn; it needs a role, user or assistant, and content"
            )
    return query.history


def _sample(round: Round, query: records.Query, sample: records.Sample) -> Sample:
    flag = records.Flag.from_json(sample.flag) if sample.flag else None
    return Sample(
        id=query.id,
        query_id=query.id,
        round=round,
        experiment_id=round.experiment_id,
        kind=query.kind,
        category=query.category or "",
        principle=query.principle or "",
        operator=query.operator,
        level=query.level,
        calls=write_calls(sample.responses, sample.critiques),
        responses=sample.responses,
        status=Sample.Status.QUEUED if flag else Sample.Status.UNFLAGGED,
        flag_reason=flag.reason if flag else "",
        flag_words=flag.words if flag else "",
        priority=flag.priority if flag else 0,
        propensity=sample.propensity,
        audit=flag is not None and flag.reason == "audit",
        content_hash=content_hash(
            [*(turn["content"] for turn in query.history), query.text],
            [response["text"] for response in sample.responses],
        ),
        wanted=reviews_wanted(round.experiment, query.id) if flag else 1,
    )


def write_calls(responses: list[dict[str, Any]], critiques: list[dict[str, Any]]) -> str:
    """`Sample.calls`: a letter an answer, in their order; "?" where the critique failed or is missing."""
    found = {critique["response"]: critique["violation"] for critique in critiques if critique["status"] == "ok"}
    return "".join(call_letter(found.get(response["id"])) for response in responses)[:16]


def reviews_wanted(experiment: Experiment, query_id: str) -> int:
    """How many people judge a flagged sample: `overlap` for a random share of them, else one.

    Drawn from the experiment's seed and the sample's id, so that a resumed phase draws the same again.
    """
    digest = hashlib.sha256(f"overlap:{experiment.seed}:{query_id}".encode()).digest()
    drawn = int.from_bytes(digest[:8], "big") / 2**64 < experiment.overlap_share
    return experiment.overlap if drawn else 1


def content_hash(turns: list[str], responses: list[str]) -> str:
    """SHA-256 of what a reviewer sees: the turns, of which the last is the query, and its answers, in order."""
    return hashlib.sha256("\0".join([*turns, *responses]).encode()).hexdigest()


def _critiques(sample: records.Sample) -> list[Critique]:
    index = {response["id"]: place for place, response in enumerate(sample.responses)}
    return [
        Critique(
            sample_id=critique.query, response_index=index[critique.response], status=critique.status,
            violation=critique.violation, uncertainty=critique.uncertainty, disagreement=critique.disagreement,
            principle=critique.principle, scores=critique.scores, members=critique.members,
            rationale=critique.rationale, span=critique.span, correct=critique.correct,
        )
        for critique in (records.Critique.from_json(row) for row in sample.critiques)
    ]  # fmt: skip


# --- Results ---------------------------------------------------------------------------------------


def save_propose_results(round: Round, folder: RunDir) -> None:
    """The metrics of the propose phase, where it left any. Caller holds the round's lock.

    After it, the planner learns what the tables hold now.
    """
    path = folder.propose / "metrics.jsonl"
    if path.exists():
        _save_metrics(round, read_rows(path, records.Metric))
    transaction.on_commit(search.tidy_index, robust=True)


def save_learn_results(round: Round, folder: RunDir) -> str:
    """Metrics, probe answers and checkpoints; returns why a checkpoint was rolled back, or "".

    Caller holds the round's lock.
    """
    _save_metrics(round, read_rows(folder.learn / "metrics.jsonl", records.Metric))
    _save_answers(round, read_rows(folder.learn / "answers.jsonl", records.ProbeAnswer))
    gate = records.GateResult.from_json(_clean(json.loads((folder.learn / "gate.json").read_text())))
    if (folder.learn / "second_look.jsonl").exists():
        save_second_looks(round, read_rows(folder.learn / "second_look.jsonl", records.SecondLook))
    for role, name in ((Checkpoint.Role.LEARNER, "adapter"), (Checkpoint.Role.CRITIC, "critic")):
        if (folder.learn / name).is_dir():
            _save_checkpoint(round, role, folder, name, gate)
    return "" if gate.accepted else "Rolled back: " + "; ".join(gate.reasons)


def _save_metrics(round: Round, rows: list[records.Metric]) -> None:
    points = []
    for row in rows:
        finite = row.value is None or math.isfinite(row.value)
        points.append(
            MetricPoint(
                round=round,
                name=row.name,
                group=row.group,
                model=row.model,
                value=row.value if finite else None,
                ci_low=_finite(row.ci_low),
                ci_high=_finite(row.ci_high),
                n=row.n,
                seed=row.seed,
                reason=row.reason if finite else f"the value came out as {row.value}",
            )
        )
    MetricPoint.objects.bulk_create(
        points,
        update_conflicts=True,
        unique_fields=["round", "name", "group", "model"],
        update_fields=["value", "ci_low", "ci_high", "n", "seed", "reason"],
    )


def save_second_looks(round: Round, rows: list[records.SecondLook]) -> None:
    """The doubtful labels of the round's own samples. What a lead did about one stays when it is taken in again."""
    place = {
        response["id"]: (sample.pk, index)
        for sample in Sample.objects.filter(round=round, pk__in={row.query for row in rows})
        for index, response in enumerate(sample.responses)
    }
    looks = [
        SecondLook(
            sample_id=place[row.response][0], response_index=place[row.response][1], label=row.label,
            predicted=row.predicted, margin=row.margin, words=row.words,
        )
        for row in rows
        if row.response in place
    ]  # fmt: skip
    SecondLook.objects.bulk_create(
        looks, update_conflicts=True, unique_fields=["sample", "response_index"],
        update_fields=["label", "predicted", "margin", "words"],
    )  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _save_answers(round: Round, rows: list[records.ProbeAnswer]) -> None:
    answers = [ProbeAnswer(round=round, **_clean(row.to_json())) for row in rows]
    fields = [name for name in records.ProbeAnswer.__dataclass_fields__ if name != "probe"]
    ProbeAnswer.objects.bulk_create(
        answers, update_conflicts=True, unique_fields=["round", "probe"], update_fields=fields
    )


def _save_checkpoint(round: Round, role: Checkpoint.Role, folder: RunDir, name: str, gate: records.GateResult) -> None:
    digest = digest_folder(folder.learn / name)
    accepted = gate.accepted or role == Checkpoint.Role.CRITIC  # the gate judges the learner only
    Checkpoint.objects.update_or_create(
        round=round,
        role=role,
        defaults={
            "experiment_id": round.experiment_id,
            "parent": find_start(round) if role == Checkpoint.Role.LEARNER else None,
            "path": f"{folder.path.name}/learn/{name}",
            "sha256": digest,
            "card": write_card(round, folder, name, digest),
            "verdict": Checkpoint.Verdict.ACCEPTED if accepted else Checkpoint.Verdict.ROLLED_BACK,
            "reasons": gate.reasons,
        },
    )
