"""/health/live and /health/ready."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from redis.exceptions import ConnectionError as NoBroker

from oversight import workers


@pytest.fixture
def all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "client", lambda: type("Redis", (), {"ping": lambda self: True})())
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])


def no_broker(*args: object) -> None:
    raise NoBroker("nobody answers")


def test_live_needs_nothing(client: Client) -> None:
    assert client.get("/health/live").status_code == 200  # the database is not open to this test
    assert client.post("/health/live").status_code == 405


@pytest.mark.django_db
def test_ready_when_all_is_there(client: Client, all_there: None) -> None:
    response = client.get("/health/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "missing": []})


@pytest.mark.django_db
def test_ready_names_the_queue_without_a_worker(
    client: Client, all_there: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: ["somebody"] if queue == "default" else [])
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["worker"])


@pytest.mark.django_db
def test_ready_without_broker(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "client", no_broker)
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["broker", "worker"])


@pytest.mark.django_db
def test_ready_names_missing_migrations(client: Client, all_there: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'oversight'")
    assert client.get("/health/ready").json()["missing"] == ["migrations"]


@pytest.mark.django_db
def test_ready_without_database(client: Client, all_there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError
    from django.db.backends.base.base import BaseDatabaseWrapper

    def refuse(self: object, *args: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", refuse)
    response = client.get("/health/ready")
    assert (response.status_code, response.json()["missing"]) == (503, ["database", "migrations"])
