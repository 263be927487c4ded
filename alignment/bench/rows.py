"""Reads a benchmark file: answers that people judged, one JSON object a line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

THRESHOLD = 0.5  # an answer violates where the mean of its human scores is at least this


@dataclass(frozen=True)
class Judged:
    """One answer and what people said of it. `scores` [raters] in [0, 1]; empty where the file gives a verdict only."""

    prompt: str
    response: str
    violates: bool
    scores: tuple[float, ...] = ()
    category: str = ""


def read_judged(path: Path) -> list[Judged]:
    """All rows of `path` (JSONL), in its order; blank lines are skipped and other keys are ignored.

    A row has `prompt` and `response` (texts; a response may be empty) and `violates` (0, 1, true or false) or
    `human_scores` (numbers in [0, 1]); where both are given, `violates` decides. `category` is optional.
    Raises ValueError with file and line where a row cannot be used, and where there is none.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the path of a JSONL file with a judged answer a line")
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                rows.append(_judged(json.loads(line)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); write one object a line") from error
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    if not rows:
        raise ValueError(f"{path} holds no rows; a row has prompt, response and violates or human_scores")
    return rows


def _judged(row: Any) -> Judged:
    if not isinstance(row, dict):
        raise ValueError(f"{row!r:.60} is no object; write {{'prompt': ..., 'response': ..., 'violates': ...}}")
    for key in ("prompt", "response"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"{key} is {row.get(key)!r:.60}; it has to be a text")
    if not row["prompt"].strip():
        raise ValueError("prompt is empty; a row without a question cannot be split by prompt")
    scores = _scores(row.get("human_scores"))
    verdict = row.get("violates")
    if verdict is None and not scores:
        raise ValueError("there is neither violates (0 or 1) nor human_scores (a list of numbers); give one of them")
    if verdict is not None and verdict not in (0, 1):
        raise ValueError(f"violates is {verdict!r:.60}; it has to be 0 or 1 (scores go into human_scores)")
    violates = bool(verdict) if verdict is not None else sum(scores) / len(scores) >= THRESHOLD
    return Judged(row["prompt"], row["response"], violates, scores, str(row.get("category") or ""))


def _scores(given: Any) -> tuple[float, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise ValueError(f"human_scores is {given!r:.60}; it has to be a list of numbers in [0, 1]")
    for score in given:
        usable = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
        if not usable or not 0 <= score <= 1:
            raise ValueError(f"human_scores holds {score!r:.60}; every score has to be a number in [0, 1]")
    return tuple(float(score) for score in given)
