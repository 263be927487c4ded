"""The table for people and the JSON with every number behind it."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from tests.bench.measures import Row

CITED = "224 ms: Label Studio, the same two calls on such a machine (cited, not measured here)"


def describe_machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("Django", "uvicorn", "channels", "psycopg")},
    }


def write_report(path: Path, rows: Sequence[Row], facts: dict[str, Any]) -> None:
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": describe_machine(), **facts,
        "compared_with": CITED, "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def format_table(rows: Sequence[Row]) -> str:
    """Markdown, so that it can stand in a document as it is."""
    outcome = {True: "met", False: "not met", None: ""}
    lines = ["| measure | target | measured | |", "|---|---|---|---|"]
    lines += [f"| {row.measure} | {row.target} | {row.measured} | {outcome[row.met]} |" for row in rows]
    return "\n".join([*lines, "", f"For comparison: {CITED}."])


def broke_promise(rows: Sequence[Row]) -> bool:
    """Whether data was lost, held or counted twice, or anybody saw an error: time is no excuse for these."""
    return any(row.must and row.met is False for row in rows)
