"""The state of the whole system in one structure: `manage.py status` and whoever else reports it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Q
from redis.exceptions import RedisError

from oversight import workers
from oversight.models import Round, Sample

QUEUES = ("gpu", "default")


def read_status(*, limit: int = 20) -> dict[str, Any]:
    """Database, broker, workers, queue and the last `limit` rounds; each part says so where it can't be read."""
    report: dict[str, Any] = {"broker": _broker(), "database": _database()}
    if report["database"]["answers"]:
        report["queue"] = _queue()
        report["rounds"] = _rounds(limit)
    return report


def _database() -> dict[str, Any]:
    shown = connection.settings_dict["HOST"] or str(connection.settings_dict["NAME"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            tables = connection.introspection.table_names(cursor)
    except DatabaseError as error:
        return {"vendor": connection.vendor, "at": shown, "answers": False, "error": str(error).strip()}
    if Round._meta.db_table not in tables:
        error_text = "it has no tables yet; run `manage.py migrate`"
        return {"vendor": connection.vendor, "at": shown, "answers": False, "error": error_text}
    return {"vendor": connection.vendor, "at": shown, "answers": True}


def _broker() -> dict[str, Any]:
    shown = settings.REDIS_URL.rpartition("@")[2].removeprefix("redis://")  # never its password
    try:
        listening = {queue: workers.listening(queue) for queue in QUEUES}
        waiting = {queue: workers.waiting(queue) for queue in QUEUES}
    except RedisError as error:
        return {"at": shown, "answers": False, "error": str(error)}
    return {"at": shown, "answers": True, "workers": listening, "messages": waiting}


def _queue() -> dict[str, int]:
    """Samples of rounds that people can work on now."""
    counts = Sample.objects.filter(round__status__in=Round.OPEN).aggregate(
        waiting=Count("pk", filter=Q(status=Sample.Status.QUEUED)),
        decided=Count("pk", filter=Q(status=Sample.Status.DECIDED)),
        skipped=Count("pk", filter=Q(status=Sample.Status.SKIPPED)),
    )
    return dict(counts)


def _rounds(limit: int) -> list[dict[str, Any]]:
    found = Round.objects.select_related("experiment").annotate(
        sample_count=Count("samples"),
        flagged=Count("samples", filter=~Q(samples__status=Sample.Status.UNFLAGGED)),
        waiting=Count("samples", filter=Q(samples__status=Sample.Status.QUEUED)),
        decided=Count("samples", filter=Q(samples__status=Sample.Status.DECIDED)),
    )
    return [_round(round) for round in found.order_by("-created_at")[:limit]]


def _round(round: Any) -> dict[str, Any]:
    return {
        "id": str(round.pk),
        "experiment": round.experiment.name,
        "number": round.number,
        "objective": round.objective,
        "status": round.status,
        "phase": round.phase,
        "stage": round.stage,
        "done": round.stage_done,
        "total": round.stage_total,
        "reason": round.reason,
        "samples": round.sample_count,
        "flagged": round.flagged,
        "waiting": round.waiting,
        "decided": round.decided,
        "stage_seconds": round.stage_seconds,
        "seconds_to_first_flag": _seconds(round.started_at, round.first_flag_at),
        "propose_seconds": _seconds(round.started_at, round.proposed_at),
        "learn_seconds": _seconds(round.learning_at, round.finished_at if round.status == "done" else None),
        "heartbeat_at": round.heartbeat_at.isoformat() if round.heartbeat_at else None,
    }


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    """Seconds between two moments; None where one of them has not come."""
    return float(f"{(end - start).total_seconds():.1f}") if start and end and end >= start else None
