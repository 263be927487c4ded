"""A run folder: the files through which a round passes, each written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from alignment.config import RoundConfig
from alignment.events import EventLog
from alignment.records import Record

R = TypeVar("R", bound=Record)


def write_text(path: Path, text: str) -> None:
    """Writes through a temporary file and a rename, so that a file that exists is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_rows(path: Path, rows: Iterable[Record]) -> None:
    write_text(path, "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """All rows of a JSONL file; an error names the file and the line."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(kind.from_json(json.loads(line)))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return rows


@dataclass(frozen=True)
class RunDir:
    """`runs/<round>/`: config.json, inputs/, propose/, learn/, events.jsonl, manifest.json."""

    path: Path

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def propose(self) -> Path:
        return self.path / "propose"

    @property
    def learn(self) -> Path:
        return self.path / "learn"

    @property
    def events(self) -> EventLog:
        return EventLog(self.path / "events.jsonl")

    def config(self) -> RoundConfig:
        return RoundConfig.load(self.path / "config.json")

    def create(self, config: RoundConfig) -> None:
        """Writes config.json; a different config in an existing folder is an error, the same is fine."""
        target = self.path / "config.json"
        text = json.dumps(config.to_json(), indent=1, sort_keys=True)
        if target.exists() and target.read_text() != text:
            raise ValueError(f"{target} exists with other settings; a round's config is frozen")
        for folder in (self.inputs, self.propose, self.learn):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(target, text)

    def stage(self, path: Path, kind: type[R], make: Callable[[], list[R]]) -> list[R]:
        """The rows of `path`: read where the file is whole, else made and written. This is resume."""
        if path.exists():
            return read_rows(path, kind)
        rows = make()
        write_rows(path, rows)
        return rows

    def write_manifest(self, extra: dict[str, Any]) -> None:
        """manifest.json: versions, seeds and the SHA-256 of every file but the event log."""
        files = {
            str(p.relative_to(self.path)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.path.rglob("*"))
            if p.is_file() and p.name not in ("manifest.json", "events.jsonl") and not p.name.endswith(".part")
        }
        versions = {name: version(name) for name in ("torch", "transformers", "trl", "peft", "scikit-learn", "numpy")}
        content = {"python": platform.python_version(), "versions": versions, "files": files, **extra}
        write_text(self.path / "manifest.json", json.dumps(content, indent=1, sort_keys=True))
