"""Rounds that launch the next one: what they may cost, and why they stopped."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from oversight.models.people import User
from oversight.models.setup import Experiment, UuidModel


class ContinuousRun(UuidModel):
    """One stretch of continuous mode. Its budget counts every round of the experiment with a number above `after`."""

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        STOPPED = "stopped"

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    rounds = models.PositiveIntegerField(default=4, validators=[MinValueValidator(1), MaxValueValidator(1000)])
    reviews = models.PositiveIntegerField(default=96, validators=[MaxValueValidator(1_000_000)])
    # Of machine time, both phases; people's time is not in it.
    minutes = models.FloatField(default=120, validators=[MinValueValidator(0), MaxValueValidator(1_000_000)])
    patience = models.PositiveSmallIntegerField(default=2)  # rounds without an accepted checkpoint; 0: never stops
    window = models.PositiveSmallIntegerField(default=3)  # rounds that the hypervolume is compared over; 0: never
    least_gain = models.FloatField(default=0.005, validators=[MinValueValidator(0), MaxValueValidator(1)])
    after = models.PositiveIntegerField(default=0)  # number of the last round before it
    judged_after = models.PositiveIntegerField(default=0)  # the rules of progress look at later rounds only
    latest = models.PositiveIntegerField(default=0)  # number of the round that it launched last; 0: none yet
    started_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    changed_at = models.DateTimeField(auto_now=True)
    rule = models.CharField(max_length=10, blank=True)  # which rule stopped it
    reason = models.TextField(blank=True)  # why it is paused or stopped, in words
    waiting = models.TextField(blank=True)  # what keeps the next round from starting now, in words

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["experiment"], condition=Q(state__in=["running", "paused"]), name="one_continuous_run"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment.name}, continuous from round {self.after + 1}"
