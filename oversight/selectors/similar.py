"""Decided samples that are like the one on the page, so that people stay consistent."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from uuid import UUID

from oversight.models import Sample

SHOWN = 3
COMPARED = 24  # the newest decided ones of the principle: what the guidance means today, at a bounded cost
LONGEST = 2000  # characters of a prompt that are compared
KEPT_SECONDS = 20.0
_kept: dict[tuple[UUID, str], tuple[float, list[tuple[Similar, set[str]]]]] = {}  # until when, and what
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Similar:
    sample_id: UUID
    text: str
    verdict: str  # as `describe_votes`


def list_similar(sample: Sample) -> list[Similar]:
    """The most alike in words first, among the newest decided ones of the same principle and experiment."""
    words = _read_words(sample.query.text)
    decided = _list_decided(sample.experiment_id, sample.principle)
    rows = [(compare_words(words, own), similar) for similar, own in decided if similar.sample_id != sample.pk]
    rows.sort(key=lambda row: -row[0])  # stable: of two as much alike the newer one comes first
    return [similar for _, similar in rows[:SHOWN]]


def _list_decided(experiment_id: UUID, principle: str) -> list[tuple[Similar, set[str]]]:
    """The newest decided ones with their words. Where there are plenty, those of some seconds ago do."""
    until, rows = _kept.get((experiment_id, principle), (0.0, []))
    if time.monotonic() < until:
        return rows
    decided = (
        # A known answer stays out: whoever reads this may be tested with it later.
        Sample.objects.filter(experiment=experiment_id, principle=principle, status=Sample.Status.DECIDED, gold=False)
        .order_by("-created_at")
        .values_list("pk", "query__text", "label__violates")[:COMPARED]
    )
    rows = [(Similar(pk, text, describe_votes(votes or {})), _read_words(text)) for pk, text, votes in decided]
    if len(rows) == COMPARED:
        _kept[experiment_id, principle] = (time.monotonic() + KEPT_SECONDS, rows)
    return rows


def compare_words(one: set[str], other: set[str]) -> float:
    """Shared words over all words (Jaccard), in [0, 1]; 0 where one has none."""
    return len(one & other) / len(one | other) if one and other else 0.0


def _read_words(text: str) -> set[str]:
    return set(WORD.findall(text[:LONGEST].lower()))


def describe_votes(violates: dict[str, float]) -> str:
    """One word for a label, by its worst answer; "split" where people disagree about that one."""
    if not violates:
        return "preference"
    worst = max(violates.values())
    return "fine" if worst == 0 else "violates" if worst == 1 else "split"
