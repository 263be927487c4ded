"""A checkpoint's card: what the run folder tells of its making, and what only the database knows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from alignment.model_card import SHOWN, Lineage, read_lineage, render_card
from alignment.records import Metric
from alignment.rundir import RunDir
from oversight.models import Checkpoint, Label, MetricPoint, Review, Round


@dataclass(frozen=True)
class Measured:
    """A metric before and after the round."""

    words: str
    less: bool  # less is better
    old: MetricPoint | None
    new: MetricPoint | None


def write_card(round: Round, folder: RunDir, name: str, digest: str) -> dict[str, Any]:
    """What `Checkpoint.card` keeps, of a round whose learn phase is over. People are counted, never named."""
    evidence = Label.objects.filter(sample__round=round).values_list("evidence", flat=True)
    reviews = [UUID(identifier) for ids in evidence for identifier in ids]
    known = read_lineage(folder)
    lineage = replace(
        known,
        reviews=len(reviews) or known.reviews,
        reviewers=Review.objects.filter(pk__in=reviews).order_by().values("reviewer").distinct().count(),
        seed_sources=dict(Counter(round.experiment.seeds.order_by().values_list("source", flat=True))),
        constitution=str(round.experiment.constitution),
        sha256=digest,
        size=sum(path.stat().st_size for path in (folder.learn / name).rglob("*") if path.is_file()),
    )
    return lineage.to_json()


def read_card(checkpoint: Checkpoint) -> Lineage | None:
    """None where the checkpoint was saved by a version that kept no card."""
    return Lineage.from_json(checkpoint.card) if checkpoint.card else None


def list_measured(round: Round) -> list[Measured]:
    """What a card shows of the round's metrics; one query."""
    points = {
        (point.name, point.model): point
        for point in MetricPoint.objects.filter(round=round, name__in=list(SHOWN), group="")
    }
    return [
        Measured(words, less, points.get((name, "old")), points.get((name, "new")))
        for name, (words, less) in SHOWN.items()
        if (name, "old") in points or (name, "new") in points
    ]


def render_readme(checkpoint: Checkpoint, *, merged: bool, withdrawn: int) -> str:
    """README.md for the download. `withdrawn` labels that it was trained on were taken out since."""
    points = MetricPoint.objects.filter(round=checkpoint.round_id, name__in=list(SHOWN), group="")
    metrics = [
        Metric(point.name, point.value, point.ci_low, point.ci_high, point.n, point.seed, model=point.model)
        for point in points
    ]
    notes = [f"{withdrawn} of the labels that it was trained on were withdrawn since."] if withdrawn else []
    card = read_card(checkpoint) or _bare_card(checkpoint)
    return render_card(card, metrics, merged=merged, notes=notes)


def _bare_card(checkpoint: Checkpoint) -> Lineage:
    """What the database knows of a checkpoint without a card."""
    from alignment.model_card import name_model

    round = checkpoint.round
    return Lineage(
        round=round.number, round_id=str(round.pk), objective=round.objective, seed=int(round.config.get("seed", 0)),
        base_model=name_model(round.config.get("learner", round.experiment.learner)),
        started_from="checkpoint" if checkpoint.parent_id else "base",
        accepted=checkpoint.verdict == Checkpoint.Verdict.ACCEPTED, reasons=list(checkpoint.reasons),
        sha256=checkpoint.sha256,
    )  # fmt: skip
