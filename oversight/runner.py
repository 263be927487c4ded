"""Runs one phase of a round as a child process and leaves the round in a state that says what happened.

The child is `python -m alignment propose|learn --run-dir DIR`, the same command that reproduces a round
by hand. It lives in a session of its own and dies with its worker. `Pulse` keeps the round's heartbeat
while anything is under way and notices a cancel; `attempt` fences out a runner that was taken for dead.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import DatabaseError, OperationalError, close_old_connections, connection, transaction
from django.utils import timezone

from alignment.config import RoundConfig, profile_defaults
from alignment.rundir import RunDir
from oversight import ingest, runfiles
from oversight.ingest import Superseded, Tail
from oversight.models import MetricPoint, Round
from oversight.processes import start_tied, stop_group
from oversight.selectors.starts import find_start
from oversight.services import following

log = logging.getLogger(__name__)
CANCEL_PATIENCE = 6.0  # seconds between SIGTERM and SIGKILL
NICENESS = 5  # pages come before the phase on a machine that does both
# What the child must not know: it runs models, and models' files, from elsewhere.
SECRETS = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")


class PhaseFailed(Exception):
    """Why a phase could not be finished, in words for people."""


def build_config(*, round: Round, overrides: dict[str, Any]) -> dict[str, Any]:
    """The RoundConfig of a round as JSON: profile, then experiment, then `overrides`. ValueError names a bad one."""
    experiment = round.experiment
    values: dict[str, Any] = {
        **profile_defaults(experiment.profile),
        "learner": experiment.learner,
        "critic": experiment.critic,
        "attacker": experiment.attacker,
        "judge": experiment.judge,
        "seed": experiment.seed,
        **_learnt_mix(round, {*experiment.settings, *overrides}),
        **experiment.settings,
        **overrides,
        "round_id": str(round.pk),
        "number": round.number,
        "objective": round.objective,
        "learner_adapter": "inputs/adapter" if find_start(round) else "",
        # Round 1 has none; a later one says in its log whether the round before left one that fits.
        "attacker_adapter": "inputs/attacker" if round.number > 1 else "",
    }
    for name, value in values.items():
        _check_type(name, value)
    if values["judge"] and "asked_weight" not in {*experiment.settings, *overrides}:
        values |= _learnt_asked_weight(round, values["judge"])
    return RoundConfig.from_json(values).to_json()


def _learnt_mix(round: Round, chosen: set[str]) -> dict[str, float]:
    """The weights that the last round before this one learnt; none where somebody chose any, as only ratios matter."""
    if any(name.startswith("mix_") for name in chosen):
        return {}
    learnt = MetricPoint.objects.filter(
        round__experiment_id=round.experiment_id, round__number__lt=round.number, round__status=Round.Status.DONE,
        name="selection_weight", value__isnull=False,
    )  # fmt: skip
    rows = learnt.order_by("round__number").values_list("group", "value")
    return {f"mix_{group}": value for group, value in rows if value is not None}


def _learnt_asked_weight(round: Round, judge: str) -> dict[str, float]:
    """What the last round before this one learnt of the same judge; of another one it says nothing."""
    learnt = MetricPoint.objects.filter(
        round__experiment_id=round.experiment_id, round__number__lt=round.number, round__status=Round.Status.DONE,
        round__config__judge=judge, name="critic_member_weight", group="asked", value__isnull=False,
    )  # fmt: skip
    value = learnt.order_by("-round__number").values_list("value", flat=True).first()
    return {} if value is None else {"asked_weight": value}


def _check_type(name: str, value: Any) -> None:
    """A setting typed by hand must have the type of the default; unknown names are RoundConfig's business."""
    default = getattr(RoundConfig(round_id=""), name, None)
    wanted: type | tuple[type, ...] = type(default)
    if isinstance(default, tuple):
        wanted = (list, tuple)
    elif isinstance(default, float):
        wanted = (int, float)
    if default is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r}; it must be like {default!r}")


def phase_command(phase: str, folder: Path) -> list[str]:
    """The command of a phase, the same that anybody may type."""
    return [sys.executable, "-m", "alignment", phase, "--run-dir", str(folder)]


def run_phase(round_id: str, attempt: int) -> None:
    """Runs the phase that `attempt` stands for; does nothing where the round no longer waits for it."""
    round = following.start_phase(round_id, attempt)
    if round is None:
        log.info("round %s: attempt %s is not wanted any more", round_id, attempt)
        return
    folder = runfiles.run_folder(round)
    with Pulse(round) as pulse:
        try:
            _run(round, folder, pulse)
        except Superseded as error:
            log.warning("stopped: %s", error)
        except Cancelled:
            following.finish_cancel(round.pk, attempt)
            _push_quietly(folder)
        except Exception as error:  # the round must say what happened, whatever it was
            log.exception("round %s, %s phase", round_id, round.phase)
            _push_quietly(folder)
            _fail(round, str(error) if isinstance(error, PhaseFailed) else _in_words(round, error))


def _run(round: Round, folder: RunDir, pulse: Pulse) -> None:
    runfiles.pull(folder)
    runfiles.write_inputs(round, folder)
    log_path = settings.VAR_DIR / "log" / "phases" / f"{round.pk}-{round.phase}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab+") as output:
        start = output.seek(0, os.SEEK_END)
        tail = Tail(round, folder)
        code = _watch_child(round, folder, pulse, tail, output)
        if code:
            raise PhaseFailed(explain_exit(round.phase, tail, code, _last_lines(output, start)))
    runfiles.push(folder)
    _finish(round, folder)


