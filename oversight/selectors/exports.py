"""Labels as lines of JSON, written while they are read: an export of any size needs little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

from oversight.models import Experiment, Label, Review

BATCH = 500  # labels whose judgements are read at once


def write_labels(experiment: Experiment) -> Iterator[str]:
    """One judged answer a line: prompt, completion, label (true = fine), and where it came from.

    `turns` are what was said before `prompt`, oldest first, [] for an attack of one turn.
    Only approved labels exist, so only these come. `how` says how each was approved; `spans` are the passages
    that people marked in this answer, in Unicode code points of `completion`, end exclusive.
    """
    labels = (
        Label.objects.filter(sample__experiment=experiment)
        .select_related("sample__query", "sample__round")
        .order_by("created_at", "id")
    )
    rows = labels.iterator(chunk_size=BATCH)
    while batch := list(islice(rows, BATCH)):
        yield from _write_lines(batch, _read_spans(batch))


def _read_spans(labels: list[Label]) -> dict[str, list[dict[str, Any]]]:
    """Id of a judgement that made a label -> the passages that it marked."""
    ids = [UUID(identifier) for label in labels for identifier in label.evidence]
    marked = Review.objects.filter(pk__in=ids).exclude(spans=[]).values_list("pk", "spans")
    return {str(pk): spans for pk, spans in marked}


def _write_lines(labels: list[Label], marked: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for label in labels:
        sample, query = label.sample, label.sample.query
        spans = [span for identifier in label.evidence for span in marked.get(identifier, [])]
        for index, violates in sorted(label.violates.items()):
            row = {
                "sample": str(sample.pk),
                "round": sample.round.number,
                "prompt": query.text,
                "turns": query.history,
                "completion": sample.responses[int(index)]["text"],
                "label": violates < 0.5,
                "violates": violates,
                "preferred": None if label.preferred is None else label.preferred == int(index),
                "principles": label.principles if violates >= 0.5 else [],
                "rewrite": label.rewrite or None,
                "how": label.how,
                "judgements": len(label.evidence),
                "spans": [
                    {"start": span["start"], "end": span["end"], "principle": span["principle"]}
                    for span in spans
                    if span["answer"] == int(index)
                ],
                "kind": query.kind,
                "category": query.category,
                "audit": sample.audit,
                "propensity": sample.propensity,
            }
            yield json.dumps(row, ensure_ascii=False) + "\n"
