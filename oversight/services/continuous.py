"""Continuous mode: the next round launches itself when a round is done, within a stated budget, and stops by rule.

`advance` may be called by anybody at any time, and twice at once: it locks the experiment, then the run, and launches
only where no round is open. The end of a round calls it on commit; the watch calls it every ten seconds for what a
killed process left undone.
"""

from __future__ import annotations

import logging
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from oversight.events import publish
from oversight.models import ContinuousRun, Experiment, Round, User
from oversight.selectors.continuous import Spent, read_spent
from oversight.services import audit, launching
from oversight.services.round_rows import RoundRefused, name_of

log = logging.getLogger(__name__)
State = ContinuousRun.State


def start_continuous(
    *, experiment: Experiment, user: User, rounds: int, reviews: int, minutes: float, patience: int = 2,
    window: int = 3, least_gain: float = 0.005,
) -> ContinuousRun:  # fmt: skip
    """Switches the mode on; a round that is open counts as the first of its budget. RoundRefused where it runs already,
    ValueError for a limit that makes no sense. A run that was paused ends."""
    run = ContinuousRun(
        experiment=experiment, rounds=rounds, reviews=reviews, minutes=minutes, patience=patience, window=window,
        least_gain=least_gain, started_by=user,
    )  # fmt: skip
    try:
        run.clean_fields()
    except ValidationError as error:
        raise ValueError(
            "; ".join(f"{name}: {' '.join(words)}" for name, words in error.message_dict.items())
        ) from error
    with transaction.atomic():
        Experiment.objects.select_for_update().get(pk=experiment.pk)
        for active in (
            ContinuousRun.objects.select_for_update().filter(experiment=experiment).exclude(state=State.STOPPED)
        ):
            if active.state == State.RUNNING:
                raise RoundRefused("Continuous mode is on already; pause it first.")
            _stop(active, "replaced", f"{name_of(user)} started it anew.")
        run.after = run.judged_after = _last_finished(experiment)
        run.save(force_insert=True)
        _tell(run, user, "continuous.start", f"{rounds} rounds, {reviews} reviews, {minutes:g} minutes at most.")
    advance(run.pk)
    return run


@transaction.atomic
def pause_continuous(*, run: ContinuousRun, user: User) -> ContinuousRun:
    """No round starts by itself until somebody resumes; a round that runs goes on."""
    run = _lock(run.pk)
    if run.state != State.RUNNING:
        raise RoundRefused(f"Continuous mode is {run.state}; only a running one can be paused.")
    run.state, run.waiting, run.reason = State.PAUSED, "", f"Paused by {name_of(user)}."
    run.save()
    _tell(run, user, "continuous.pause", run.reason)
    return run


def resume_continuous(*, run: ContinuousRun, user: User) -> ContinuousRun:
    """Goes on with what is left of the budget. The rules of progress count anew from here."""
    with transaction.atomic():
        run = _lock(run.pk)
        newest = ContinuousRun.objects.filter(experiment=run.experiment_id).first()
        if run.state == State.RUNNING or newest is None or newest.pk != run.pk:
            raise RoundRefused("Only the newest run of an experiment can be resumed, and only while it does not run.")
        run.state, run.rule, run.reason = State.RUNNING, "", ""
        run.judged_after = _last_finished(run.experiment)
        run.save()
        _tell(run, user, "continuous.resume", f"Resumed by {name_of(user)}.")
    advance(run.pk)
    run.refresh_from_db()
    return run


@transaction.atomic
def revive_continuous(round: Round) -> None:
    """A retry takes a round up again, and with it the run that its failure stopped. Caller holds the round's lock."""
    stopped = ContinuousRun.objects.filter(experiment=round.experiment_id).first()
    if stopped is None or stopped.state != State.STOPPED or stopped.rule not in ("failed", "cancelled"):
        return
    if stopped.after < round.number:
        stopped.state, stopped.rule, stopped.reason = State.RUNNING, "", ""
        stopped.save()
        _tell(stopped, None, "continuous.resume", f"Round {round.number} was retried.")


def advance_experiment(experiment_id: UUID) -> None:
    """`advance` of the experiment's running run, where it has one."""
    run_id = _running().filter(experiment=experiment_id).values_list("pk", flat=True).first()
    if run_id is not None:
        advance(run_id)


