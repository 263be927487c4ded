"""The watch over lost rounds, and what the queues promise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import schedule
from django.utils import timezone
from redis.exceptions import ConnectionError as NoBroker

from oversight import tasks, watch, workers
from oversight.celery import app
from oversight.models import LogLine, Round
from oversight.services import demo
from tests.factories import make_round

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Messages to the gpu queue; nobody has fetched or left one there."""
    found: list[tuple[str, int]] = []
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *arguments: found.append(arguments))
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(workers, "listening", lambda queue: ["gpu@here"])
    return found


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


@pytest.mark.parametrize(("status", "phase"), [("proposing", "propose"), ("learning", "learn")])
@pytest.mark.parametrize("heartbeat", [60, None])
def test_a_silent_round_says_what_happened(status: str, phase: str, heartbeat: int | None) -> None:
    round = make_round(
        status=status, phase=phase, stage="respond", attempt=1, heartbeat_at=ago(heartbeat) if heartbeat else None
    )
    tasks.watch_rounds()
    round.refresh_from_db()
    assert round.status == "failed"
    assert "stopped answering during stage respond" in round.reason
    assert "retry resumes" in round.reason
    assert LogLine.objects.filter(round=round, error=True).count() == 1


def test_a_silent_round_that_was_to_be_cancelled_is_cancelled() -> None:
    round = make_round(status="proposing", attempt=1, heartbeat_at=ago(60), cancel_requested=True)
    tasks.watch_rounds()
    round.refresh_from_db()
    assert round.status == "cancelled"


@pytest.mark.parametrize("status", ["proposing", "learning", "reviewing", "done"])
def test_a_round_that_answers_or_needs_no_worker_is_left_alone(status: str) -> None:
    round = make_round(status=status, heartbeat_at=ago(20))
    tasks.watch_rounds()
    round.refresh_from_db()
    assert (round.status, round.reason) == (status, "")


def test_a_lost_message_is_sent_again_and_said(sent: list[Any]) -> None:
    round = make_round(status="queued", attempt=3, queued_at=ago(30))
    tasks.watch_rounds()
    tasks.watch_rounds()  # the next look leaves it time
    assert sent == [(str(round.pk), 3)]
    assert "sent again" in LogLine.objects.get().text


def test_messages_that_wait_are_not_doubled(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    make_round(status="queued", attempt=1, queued_at=ago(30))
    monkeypatch.setattr(workers, "waiting", lambda queue: 1)
    tasks.watch_rounds()
    assert sent == []


def test_a_round_that_was_just_queued_has_time(sent: list[Any]) -> None:
    make_round(status="queued", attempt=1, queued_at=ago(5))
    tasks.watch_rounds()
    assert sent == []


def test_without_a_broker_rounds_wait(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: str) -> None:
        raise NoBroker("nobody answers")

    round = make_round(status="queued", attempt=1, queued_at=ago(30))
    monkeypatch.setattr(workers, "waiting", refuse)
    watch.watch_rounds()
    round.refresh_from_db()
    assert (round.status, sent) == ("queued", [])


def test_a_start_takes_interrupted_rounds_up(sent: list[Any]) -> None:
    proposing = make_round(status="proposing", attempt=1, heartbeat_at=ago(5), stage="respond")
    learning = make_round(status="learning", phase="learn", attempt=4, heartbeat_at=ago(5))
    queued = make_round(status="queued", attempt=1, queued_at=ago(1))
    cancelled = make_round(status="proposing", attempt=1, cancel_requested=True)
    said = demo.take_up(demo.fail_interrupted_rounds())
    statuses = {round.pk: (round.status, round.attempt) for round in Round.objects.all()}
    assert statuses == {
        proposing.pk: ("queued", 2), learning.pk: ("queued", 5), queued.pk: ("queued", 1),
        cancelled.pk: ("cancelled", 1),
    }  # fmt: skip
    assert sorted(sent) == sorted([(str(proposing.pk), 2), (str(learning.pk), 5), (str(queued.pk), 1)])
    assert len(said) == 3
    assert LogLine.objects.filter(round=proposing, text__contains="stopped during stage respond").exists()


def test_queues_and_schedule() -> None:
    assert app.amqp.router.route({}, "oversight.tasks.run_phase")["queue"].name == "gpu"
    assert app.amqp.router.route({}, "oversight.tasks.watch_rounds")["queue"].name == "default"
    entry = app.conf.beat_schedule["watch-rounds"]
    assert schedule(timedelta(seconds=entry["schedule"])).run_every.total_seconds() == 10
    assert not app.conf.task_acks_late
