"""What an experiment starts from."""

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class UuidModel(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True


class Constitution(UuidModel):
    """A version of the principles. A used version is never edited: a change makes the next one."""

    name = models.CharField(max_length=80)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="constitution_version")]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Principle(UuidModel):
    class Kind(models.TextChoices):
        CONFORMITY = "conformity"
        COMPETENCE = "competence"

    constitution = models.ForeignKey(Constitution, on_delete=models.CASCADE, related_name="principles")
    key = models.SlugField(max_length=60)
    position = models.PositiveIntegerField(default=0)
    kind = models.CharField(max_length=10, choices=Kind)
    category = models.CharField(max_length=40, blank=True)
    title = models.CharField(max_length=120)
    text = models.TextField()
    guidance = models.TextField(blank=True)
    fine = models.TextField(blank=True)
    safe_answers = models.JSONField(default=list, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["constitution", "key"], name="principle_key")]

    def __str__(self) -> str:
        return self.title


class Experiment(UuidModel):
    name = models.CharField(max_length=120, unique=True)
    constitution = models.ForeignKey(Constitution, on_delete=models.PROTECT)
    profile = models.CharField(max_length=10, default="laptop")
    learner = models.CharField(max_length=300)
    critic = models.CharField(max_length=300, blank=True)
    attacker = models.CharField(max_length=300, blank=True)
    judge = models.CharField(max_length=300, blank=True)  # asked in words about each answer; "" asks none
    seed = models.PositiveIntegerField(default=0)
    settings = models.JSONField(default=dict, blank=True)  # RoundConfig fields that differ from the profile's
    # How often people are asked the same: `overlap` of them judge each of a random share of the flagged samples.
    overlap = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(5)])
    overlap_share = models.FloatField(default=1.0, validators=[MinValueValidator(0), MaxValueValidator(1)])
    gold_share = models.FloatField(default=0.0, validators=[MinValueValidator(0), MaxValueValidator(0.5)])

    def __str__(self) -> str:
        return self.name


class Seed(UuidModel):
    """An unsafe prompt to attack from, with its harmless look-alike where it has one."""

    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="seeds")
    key = models.CharField(max_length=80)
    category = models.CharField(max_length=40)
    principle = models.CharField(max_length=60)
    style = models.CharField(max_length=40)
    level = models.PositiveSmallIntegerField(default=1)
    unsafe = models.TextField()
    harmless = models.TextField(blank=True)
    source = models.CharField(max_length=200, default="shipped")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["experiment", "key"], name="seed_key")]

    def __str__(self) -> str:
        return self.key
