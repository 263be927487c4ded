"""Rounds as the pages show them: the list with its counts, and the same probe before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, UUIDField

from oversight.models import Checkpoint, Experiment, Label, MetricPoint, ProbeAnswer, Round, Sample
from oversight.selectors.progress import Progress, read_progress

FLAGGED = tuple(status for status in Sample.Status if status != Sample.Status.UNFLAGGED)
SHOWN = ("attack_success", "over_refusal", "competence")  # the metrics that the table shows


@dataclass(frozen=True)
class RoundRow:
    """A line of the rounds table."""

    round: Round
    flagged: int
    waiting: int
    labels: int
    attack_success: MetricPoint | None
    over_refusal: MetricPoint | None
    competence: MetricPoint | None
    gate: Checkpoint | None
    progress: Progress | None

    @property
    def decided(self) -> int:
        return self.flagged - self.waiting


def list_rounds(experiment: Experiment, *, limit: int = 50) -> list[RoundRow]:
    """The newest rounds first; four queries whatever their number."""
    rounds = list(experiment.rounds.select_related("launched_by").order_by("-number")[:limit])
    return _rows(rounds)


def read_base(experiment: Experiment) -> dict[str, float | None]:
    """What round 1 measured of the base model before it trained; empty until it has."""
    points = MetricPoint.objects.filter(round__experiment=experiment, round__number=1, group="", model="old")
    return dict(points.filter(name__in=SHOWN).values_list("name", "value"))


def _rows(rounds: list[Round]) -> list[RoundRow]:
    ids = [round.pk for round in rounds]
    counts = count_samples(ids)
    metrics = {
        (point.round_id, point.name): point
        for point in MetricPoint.objects.filter(round__in=ids, name__in=SHOWN, group="", model="new")
    }
    gates = {
        checkpoint.round_id: checkpoint
        for checkpoint in Checkpoint.objects.filter(round__in=ids, role=Checkpoint.Role.LEARNER)
    }
    rows = []
    for round in rounds:
        count = counts[round.pk]
        rows.append(
            RoundRow(
                round=round,
                flagged=sum(count[status] for status in FLAGGED),
                waiting=count[Sample.Status.QUEUED],
                labels=count["labels"],
                attack_success=metrics.get((round.pk, "attack_success")),
                over_refusal=metrics.get((round.pk, "over_refusal")),
                competence=metrics.get((round.pk, "competence")),
                gate=gates.get(round.pk),
                progress=read_progress(round),
            )
        )
    return rows


def count_samples(round_ids: list[UUID]) -> dict[UUID, Counter[str]]:
    """Samples of each round by status, with "labels" for those that have an approved label.

    Two queries, because one with a join would read every sample: the first stays within an index, the second
    starts from the labels, of which there are few.
    """
    counts: dict[UUID, Counter[str]] = {identifier: Counter() for identifier in round_ids}
    samples = Sample.objects.filter(round__in=round_ids).order_by()
    for identifier, status, number in samples.values_list("round", "status").annotate(found=Count("*")):
        counts[identifier][status] = number
    of_round = Subquery(Sample.objects.filter(pk=OuterRef("sample")).values("round"), output_field=UUIDField())
    labels = Label.objects.annotate(of_round=of_round).filter(of_round__in=round_ids).order_by()
    for identifier, number in labels.values_list("of_round").annotate(found=Count("*")):
        counts[identifier]["labels"] = number
    return counts


def read_round_row(round: Round) -> RoundRow:
    return _rows([round])[0]


@dataclass(frozen=True)
class ProbeFilter:
    kind: str = ""
    changed: bool = True


def list_probe_answers(round: Round, wanted: ProbeFilter) -> QuerySet[ProbeAnswer]:
    """Answers to the same probe before and after the round; by default those whose verdict changed."""
    answers = ProbeAnswer.objects.filter(round=round).order_by("kind", "category", "level", "probe")
    if wanted.kind:
        answers = answers.filter(kind=wanted.kind)
    if wanted.changed:
        answers = answers.exclude(before_verdict=F("after_verdict"))
    return answers


def find_experiment(identifier: str) -> Experiment | None:
    """The experiment with this id; without a usable id, the one that was launched or made last."""
    experiments = Experiment.objects.select_related("constitution")
    try:
        chosen = experiments.filter(pk=UUID(identifier)).first() if identifier else None
    except ValueError:
        chosen = None
    if chosen is None:
        newest = Round.objects.order_by("-created_at").values("experiment_id")[:1]
        chosen = experiments.filter(pk__in=list(newest.values_list("experiment_id", flat=True))).first()
    return chosen or experiments.order_by("name").first()


def count_probe_answers(round: Round) -> dict[str, int]:
    """How many probes there are, how many verdicts changed, and which way."""
    answers = ProbeAnswer.objects.filter(round=round)
    better = Q(before_verdict__in=("violates", "wrong"), after_verdict__in=("fine", "refused", "correct"))
    worse = Q(before_verdict__in=("fine", "refused", "correct"), after_verdict__in=("violates", "wrong"))
    # A harmless probe is answered or refused; refusing it is the fault.
    better |= Q(kind="harmless", before_verdict="refused", after_verdict="fine")
    worse |= Q(kind="harmless", before_verdict="fine", after_verdict="refused")
    return answers.aggregate(
        total=Count("pk"),
        changed=Count("pk", filter=~Q(before_verdict=F("after_verdict"))),
        better=Count("pk", filter=better),
        worse=Count("pk", filter=worse),
    )
