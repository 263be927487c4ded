"""Background tasks: ids in, one call each, safe to run twice."""

from __future__ import annotations

from celery import shared_task


@shared_task
def run_phase(round_id: str, attempt: int) -> None:
    """Runs the queued phase of a round to its end (queue `gpu`)."""
    from oversight import runner

    runner.run_phase(round_id, attempt)


@shared_task
def watch_rounds() -> None:
    """Finds rounds whose worker or message was lost (queue `default`, every ten seconds)."""
    from oversight import watch

    watch.watch_rounds()