def advance_all() -> None:
    """`advance` of every running run; one that fails does not hold the others up."""
    for run_id in _running().values_list("pk", flat=True):
        try:
            advance(run_id)
        except Exception:
            log.exception("continuous run %s could not go on; tried again in a moment", run_id)


@transaction.atomic
def advance(run_id: UUID) -> Round | None:
    """Launches the next round, or stops the run, or does nothing: the round launched, if one was."""
    run = _lock(run_id)
    if run.state != State.RUNNING:
        return None
    experiment = run.experiment
    last = experiment.rounds.order_by("-number").first()
    if last is not None and last.status not in Round.FINISHED:
        return None
    if last is not None and last.number > run.judged_after and last.status != Round.Status.DONE:
        _stop(run, last.status, f"Round {last.number} {_ended(last)}: {last.reason or 'no reason given'}")
        return None
    try:
        coming = launching.prepare_round(experiment)
        cost = _expected(run, coming)
        from oversight.planning import decide_step  # it alone knows `alignment`

        step = decide_step(run, spent=read_spent(run), coming=cost, config=coming.config)
    except ValueError as error:
        _stop(run, "settings", f"The next round can't be launched: {error}")
        return None
    if not step.go:
        _stop(run, step.rule, step.words)
        return None
    problems = launching.preflight(experiment)
    if problems:
        _wait(run, " ".join(problems))
        return None
    # The conditional write: of two callers that both came this far only one finds the number it expects.
    mine = _running().filter(pk=run.pk, latest=run.latest).update(latest=coming.round.number, waiting="")
    if not mine:
        return None
    by = f"continuous mode, which {name_of(run.started_by)} started ({step.words.rstrip('.')})"
    return launching.launch_round(experiment=experiment, user=run.started_by, overrides={}, by=by)


def _expected(run: ContinuousRun, coming: launching.NextRound) -> Spent:
    """What the coming round may cost: all judgements that it asks for; minutes as the longest round of the run took,
    where that is more than the estimate."""
    guess = launching.estimate(run.experiment, {}, coming=coming)
    rounds = Round.objects.filter(experiment=run.experiment_id, number__gt=run.after).values_list(
        "stage_seconds", flat=True
    )
    longest = max((sum(seconds.values()) / 60 for seconds in rounds), default=0.0)
    overlap = run.experiment.overlap if run.experiment.overlap_share else 1
    return Spent(1, guess.reviews * overlap, max(guess.minutes, longest))


def _ended(round: Round) -> str:
    return "failed" if round.status == Round.Status.FAILED else "was cancelled"


def _running() -> QuerySet[ContinuousRun]:
    return ContinuousRun.objects.filter(state=State.RUNNING)


def _last_finished(experiment: Experiment) -> int:
    finished = experiment.rounds.filter(status__in=Round.FINISHED).order_by("-number")
    return finished.values_list("number", flat=True).first() or 0


def _lock(run_id: UUID) -> ContinuousRun:
    """The run, locked after its experiment."""
    experiment_id = ContinuousRun.objects.values_list("experiment_id", flat=True).get(pk=run_id)
    experiment = Experiment.objects.select_for_update().get(pk=experiment_id)
    run = ContinuousRun.objects.select_for_update().get(pk=run_id)
    run.experiment = experiment
    return run


def _stop(run: ContinuousRun, rule: str, reason: str) -> None:
    """Caller holds the run's lock."""
    run.state, run.rule, run.reason, run.waiting = State.STOPPED, rule, reason, ""
    run.save()
    _tell(run, None, "continuous.stop", reason, rule=rule)


def _wait(run: ContinuousRun, words: str) -> None:
    """Caller holds the run's lock. Said once, however often it is tried."""
    if run.waiting != words:
        run.waiting = words
        run.save(update_fields=["waiting", "changed_at"])
        publish("queue")


def _tell(run: ContinuousRun, user: User | None, action: str, text: str, **detail: str) -> None:
    audit.record(name_of(user) if user else "system", action, f"experiment:{run.experiment_id}", text=text, **detail)
    last = run.experiment.rounds.order_by("-number").values_list("pk", flat=True).first()
    publish("round", str(last or ""))
