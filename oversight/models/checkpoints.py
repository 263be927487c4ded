"""What people do with checkpoints: start the next round from one, and take one away as a whole model."""

from __future__ import annotations

from django.db import models

from oversight.models.people import User
from oversight.models.rounds import Checkpoint
from oversight.models.setup import Experiment, UuidModel


class Start(UuidModel):
    """Somebody chose what round `number` of an experiment starts from. It holds until another choice.

    Rounds after it go on from what was accepted since; where nothing was, from here again.
    """

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="starts")
    number = models.PositiveIntegerField()
    # None: the base model.
    checkpoint = models.ForeignKey(Checkpoint, null=True, on_delete=models.RESTRICT, related_name="starts")
    chosen_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    chosen_at = models.DateTimeField()
    reason = models.CharField(max_length=500)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "number"], name="one_start")]


class Merge(UuidModel):
    """A learner's checkpoint merged into its base model, made in the background for download."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    checkpoint = models.OneToOneField(Checkpoint, on_delete=models.CASCADE, related_name="merge")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(default=1)  # fences out a worker that was taken for dead
    words = models.CharField(max_length=200, blank=True)  # what it does now
    done = models.PositiveIntegerField(default=0)  # steps
    total = models.PositiveIntegerField(default=0)
    reason = models.TextField(blank=True)  # why it failed
    sha256 = models.CharField(max_length=64, blank=True)  # of the folder
    size = models.PositiveBigIntegerField(default=0)  # bytes
    asked_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    moved_at = models.DateTimeField()  # of the latest step
