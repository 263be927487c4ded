"""Who holds a sample, what people say of it, and what comes of that."""

from __future__ import annotations

from django.db import models

from oversight.models.people import User
from oversight.models.samples import Sample
from oversight.models.setup import Experiment, UuidModel


class Lease(models.Model):
    """One person holds one sample for a while. The row stays; each new holder raises the fence."""

    class Why(models.TextChoices):
        """Why the holder got it, in the order of the queue."""

        ASSIGNED = "assigned"
        GOLD = "gold"
        OPINION = "opinion"
        BEGUN = "begun"
        PRIORITY = "priority"
        POSTPONED = "postponed"
        LINK = "link"  # opened by its address
        UNDO = "undo"

    sample = models.OneToOneField(Sample, on_delete=models.CASCADE, related_name="lease")
    holder = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    fence = models.PositiveBigIntegerField(default=1)
    expires_at = models.DateTimeField()
    ahead = models.BooleanField(default=False)  # fetched ahead and not shown yet: a short lease
    why = models.CharField(max_length=10, choices=Why, default=Why.PRIORITY)

    class Meta:
        indexes = [
            models.Index(fields=["holder", "expires_at"], name="lease_holder"),
            models.Index(fields=["expires_at"], name="lease_expiry"),  # serves "held by others", however many were held
        ]


class Review(UuidModel):
    """One person's judgement. Never changed: a correction is a new row that supersedes the old."""

    class Action(models.TextChoices):
        APPROVE = "approve"
        VIOLATES = "violates"
        PREFER_A = "prefer_a"
        PREFER_B = "prefer_b"
        TIE = "tie"
        BOTH_BAD = "both_bad"
        REWRITE = "rewrite"
        SKIP = "skip"
        UNDO = "undo"  # takes an own earlier judgement back
        WITHDRAW = "withdraw"  # a lead takes somebody's judgement out

    class Purpose(models.TextChoices):
        REVIEW = "review"
        GOLD = "gold"  # tests the reviewer; never part of the sample's label
        ADJUDICATION = "adjudication"  # a lead's decision: it alone makes the label

    class SkipReason(models.TextChoices):
        UNCLEAR = "unclear", "Unclear"
        EXPERTISE = "expertise", "Outside my expertise"
        HARMFUL = "harmful", "Harmful to read"

    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="reviews")
    reviewer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="reviews")
    action = models.CharField(max_length=10, choices=Action)
    purpose = models.CharField(max_length=12, choices=Purpose, default=Purpose.REVIEW)
    skip_reason = models.CharField(max_length=10, choices=SkipReason, blank=True)
    # Which answers violate which principles: {"0": ["private-life"], "1": []}; keys are response indices.
    violations = models.JSONField(default=dict, blank=True)
    # Passages that the reviewer marked: {"answer": 0, "start": 3, "end": 9, "principle": "private-life"}, with
    # offsets in Unicode code points of the response, end exclusive.
    spans = models.JSONField(default=list, blank=True)
    rewrite = models.TextField(blank=True)
    rewrite_of = models.PositiveSmallIntegerField(null=True)
    note = models.TextField(blank=True)
    saw_critic = models.BooleanField(default=False)  # a judgement made after the critic's verdict was shown
    held_lease = models.BooleanField(default=True)  # False: late, kept as an extra judgement that decides nothing
    seconds = models.FloatField(null=True)  # of activity; idle time is left out
    key = models.UUIDField(unique=True)  # sent by the browser: the same submit twice is one review
    supersedes = models.OneToOneField("self", null=True, on_delete=models.PROTECT, related_name="superseded_by")

    class Meta:
        indexes = [
            models.Index(fields=["reviewer", "-created_at"], name="review_recent"),
            models.Index(fields=["sample", "reviewer"], name="review_of"),  # "has this person answered it?"
        ]

    def says_violates(self, index: int) -> bool | None:
        """What this judgement says of one answer; None where it says nothing, as a preference does."""
        if str(index) in self.violations or self.action == self.Action.BOTH_BAD:
            return True
        return False if self.action in (self.Action.APPROVE, self.Action.VIOLATES) else None


class Label(UuidModel):
    """The approved result of a sample's reviews, with its evidence. Training uses these and nothing else."""

    class How(models.TextChoices):
        SINGLE = "single"  # one judgement was wanted, and made
        AGREED = "agreed"  # all who were wanted judged, and none contradicts another
        ADJUDICATED = "adjudicated"  # a lead decided
        CLOSED = "closed"  # the review ended before all who were wanted had judged; those who did agree

    sample = models.OneToOneField(Sample, on_delete=models.CASCADE, related_name="label")
    violates = models.JSONField(default=dict)  # response index -> P(violates)
    principles = models.JSONField(default=list)
    preferred = models.PositiveSmallIntegerField(null=True)
    rewrite = models.TextField(blank=True)
    rewrite_of = models.PositiveSmallIntegerField(null=True)
    how = models.CharField(max_length=12, choices=How, default=How.SINGLE)
    evidence = models.JSONField(default=list)  # ids of the reviews that made it, oldest first


class Draft(models.Model):
    """What somebody has typed and marked but not submitted, so that a crash or another machine loses nothing."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE)
    form = models.JSONField(default=dict)  # the form's fields, name -> list of values
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "sample"], name="one_draft")]


class Postponement(models.Model):
    """A sample that somebody wants to see after the rest. Others may take it meanwhile."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="postponed")
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="postponed")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "sample"], name="postponed_once")]


class ReviewFigures(models.Model):
    """Reviewers' reliability, agreement and bias of an experiment, computed in the background."""

    experiment = models.OneToOneField(Experiment, on_delete=models.CASCADE, related_name="figures")
    computed_at = models.DateTimeField()
    reviews = models.PositiveIntegerField(default=0)  # how many rows of Review it has seen
    figures = models.JSONField(default=dict)
