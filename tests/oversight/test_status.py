"""`manage.py status`: the same numbers for people and for programs."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone
from redis.exceptions import ConnectionError as NoBroker

from oversight import workers
from oversight.selectors.status import read_status
from tests.factories import make_round, make_sample

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: ["gpu@one"] if queue == "gpu" else [])
    monkeypatch.setattr(workers, "waiting", lambda queue: 2)


def test_counts_and_times() -> None:
    now = timezone.now()
    round = make_round(
        status="reviewing",
        stage_seconds={"load": 1.5, "respond": 20.25},
        started_at=now - timedelta(seconds=100),
        first_flag_at=now - timedelta(seconds=60),
        proposed_at=now - timedelta(seconds=10),
    )
    make_sample(round=round)
    make_sample(round=round, status="decided")
    make_sample(round=round, status="unflagged")
    report = read_status()
    assert report["queue"] == {"waiting": 1, "decided": 1, "skipped": 0}
    row = report["rounds"][0]
    assert (row["samples"], row["flagged"], row["waiting"], row["decided"]) == (3, 2, 1, 1)
    assert (row["seconds_to_first_flag"], row["propose_seconds"], row["learn_seconds"]) == (40.0, 90.0, None)
    assert report["broker"]["workers"] == {"gpu": ["gpu@one"], "default": []}


def test_json_and_text() -> None:
    make_round(status="failed", reason="The propose phase stopped in stage respond: no room")
    out = StringIO()
    call_command("status", "--json", stdout=out)
    assert json.loads(out.getvalue())["rounds"][0]["status"] == "failed"
    out = StringIO()
    call_command("status", stdout=out)
    assert "NOBODY LISTENS" in out.getvalue()
    assert "stopped in stage respond: no room" in out.getvalue()


def test_says_that_the_broker_is_away_and_never_shows_its_password(monkeypatch: pytest.MonkeyPatch, settings) -> None:
    def refuse(queue: str) -> None:
        raise NoBroker("Connection refused")

    monkeypatch.setattr(workers, "listening", refuse)
    settings.REDIS_URL = "redis://:hidden@127.0.0.1:1/0"
    out = StringIO()
    call_command("status", stdout=out)
    assert "NO ANSWER: Connection refused" in out.getvalue()
    assert "hidden" not in out.getvalue()


def test_queries_do_not_grow_with_rounds(django_assert_num_queries) -> None:
    experiment = make_round(status="done").experiment
    for _ in range(5):
        make_sample(round=make_round(experiment=experiment, status="done"))
    with django_assert_num_queries(4):
        read_status()
