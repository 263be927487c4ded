"""People, and the log of what they did."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class Role(models.TextChoices):
    """What a person may do; each role may also do what the ones before it may (see permissions)."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    RESEARCHER = "researcher"
    OPERATOR = "operator"


class User(AbstractUser):
    role = models.CharField(max_length=12, choices=Role, default=Role.REVIEWER)
    # What a lead gives this person to review, and what they keep away from: lists of categories.
    categories = models.JSONField(default=list, blank=True)  # empty: every category
    opted_out = models.JSONField(default=list, blank=True)
    blurred = models.JSONField(default=list, blank=True)  # shown only after a key
    break_minutes = models.PositiveSmallIntegerField(default=50)  # of active reviewing; 0 never reminds


class SignInLink(models.Model):
    """A link that signs one person in once. Only the SHA-256 of its token is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)


class AuditEvent(models.Model):
    """Who did what. Append only; each row carries the hash of the one before it."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict)
    previous = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["id"]
