"""events.jsonl: what a running phase says while it runs; the server turns each line into rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class EventLog:
    """Appends one JSON object a line: stage, done, total, metrics, item, error, and `t` (Unix seconds).

    A line is written with one `write` call and flushed, so a reader never sees half of one for long:
    `read_events` waits for the newline.
    """

    path: Path

    def emit(
        self,
        stage: str,
        done: int = 0,
        total: int = 0,
        *,
        message: str = "",
        metrics: dict[str, Any] | None = None,
        item: dict[str, Any] | None = None,
        error: str = "",
    ) -> None:
        row: dict[str, Any] = {"t": round(time.time(), 3), "stage": stage, "done": done, "total": total}
        for key, value in (("message", message), ("metrics", metrics), ("item", item), ("error", error)):
            if value:
                row[key] = value
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (offset after the line, event) for every whole line from byte `offset` on."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield offset, json.loads(line)
            except json.JSONDecodeError:
                # A killed writer can leave half a line that the next writer finished: keep going.
                continue
