"""Rounds and what comes out of them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from oversight.models.people import User
from oversight.models.setup import Experiment, UuidModel


class Round(UuidModel):
    class Status(models.TextChoices):
        DRAFT = "draft"
        QUEUED = "queued"
        PROPOSING = "proposing"
        REVIEWING = "reviewing"
        LEARNING = "learning"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Phase(models.TextChoices):
        PROPOSE = "propose"
        LEARN = "learn"

    OPEN = (Status.QUEUED, Status.PROPOSING, Status.REVIEWING, Status.LEARNING)
    RUNNING = (Status.QUEUED, Status.PROPOSING, Status.LEARNING)
    FINISHED = (Status.DONE, Status.FAILED, Status.CANCELLED)

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    objective = models.CharField(max_length=12, default="conformity")
    status = models.CharField(max_length=12, choices=Status, default=Status.DRAFT, db_index=True)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.PROPOSE)
    config = models.JSONField(default=dict)
    # What the schedule had planned, why, and what a person chose instead (`planning.plan_round`); {} in older rounds.
    plan = models.JSONField(default=dict)
    reason = models.TextField(blank=True)  # why it failed, was cancelled or rolled back, in words
    cancel_requested = models.BooleanField(default=False)
    launched_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    budget = models.PositiveIntegerField(default=24)

    # Live progress, written by the runner.
    stage = models.CharField(max_length=40, blank=True)
    stage_done = models.PositiveIntegerField(default=0)
    stage_total = models.PositiveIntegerField(default=0)
    stage_started_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    events_offset = models.PositiveBigIntegerField(default=0)  # bytes of events.jsonl already taken in
    attempt = models.PositiveIntegerField(default=0)  # fences out a runner that was taken for dead
    stage_seconds = models.JSONField(default=dict)  # stage name -> seconds it took

    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    first_flag_at = models.DateTimeField(null=True)
    proposed_at = models.DateTimeField(null=True)
    learning_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "number"], name="round_number"),
            # One round of an experiment at a time: the next one starts from what this one accepted.
            models.UniqueConstraint(
                fields=["experiment"],
                condition=Q(status__in=["queued", "proposing", "reviewing", "learning"]),
                name="one_open_round",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment.name}, round {self.number}"


class LogLine(models.Model):
    """A line of a round's log, as people read it."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="log")
    at = models.DateTimeField()
    stage = models.CharField(max_length=40)
    text = models.TextField()
    error = models.BooleanField(default=False)

    class Meta:
        ordering = ["id"]


class Checkpoint(UuidModel):
    class Role(models.TextChoices):
        LEARNER = "learner"
        CRITIC = "critic"

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted"
        ROLLED_BACK = "rolled back"

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="checkpoints")
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="checkpoints")
    role = models.CharField(max_length=10, choices=Role)
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL)
    path = models.CharField(max_length=400)  # relative to the runs URL
    sha256 = models.CharField(max_length=64)
    verdict = models.CharField(max_length=12, choices=Verdict)
    reasons = models.JSONField(default=list)
    card = models.JSONField(default=dict)  # what it was made of, as `alignment.model_card.Lineage` writes it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "role"], name="checkpoint_role")]

    def __str__(self) -> str:
        return f"{self.role} of round {self.round.number}"


class MetricPoint(models.Model):
    """One number of a round with its interval, or the reason why there is none."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="metrics")
    name = models.CharField(max_length=60)
    group = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=10, default="new")  # "old" before the round, "new" after it
    value = models.FloatField(null=True)
    ci_low = models.FloatField(null=True)
    ci_high = models.FloatField(null=True)
    n = models.PositiveIntegerField(default=0)
    seed = models.PositiveIntegerField(default=0)
    reason = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "name", "group", "model"], name="metric_point")]


class ProbeAnswer(models.Model):
    """The answer of the model before and after a round to the same held-out probe."""

    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="probe_answers")
    probe = models.CharField(max_length=80)
    kind = models.CharField(max_length=12)
    category = models.CharField(max_length=40, blank=True)
    level = models.PositiveSmallIntegerField(default=0)
    prompt = models.TextField()
    before = models.TextField()
    after = models.TextField()
    before_verdict = models.CharField(max_length=20)
    after_verdict = models.CharField(max_length=20)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "probe"], name="probe_answer")]
