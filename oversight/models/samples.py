"""Queries, the answers to them, and what the critic says."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from oversight.models.people import User
from oversight.models.rounds import Round
from oversight.models.setup import Experiment, UuidModel


def call_letter(violation: float | None) -> str:
    """The critic's P(violates) of one answer as `Sample.calls` keeps it."""
    return "?" if violation is None else "v" if violation >= 0.5 else "f"


class Query(UuidModel):
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="queries")
    text = models.TextField()
    kind = models.CharField(max_length=12)
    category = models.CharField(max_length=40, blank=True)
    principle = models.CharField(max_length=60, blank=True)
    style = models.CharField(max_length=40, blank=True)
    level = models.PositiveSmallIntegerField(default=1)
    operator = models.CharField(max_length=40)
    written_by = models.CharField(max_length=10)
    seed_key = models.CharField(max_length=80, blank=True)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="children")
    task = models.JSONField(null=True)
    # The turns before `text`, oldest first: {"role": "user" | "assistant", "content": ...}. The learner is "assistant".
    history = models.JSONField(default=list, blank=True)

    @property
    def searched(self) -> str:
        """What the full-text search reads of it, the query itself first: of much text only the beginning counts."""
        return "\n".join([self.text, *(turn["content"] for turn in self.history)])

    @property
    def turns(self) -> int:
        """How often the user speaks, the query itself included."""
        return 1 + sum(turn["role"] == "user" for turn in self.history)


class Sample(UuidModel):
    """A query with the learner's answers; its id is the query's id."""

    class Status(models.TextChoices):
        UNFLAGGED = "unflagged"  # the critic alone decides
        QUEUED = "queued"  # waits for people
        DISPUTED = "disputed"  # the judgements contradict each other: a lead decides
        DECIDED = "decided"
        SKIPPED = "skipped"  # every reviewer who saw it skipped it
        CLOSED = "closed"  # the round's review ended before enough people judged it
        EXCLUDED = "excluded"  # a lead took it out, with a reason

    class Rank(models.IntegerChoices):
        """Why a waiting sample comes before others; a higher rank is served first."""

        PRIORITY = 0
        BEGUN = 1  # others have judged it and more people are wanted
        OPINION = 2  # a lead asked one more person about a disagreement
        ASSIGNED = 3  # a lead gave it to somebody

    query = models.OneToOneField(Query, on_delete=models.CASCADE, related_name="sample")
    # Found through the indexes below: one of its own would only lead planners away from them.
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="samples", db_index=False)
    # Copies of what the round, the query and the critiques say, so that lists of any length come from an index.
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=12)
    category = models.CharField(max_length=40, blank=True)
    principle = models.CharField(max_length=60, blank=True)
    operator = models.CharField(max_length=40, blank=True)
    level = models.PositiveSmallIntegerField(default=1)
    # What the critic called each answer, a letter each, as `selectors.attack_map` reads it: v(iolates), f(ine), ?.
    calls = models.CharField(max_length=16, blank=True)
    responses = models.JSONField()  # list of alignment.records.Response rows, at most two shown as A and B
    status = models.CharField(max_length=10, choices=Status)
    flag_reason = models.CharField(max_length=20, blank=True)
    flag_words = models.TextField(blank=True)
    priority = models.FloatField(default=0)
    propensity = models.FloatField(validators=[MinValueValidator(0), MaxValueValidator(1)])
    audit = models.BooleanField(default=False)
    content_hash = models.CharField(max_length=64)
    wanted = models.PositiveSmallIntegerField(default=1)  # people whose judgements it needs
    rank = models.PositiveSmallIntegerField(choices=Rank, default=Rank.PRIORITY)
    assigned_to = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="assigned")
    disputed = models.BooleanField(default=False)  # its blind judgements contradict each other, decided or not
    gold = models.BooleanField(default=False)  # its approved label tests the people who are shown it again
    excluded_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [
            # Serves "the next sample" in the order of the queue: one short range scan at any table size.
            models.Index(
                fields=["round", "-rank", "-priority", "created_at", "id"],
                name="sample_queue",
                condition=Q(status="queued"),
            ),
            # The lists of `selectors.sample_pages`, each in the order in which they are shown: of an experiment,
            # of one of its states, of one cell, and of the small sets.
            models.Index(fields=["experiment", "-created_at", "-id"], name="sample_recent"),
            models.Index(fields=["experiment", "status", "-created_at", "-id"], name="sample_status"),
            models.Index(
                fields=[
                    "round",
                    "kind",
                    "category",
                    "principle",
                    "flag_reason",
                    "status",
                    "-created_at",
                    "-id",
                ],
                name="sample_cell",
            ),
            # The archive's map and what it links to; holds all that the map counts.
            models.Index(
                fields=["round", "operator", "category", "level", "calls"],
                name="sample_attack",
                condition=Q(kind="unsafe"),
            ),
            models.Index(fields=["experiment", "operator", "-created_at", "-id"], name="sample_operator"),
            models.Index(fields=["experiment", "level", "-created_at", "-id"], name="sample_level"),
            models.Index(fields=["experiment", "-created_at", "-id"], name="sample_gold", condition=Q(gold=True)),
            models.Index(
                fields=["experiment", "-created_at", "-id"], name="sample_disagreed", condition=Q(disputed=True)
            ),
            models.Index(
                fields=["assigned_to", "-created_at", "-id"],
                name="sample_assigned",
                condition=Q(assigned_to__isnull=False),
            ),
            models.Index(fields=["round"], name="sample_disputed", condition=Q(status="disputed")),
            # "Decided like this one". There is no index that begins with (round, status): with statistics SQLite
            # would take it for the queue, and sort.
            models.Index(
                fields=["experiment", "principle", "-created_at"],
                name="sample_similar",
                condition=Q(status="decided"),
            ),
        ]


class Critique(UuidModel):
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="critiques")
    response_index = models.PositiveSmallIntegerField()
    checkpoint = models.ForeignKey("Checkpoint", null=True, on_delete=models.SET_NULL)
    status = models.CharField(max_length=12)  # ok, empty, refused, timeout, unparseable
    violation = models.FloatField(null=True)
    uncertainty = models.FloatField(null=True)
    disagreement = models.FloatField(null=True)
    principle = models.CharField(max_length=60, blank=True)
    scores = models.JSONField(default=dict)
    members = models.JSONField(default=dict)
    rationale = models.TextField(blank=True)
    span = models.JSONField(null=True)  # [start, end) in characters of the response
    correct = models.BooleanField(null=True)

    class Meta:
        ordering = ["response_index"]


class Cell(models.Model):
    """A combination of what never changes about a sample, there as soon as one sample has it.

    There are some thousands of them at most, so a list finds the ones that fit its filters and then reads
    only these parts of the index `sample_cell`, however rare a combination is. Written by `oversight.search`.
    """

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=12)
    category = models.CharField(max_length=40, blank=True)
    principle = models.CharField(max_length=60, blank=True)
    flag_reason = models.CharField(max_length=20, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "kind", "category", "principle", "flag_reason"], name="one_cell")
        ]


class SampleText(models.Model):
    """What the full-text search finds a sample by: its distinct words and marks, as `oversight.search` writes them.

    The ids grow with time, so the newest comes first by id. On SQLite the triggers of migration 0005 keep an
    FTS5 table behind these rows, on PostgreSQL a generated column and its GIN index do.
    """

    sample = models.OneToOneField(Sample, on_delete=models.CASCADE, related_name="words")
    text = models.TextField()


class TrainedOn(models.Model):
    """A round's learn phase was given this sample's label."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="trained_on")
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="trained")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "sample"], name="trained_once")]
