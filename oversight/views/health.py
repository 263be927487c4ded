"""For load balancers and orchestrators: is the process up, and is all there that it needs?"""

from __future__ import annotations

from collections.abc import Callable

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.exceptions import RedisError

from oversight import workers


@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers; touches nothing else."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    """200, or 503 with the names of what is missing: database, migrations, broker, worker."""
    missing = [name for name, check in CHECKS.items() if not check()]
    status = {"status": "missing" if missing else "ok", "missing": missing}
    return JsonResponse(status, status=503 if missing else 200)


def database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def migrations_applied() -> bool:
    try:
        executor = MigrationExecutor(connection)
        return not executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return False


def broker_answers() -> bool:
    try:
        workers.client().ping()
    except RedisError:
        return False
    return True


def workers_listen() -> bool:
    """Both queues have somebody: rounds need `gpu`, the watch over lost rounds needs `default`."""
    try:
        return all(workers.listening(queue) for queue in ("gpu", "default"))
    except RedisError:
        return False


# In the order in which an operator would look.
CHECKS: dict[str, Callable[[], bool]] = {
    "database": database_answers,
    "migrations": migrations_applied,
    "broker": broker_answers,
    "worker": workers_listen,
}