def _watch_child(round: Round, folder: RunDir, pulse: Pulse, tail: Tail, output: IO[bytes]) -> int:
    """Runs the child to its end and returns its exit code; raises Cancelled or Superseded after stopping it."""
    env = {key: value for key, value in os.environ.items() if key not in SECRETS}
    env |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    child = start_tied(
        phase_command(round.phase, folder.path), env=env, output=output, cwd=settings.BASE_DIR, niceness=NICENESS
    )
    try:
        while True:
            code = child.poll()
            _take_in(tail)
            pulse.check()
            if code is not None:
                while tail.take_in():
                    pass
                return code
            pulse.wait(0.5)
    finally:
        stop_group(child, patience=CANCEL_PATIENCE)


def _take_in(tail: Tail) -> None:
    """A database that is away for a moment loses nothing: the events stay in their file."""
    try:
        tail.take_in()
    except OperationalError as error:
        log.warning("events not taken in yet: %s", error)
        connection.close_if_unusable_or_obsolete()


def _finish(round: Round, folder: RunDir) -> None:
    with transaction.atomic():
        locked = ingest.lock_attempt(round.pk, round.attempt)
        try:
            if round.phase == Round.Phase.PROPOSE:
                ingest.save_propose_results(locked, folder)
                following.finish_propose(round.pk, round.attempt)
            else:
                reason = ingest.save_learn_results(locked, folder)
                following.finish_learn(round.pk, round.attempt, reason=reason)
        except FileNotFoundError as error:
            raise PhaseFailed(f"The {round.phase} phase ended well but left no {error.filename}.") from error


def _fail(round: Round, reason: str) -> None:
    """Tells the round; a database that does not answer is tried for a minute, then watch_rounds takes over."""
    for _ in range(12):
        try:
            following.fail_round(round.pk, reason=reason, attempt=round.attempt)
            return
        except DatabaseError as error:
            log.warning("round %s could not be marked as failed: %s", round.pk, error)
            connection.close_if_unusable_or_obsolete()
            time.sleep(5)


def _push_quietly(folder: RunDir) -> None:
    try:
        runfiles.push(folder)
    except Exception as error:  # noqa: BLE001 - the phase's own end matters more than its copy
        log.warning("run folder %s not sent: %s", folder.path, error)


# --- Words ------------------------------------------------------------------------------------------


def explain_exit(phase: str, tail: Tail, code: int, lines: list[str]) -> str:
    """Why the child ended with `code`, with the last that it said."""
    said = tail.error or (lines[-1] if lines else "")
    where = f"The {phase} phase stopped in stage {tail.stage}"
    if code == 2 and said:
        return f"{where}: {said}"
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        hint = " Out of memory is the usual cause where nobody sent it." if number == signal.SIGKILL else ""
        ended = f"{where}: the process was ended by {_signal_name(number)}."
        return f"{ended}{hint} Retry resumes from the last whole stage."
    ending = " | ".join(lines[-3:]) or said or "it said nothing"
    return f"{where} with exit code {code}: {ending}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _in_words(round: Round, error: Exception) -> str:
    name = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
    return f"The {round.phase} phase could not be finished: {name}{error}"


def _last_lines(output: IO[bytes], start: int) -> list[str]:
    """The last lines that the child wrote, without terminal codes."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(start, size - 20_000))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.read().decode(errors="replace"))
    printable = ("".join(c for c in line if c.isprintable()).strip() for line in text.splitlines())
    return [line[:500] for line in printable if line][-20:]


# --- The pulse --------------------------------------------------------------------------------------


class Cancelled(Exception):
    """Somebody asked to cancel the round."""


class Pulse:
    """A thread that keeps the round's heartbeat and looks every second whether the attempt is still wanted."""

    def __init__(self, round: Round) -> None:
        self.round_id, self.attempt = round.pk, round.attempt
        self.stopped = threading.Event()
        self.changed = threading.Event()
        self.cancelled = self.superseded = False
        self.answered = time.monotonic()  # when the database last answered
        self.thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> Pulse:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join(timeout=30)

    def wait(self, seconds: float) -> None:
        """Sleeps; less where a cancel comes in."""
        self.changed.wait(seconds)

    def check(self) -> None:
        """Raises Cancelled or Superseded where the attempt is not wanted any more."""
        if self.cancelled:
            raise Cancelled
        if self.superseded:
            raise Superseded(f"round {self.round_id} goes on without attempt {self.attempt}")
        silent = time.monotonic() - self.answered
        if silent > settings.LOST_AFTER_SECONDS * 0.8:
            # Others take this attempt for dead by now: two must never work in one folder.
            raise PhaseFailed(f"The database did not answer for {silent:.0f} seconds, so the phase was stopped.")

    def _beat(self) -> None:
        written = 0.0
        while not self.stopped.wait(1):
            try:
                mine = Round.objects.filter(
                    pk=self.round_id,
                    attempt=self.attempt,
                    status__in=(Round.Status.PROPOSING, Round.Status.LEARNING),
                )
                requested = mine.values_list("cancel_requested", flat=True).first()
                if requested is not None and time.monotonic() - written > settings.HEARTBEAT_SECONDS:
                    mine.update(heartbeat_at=timezone.now())
                    written = time.monotonic()
            except DatabaseError as error:
                log.warning("round %s: no heartbeat: %s", self.round_id, error)
                connection.close_if_unusable_or_obsolete()
                continue
            self.answered = time.monotonic()
            self.cancelled, self.superseded = bool(requested), requested is None
            if self.cancelled or self.superseded:
                self.changed.set()
        close_old_connections()
        connection.close()
