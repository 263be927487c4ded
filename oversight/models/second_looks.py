"""Labels that a round's critic finds likely wrong, and what people do about them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from oversight.models.people import User
from oversight.models.samples import Sample


class SecondLook(models.Model):
    """One judged answer whose label looks wrong. The label stands until a lead decides otherwise."""

    class State(models.TextChoices):
        OPEN = "open"
        ASKED = "asked", "one more person is asked"
        ANSWERED = "answered", "one more person has judged it"
        CLOSED = "closed"  # a lead kept the label or decided

    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="second_looks")
    response_index = models.PositiveSmallIntegerField()
    label = models.FloatField()  # P(violates) that the round's critic was fitted to
    predicted = models.FloatField()  # P(violates) by a critic that never saw the answer
    margin = models.FloatField()  # how much more the critic believes in the other verdict, in (0, 1]
    words = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    asked_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sample", "response_index"], name="one_second_look")]
        indexes = [models.Index(fields=["sample"], name="second_look_asked", condition=Q(state="asked"))]
