"""What a round starts from: a checkpoint that somebody chose, else the last accepted one, else the base model."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from oversight.models import Checkpoint, Experiment, Round, Start


@dataclass(frozen=True)
class Beginning:
    """What round `number` starts from. `checkpoint` None is the base model, `choice` None nobody's choice."""

    number: int
    checkpoint: Checkpoint | None
    choice: Start | None

    @property
    def words(self) -> str:
        return describe_checkpoint(self.checkpoint)

    @property
    def token(self) -> str:
        """Changes with every choice and every launch, so that nobody overwrites what they have not seen."""
        return f"{self.number}:{self.choice.chosen_at.isoformat() if self.choice else ''}"


def describe_checkpoint(checkpoint: Checkpoint | None) -> str:
    return "the base model" if checkpoint is None else f"round {checkpoint.round.number}'s checkpoint"


def read_beginning(experiment_id: UUID, number: int) -> Beginning:
    """The one place that decides it. A choice made for this round or an earlier one holds until a round since then
    was accepted. Two queries."""
    choice = (
        Start.objects.filter(experiment=experiment_id, number__lte=number)
        .select_related("checkpoint__round", "chosen_by")
        .order_by("-number")
        .first()
    )
    accepted = Checkpoint.objects.filter(
        experiment=experiment_id,
        role=Checkpoint.Role.LEARNER,
        verdict=Checkpoint.Verdict.ACCEPTED,
        round__number__lt=number,
        round__number__gte=choice.number if choice else 0,
    )
    last = accepted.select_related("round").order_by("-round__number").first()
    if last is not None or choice is None:
        return Beginning(number, last, None)
    return Beginning(number, choice.checkpoint, choice)


def find_start(round: Round) -> Checkpoint | None:
    """The learner's checkpoint that this round starts from; None for the base model."""
    return read_beginning(round.experiment_id, round.number).checkpoint


def read_next_beginning(experiment: Experiment) -> Beginning:
    """What the round that would be launched next starts from. Three queries."""
    last = experiment.rounds.order_by("-number").values_list("number", flat=True).first() or 0
    return read_beginning(experiment.pk, last + 1)
