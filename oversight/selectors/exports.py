"""Labels as lines of JSON, written while they are read: an export of any size needs little memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from oversight.models import Experiment, Label


async def write_labels(experiment: Experiment) -> AsyncIterator[str]:
    """One judged answer a line: prompt, completion, label (true = fine), and where it came from."""
    labels = (
        Label.objects.filter(sample__round__experiment=experiment)
        .select_related("sample__query", "sample__round")
        .order_by("created_at", "id")
    )
    async for label in labels.aiterator(chunk_size=500):
        sample, query = label.sample, label.sample.query
        for index, violates in sorted(label.violates.items()):
            row = {
                "sample": str(sample.pk),
                "round": sample.round.number,
                "prompt": query.text,
                "completion": sample.responses[int(index)]["text"],
                "label": violates < 0.5,
                "violates": violates,
                "preferred": None if label.preferred is None else label.preferred == int(index),
                "principles": label.principles if violates >= 0.5 else [],
                "rewrite": label.rewrite or None,
                "kind": query.kind,
                "category": query.category,
                "audit": sample.audit,
                "propensity": sample.propensity,
            }
            yield json.dumps(row, ensure_ascii=False) + "\n"
