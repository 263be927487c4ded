"""The records in the database. Rows are written by `services`, read through `selectors`."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q


class Role(models.TextChoices):
    """What a person may do; each role may also do what the ones before it may (see permissions)."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    RESEARCHER = "researcher"
    OPERATOR = "operator"


class User(AbstractUser):
    role = models.CharField(max_length=12, choices=Role, default=Role.REVIEWER)


class SignInLink(models.Model):
    """A link that signs one person in once. Only the SHA-256 of its token is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)


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
    seed = models.PositiveIntegerField(default=0)
    settings = models.JSONField(default=dict, blank=True)  # RoundConfig fields that differ from the profile's

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


class Sample(UuidModel):
    """A query with the learner's answers; its id is the query's id."""

    class Status(models.TextChoices):
        UNFLAGGED = "unflagged"  # the critic alone decides
        QUEUED = "queued"  # waits for people
        DECIDED = "decided"
        SKIPPED = "skipped"  # every reviewer who saw it skipped it
        CLOSED = "closed"  # the round's review ended before anybody judged it

    query = models.OneToOneField(Query, on_delete=models.CASCADE, related_name="sample")
    round = models.ForeignKey(Round, on_delete=models.CASCADE, related_name="samples")
    responses = models.JSONField()  # list of alignment.records.Response rows, at most two shown as A and B
    status = models.CharField(max_length=10, choices=Status)
    flag_reason = models.CharField(max_length=20, blank=True)
    flag_words = models.TextField(blank=True)
    priority = models.FloatField(default=0)
    propensity = models.FloatField(validators=[MinValueValidator(0), MaxValueValidator(1)])
    audit = models.BooleanField(default=False)
    content_hash = models.CharField(max_length=64)

    class Meta:
        indexes = [
            # Serves "the next sample": one short range scan at any table size.
            models.Index(
                fields=["round", "-priority", "id"], name="sample_queue", condition=Q(status="queued")
            ),
            models.Index(fields=["round", "status"], name="sample_round_status"),
            models.Index(fields=["-created_at", "-id"], name="sample_recent"),  # serves a page of the list
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


class Lease(models.Model):
    """One person holds one sample for a while. The row stays; each new holder raises the fence."""

    sample = models.OneToOneField(Sample, on_delete=models.CASCADE, related_name="lease")
    holder = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    fence = models.PositiveBigIntegerField(default=1)
    expires_at = models.DateTimeField()

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
        UNDO = "undo"  # takes an earlier judgement back

    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="reviews")
    reviewer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="reviews")
    action = models.CharField(max_length=10, choices=Action)
    # Which answers violate which principles: {"0": ["private-life"], "1": []}; keys are response indices.
    violations = models.JSONField(default=dict, blank=True)
    rewrite = models.TextField(blank=True)
    rewrite_of = models.PositiveSmallIntegerField(null=True)
    note = models.TextField(blank=True)
    saw_critic = models.BooleanField(default=False)  # a judgement made after the critic's verdict was shown
    held_lease = models.BooleanField(default=True)  # False: submitted late, kept as an extra judgement
    seconds = models.FloatField(null=True)
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
    """The approved result of a sample's reviews, with its evidence."""

    sample = models.OneToOneField(Sample, on_delete=models.CASCADE, related_name="label")
    violates = models.JSONField(default=dict)  # response index -> P(violates)
    principles = models.JSONField(default=list)
    preferred = models.PositiveSmallIntegerField(null=True)
    rewrite = models.TextField(blank=True)
    reviews = models.ManyToManyField(Review)


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

    class Meta:
        constraints = [models.UniqueConstraint(fields=["round", "role"], name="checkpoint_role")]


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
