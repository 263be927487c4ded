"""Checkpoints as their pages show them: the list, and the chain that one came from."""

from __future__ import annotations

from oversight.models import Checkpoint, Experiment, Merge


def list_checkpoints(experiment: Experiment, *, role: str = "", limit: int = 400) -> list[Checkpoint]:
    """The newest first; one query."""
    found = Checkpoint.objects.filter(experiment=experiment).select_related("round", "parent__round")
    if role in Checkpoint.Role.values:
        found = found.filter(role=role)
    return list(found.order_by("-round__number", "role")[:limit])


def list_parents(checkpoint: Checkpoint) -> list[Checkpoint]:
    """The checkpoints that it was trained on top of, the nearest first; one query, and none where it has no parent."""
    if checkpoint.parent_id is None:
        return []
    own = Checkpoint.objects.filter(experiment=checkpoint.experiment_id, role=checkpoint.role).select_related("round")
    known = {other.pk: other for other in own}
    chain: list[Checkpoint] = []
    at = checkpoint.parent_id
    while at in known:
        parent = known.pop(at)  # each once, whatever the data says
        chain.append(parent)
        if parent.parent_id is None:
            break
        at = parent.parent_id
    return chain


def find_merge(checkpoint: Checkpoint) -> Merge | None:
    return Merge.objects.filter(checkpoint=checkpoint).first()
