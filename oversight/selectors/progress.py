"""How far a running round is: stages, rate, time left, and the timeline of both phases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from oversight.models import Round

# What each stage does, in the order of the work; all of `CHUNKED` repeat per chunk of queries.
STAGES: dict[str, dict[str, str]] = {
    "propose": {
        "load": "Load the models",
        "attack": "Write attacks",
        "respond": "Learner answers",
        "critique": "Critic judges",
        "select": "Select for people",
    },
    "learn": {
        "load": "Load the models",
        "aggregate": "Gather the labels",
        "fit_critic": "Fit the critic",
        "steering": "Try to steer it",
        "judge": "Judge the rest",
        "pairs": "Build training pairs",
        "evaluate_old": "Measure before",
        "train": "Train the learner",
        "evaluate_new": "Measure after",
        "attacker": "Tune the attacker",
        "gate": "Accept or roll back",
    },
}
CHUNKED = ("attack", "respond", "critique", "select")
# The share of a phase that a stage takes where no earlier round tells; ours, measured on two CPU cores.
TYPICAL: dict[str, float] = {
    "load": 4, "attack": 15, "respond": 100, "critique": 15, "select": 1,
    "aggregate": 1, "fit_critic": 12, "steering": 15, "judge": 6, "pairs": 25, "train": 90, "evaluate_old": 60,
    "evaluate_new": 60, "attacker": 20, "gate": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a running phase is. `share` in [0, 1] counts the whole phase; None while nothing is known."""

    stage: str
    words: str
    done: int
    total: int
    share: float | None
    rate: float | None  # steps of the stage a second
    seconds_left: float | None  # of the phase
    quiet: float | None  # seconds since the runner was last heard of

    @property
    def percent(self) -> int | None:
        return None if self.share is None else int(100 * self.share)


def read_progress(round: Round, *, now: datetime | None = None) -> Progress | None:
    """Progress of a queued or running phase; None for a round that no machine works on."""
    if round.status not in (Round.Status.PROPOSING, Round.Status.LEARNING):
        return None
    now = now or timezone.now()
    stages = STAGES[round.phase]
    words = stages.get(round.stage, "Starting")
    spent: dict[str, float] = round.stage_seconds or {}
    in_stage = (now - round.stage_started_at).total_seconds() if round.stage_started_at else 0.0
    # Stages that repeat a chunk share one count of queries, so their time is one sum.
    seconds = sum(spent.get(name, 0) for name in CHUNKED) if round.stage in CHUNKED else in_stage
    rate = round.stage_done / seconds if round.stage_done and seconds > 0.5 else None
    fraction = min(round.stage_done / round.stage_total, 1.0) if round.stage_total else 0.0
    share = _share(round, fraction)
    passed = sum(spent.get(name, 0) for name in stages)
    left = None
    if round.stage in CHUNKED and rate:
        left = (round.stage_total - round.stage_done) / rate
    elif share and share > 0.03 and passed > 2:
        left = passed * (1 - share) / share
    quiet = (now - round.heartbeat_at).total_seconds() if round.heartbeat_at else None
    return Progress(round.stage, words, round.stage_done, round.stage_total, share, rate, left, quiet)


def _share(round: Round, fraction: float) -> float | None:
    names = list(STAGES[round.phase])
    if round.stage not in names:
        return None
    if round.stage in CHUNKED:
        parts: list[tuple[str, ...]] = [("load",), CHUNKED]
    else:
        parts = [(name,) for name in names if name not in CHUNKED] + ([CHUNKED] if round.phase == "propose" else [])
    total = sum(TYPICAL[name] for part in parts for name in part)
    before = 0.0
    for part in parts:
        weight = sum(TYPICAL[name] for name in part)
        if round.stage in part:
            return (before + fraction * weight) / total
        before += weight
    return None


@dataclass(frozen=True)
class StageRow:
    name: str
    words: str
    state: str  # done, part, now, failed, waiting
    seconds: float | None


def read_timeline(round: Round, *, now: datetime | None = None) -> list[tuple[str, list[StageRow]]]:
    """Both phases with their stages: what is done, what runs now, what waits, and the seconds each took."""
    now = now or timezone.now()
    spent: dict[str, float] = round.stage_seconds or {}
    timeline = []
    for phase, stages in STAGES.items():
        names = list(stages)
        past = round.status == Round.Status.DONE
        past = past or (phase == "propose" and (round.phase == "learn" or round.proposed_at is not None))
        here = phase == round.phase and not past
        at = names.index(round.stage) if here and round.stage in names else -1
        rows = []
        for index, name in enumerate(names):
            state = "done" if past or index < at else "waiting"
            if here and name in CHUNKED and at >= 0 and names[at] in CHUNKED and name in spent:
                state = "part"  # this chunk is through, the next one comes
            # Both phases load models; the sum of both times stands at the first.
            seconds = None if state == "waiting" or (phase, name) == ("learn", "load") else spent.get(name)
            if index == at:
                state = "now" if round.status in Round.RUNNING else "failed"
                if state == "now" and round.stage_started_at is not None and name not in CHUNKED:
                    seconds = (now - round.stage_started_at).total_seconds()
            rows.append(StageRow(name, stages[name], state, seconds))
        timeline.append((phase, rows))
    return timeline
