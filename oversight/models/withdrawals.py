"""Judgements that a lead took out, and what that changed."""

from __future__ import annotations

from django.db import models

from oversight.models.people import User
from oversight.models.samples import Sample
from oversight.models.setup import Experiment, UuidModel


class Withdrawal(UuidModel):
    """A lead took judgements out. Done in batches: `done` of `reviews` are handled in the current direction."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        RESTORING = "restoring"
        RESTORED = "restored"

    by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    reviewer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="withdrawals")
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="withdrawals")
    reason = models.CharField(max_length=500)
    reviews = models.JSONField(default=list)  # ids of the judgements, those of one sample side by side
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    done = models.PositiveIntegerField(default=0)
    kept_out = models.PositiveIntegerField(default=0)  # not restored: the person has judged the sample anew
    moved_at = models.DateTimeField()  # of the latest batch: a withdrawal that stands still lost its worker
    restored_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["-created_at", "-id"], name="withdrawal_recent")]

    @property
    def total(self) -> int:
        return len(self.reviews)

    @property
    def under_way(self) -> bool:
        return self.state in (self.State.RUNNING, self.State.RESTORING)


class LabelChange(models.Model):
    """What one withdrawal did to one sample. Labels are kept as dicts of their fields, null where there was none."""

    withdrawal = models.ForeignKey(Withdrawal, on_delete=models.CASCADE, related_name="changes")
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="label_changes")
    at = models.DateTimeField()
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    status_before = models.CharField(max_length=10)
    status_after = models.CharField(max_length=10)
    changed = models.BooleanField()  # training would read something else from the label, or nothing
    gold_lost = models.BooleanField(default=False)  # it tested people until its label vanished

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["withdrawal", "sample"], name="changed_once")]
