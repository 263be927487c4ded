"""Continuous mode as the pages show it: what is spent of its budget, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import OuterRef, Subquery, UUIDField

from oversight.models import ContinuousRun, Experiment, Review, Round, Sample

State = ContinuousRun.State


@dataclass(frozen=True)
class Spent:
    rounds: int = 0
    reviews: int = 0  # judgements of people that stand
    minutes: float = 0.0  # of machine time


@dataclass(frozen=True)
class Continuous:
    run: ContinuousRun
    spent: Spent
    next_words: str  # what happens next, a sentence
    shown: bool  # a run that stopped is old news once another round was launched

    @property
    def budget_words(self) -> str:
        run, spent = self.run, self.spent
        return (
            f"{spent.rounds} of {run.rounds} rounds, {spent.reviews} of {run.reviews} reviews, "
            f"{spent.minutes:.0f} of {run.minutes:.0f} minutes"
        )


def read_continuous(experiment: Experiment) -> Continuous | None:
    """The newest run of the experiment; None where it never had one. Four queries at most."""
    run = ContinuousRun.objects.filter(experiment=experiment.pk).select_related("started_by").first()
    if run is None:
        return None
    last = experiment.rounds.order_by("-number").only("number", "status", "created_at").first()
    shown = run.state != State.STOPPED or last is None or last.created_at < run.changed_at
    return Continuous(run, read_spent(run) if shown else Spent(), _next_words(run, last), shown)


def read_spent(run: ContinuousRun) -> Spent:
    """What the rounds since the run's start have cost so far, failed and cancelled ones too. Two queries."""
    rounds = list(Round.objects.filter(experiment=run.experiment_id, number__gt=run.after).only("pk", "stage_seconds"))
    minutes = sum(sum(round.stage_seconds.values()) for round in rounds) / 60
    # From the reviews, of which there are few, to their samples.
    of_round = Subquery(Sample.objects.filter(pk=OuterRef("sample")).values("round"), output_field=UUIDField())
    standing = Review.objects.filter(purpose=Review.Purpose.REVIEW, superseded_by=None).exclude(
        action__in=(Review.Action.SKIP, Review.Action.UNDO, Review.Action.WITHDRAW)
    )
    reviews = standing.annotate(of_round=of_round).filter(of_round__in=[round.pk for round in rounds]).count()
    return Spent(len(rounds), reviews, minutes)


def _next_words(run: ContinuousRun, last: Round | None) -> str:
    if run.state == State.STOPPED:
        return f"Stopped. {run.reason}"
    if run.state == State.PAUSED:
        return f"Paused: no round starts by itself. {run.reason}"
    if last is not None and last.status in Round.OPEN:
        return f"Round {last.number + 1} starts when round {last.number} is done, if the budget holds it."
    if run.waiting:
        return f"The next round waits: {run.waiting}"
    return "The next round starts within seconds."
