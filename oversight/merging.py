"""Merges a checkpoint into its base model in a child process: torch never comes into the server or the worker.

The child is `python -m alignment export --merged`, the same command that anybody may type.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from django.conf import settings

from oversight import runfiles
from oversight.cards import render_readme
from oversight.models import Merge
from oversight.processes import start_tied, stop_group
from oversight.runner import NICENESS, SECRETS
from oversight.selectors.withdrawals import count_withdrawn
from oversight.services import merges

log = logging.getLogger(__name__)
PAUSE = 0.5  # seconds between looks at the child
BEAT = 5.0  # seconds between signs of life in the database
TAIL = 4_000  # characters of what the child said that a reason may hold


def export_command(run_dir: Path, out: Path, card: Path) -> list[str]:
    return [
        sys.executable, "-m", "alignment", "export", "--run-dir", str(run_dir), "--out", str(out), "--merged",
        "--card", str(card),
    ]  # fmt: skip


def run_merge(merge_id: UUID, attempt: int) -> None:
    """Does what `attempt` stands for, to an end that says why where it fails; nothing where it is not wanted."""
    merge = merges.start_merge(merge_id, attempt)
    if merge is None:
        log.info("merge %s: attempt %s is not wanted any more", merge_id, attempt)
        return
    try:
        sha256, size = _merge(merge)
    except Exception as error:  # the row must say what happened, whatever it was
        log.exception("merge %s", merge_id)
        merges.finish_merge(merge_id, attempt, reason=str(error)[-TAIL:] or type(error).__name__)
    else:
        merges.finish_merge(merge_id, attempt, sha256=sha256, size=size)


def _merge(merge: Merge) -> tuple[str, int]:
    """SHA-256 and size of the folder that it made and sent."""
    checkpoint = merge.checkpoint
    source = runfiles.pull_checkpoint(checkpoint)
    target = runfiles.merged_folder(checkpoint)
    shutil.rmtree(target.path, ignore_errors=True)  # of an attempt that was cut off
    target.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        card = Path(scratch) / "README.md"
        withdrawn = count_withdrawn(checkpoint.round)
        card.write_text(render_readme(checkpoint, merged=True, withdrawn=withdrawn), encoding="utf-8")
        _watch(merge, export_command(source.path, target.path, card), Path(scratch) / "output")
    runfiles.push(target)
    size = sum(path.stat().st_size for path in target.path.rglob("*") if path.is_file())
    return runfiles.digest_folder(target.path), size


def _watch(merge: Merge, command: list[str], output: Path) -> None:
    """Runs the child to its end, telling each step; raises with its last words where it fails."""
    env = {key: value for key, value in os.environ.items() if key not in SECRETS}
    env |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
    with output.open("wb") as file:
        child = start_tied(command, env=env, output=file, cwd=settings.BASE_DIR, niceness=NICENESS)
        told, beat = (0, 0, ""), 0.0
        try:
            while True:
                code = child.poll()
                step = _read_step(output) or told
                if step != told or time.monotonic() - beat > BEAT:
                    told, beat = step, time.monotonic()
                    if not merges.note_step(merge.pk, merge.attempt, done=step[0], total=step[1], words=step[2]):
                        raise RuntimeError("another attempt took over")
                if code is not None:
                    break
                time.sleep(PAUSE)
        finally:
            stop_group(child, patience=1.0)
    if code:
        lines = output.read_text(errors="replace").strip().splitlines()
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
        raise RuntimeError(said.removeprefix("error: ") or f"the process ended with exit code {code} and said nothing")


def _read_step(output: Path) -> tuple[int, int, str] | None:
    """The last step that the child told, among whatever else its libraries print."""
    for line in reversed(output.read_text(errors="replace").splitlines()):
        if line.startswith("{"):
            try:
                row = json.loads(line)
                return int(row["done"]), int(row["total"]), str(row["words"])
            except (ValueError, KeyError, TypeError):
                continue
    return None
