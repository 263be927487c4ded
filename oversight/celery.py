"""The Celery application: two queues, one schedule.

`gpu` carries the phases of rounds, `default` everything short. Messages are acknowledged before the
work starts, so that nothing is ever delivered twice; what gets lost with a killed worker or broker is
found by `tasks.watch_rounds` from the database, the only place where a round's state lives.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init, worker_process_init

from oversight.processes import die_with_parent
from oversight.workers import Presence

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oversight.settings")

app = Celery("oversight")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["oversight"])
app.conf.update(
    task_routes={"oversight.tasks.run_phase": {"queue": "gpu"}, "oversight.tasks.run_merge": {"queue": "gpu"}},
    task_acks_late=False,
    # A worker fetches a phase only when it is free to run it: another free machine may take it instead.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,  # a phase does not need the broker
    # A killed broker comes back within seconds; a worker looks for it for as long as it takes.
    broker_connection_retry=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        # A message that a killed worker had fetched is watch_rounds' business, not the transport's.
        "visibility_timeout": 7 * 24 * 3600,  # seconds
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5},
    beat_schedule={
        "watch-rounds": {
            "task": "oversight.tasks.watch_rounds",
            "schedule": 10.0,  # seconds
            "options": {"expires": 10},  # a worker that was away does not catch up on old ones
        }
    },
)
app.steps["consumer"].add(Presence)


@worker_process_init.connect(weak=False)
@beat_embedded_init.connect(weak=False)
def follow_worker(**_: Any) -> None:
    """Pool and scheduler processes die with their worker: one left behind would work where nobody can stop it."""
    die_with_parent()
