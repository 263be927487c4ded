"""Background tasks: ids in, one call each, safe to run twice."""

from __future__ import annotations

from uuid import UUID

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


@shared_task
def recompute_figures(experiment_id: str) -> None:
    """Computes the figures about the people of an experiment, where judgements came since (queue `default`)."""
    from oversight import figures

    figures.recompute_figures(experiment_id)


@shared_task
def run_withdrawal(withdrawal_id: str) -> None:
    """Takes judgements out or puts them back for some seconds, then leaves the rest to a task of its own."""
    from oversight.services import withdrawals

    withdrawals.run_shift(UUID(withdrawal_id))


@shared_task
def run_merge(merge_id: str, attempt: int) -> None:
    """Merges a checkpoint into its base model for download (queue `gpu`: it needs as much memory as a phase)."""
    from oversight import merging

    merging.run_merge(UUID(merge_id), attempt)
