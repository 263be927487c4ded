"""How long each phase of each round took, kept beside the rounds, so that a run which was killed can go on and still
knows its wall time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment.events import read_events
from alignment.rundir import RunDir, write_text


class Phases:
    """`phases.json` of a folder of rounds: seconds of the phases that are done, by round folder and phase.

    A killed attempt counts up to the last event that it wrote: its time was spent, whatever became of its work.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "phases.json"

    def run(self, run: RunDir, phase: str, work: Callable[[], object]) -> float:
        """Does `work` unless the phase is done, and returns its seconds, those of killed attempts included."""
        own = self._read().get(run.path.name, {})
        if phase in own.get("done", {}):
            return float(own["done"][phase])
        lost, begun = dict(own.get("lost", {})), own.get("begun", {}).get(phase)
        if begun is not None:
            lost[phase] = lost.get(phase, 0.0) + max(0.0, _last_event(run) - begun)
        done = own.get("done", {})
        self._write(run, {"done": done, "lost": lost, "begun": {phase: time.time()}})
        started = time.monotonic()
        work()
        seconds = round(lost.get(phase, 0.0) + time.monotonic() - started, 2)
        self._write(run, {"done": {**done, phase: seconds}, "lost": lost, "begun": {}})
        return seconds

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def _write(self, run: RunDir, own: dict[str, Any]) -> None:
        write_text(self.path, json.dumps({**self._read(), run.path.name: own}, indent=1))


def _last_event(run: RunDir) -> float:
    """Unix seconds; 0 where nothing was said."""
    return max((float(event["t"]) for _, event in read_events(run.events.path)), default=0.0)
