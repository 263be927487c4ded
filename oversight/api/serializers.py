"""What the API says, field by field: a column that is not named here never leaves."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from oversight.models import Checkpoint, ContinuousRun, MetricPoint, Round


class RoundOut(serializers.ModelSerializer[Round]):
    experiment = serializers.CharField(source="experiment.name")
    launched_by = serializers.CharField(source="launched_by.username", default=None)

    class Meta:
        model = Round
        fields = (
            "id", "experiment", "number", "objective", "status", "phase", "reason", "budget", "stage", "stage_done",
            "stage_total", "stage_seconds", "attempt", "launched_by", "queued_at", "started_at", "first_flag_at",
            "proposed_at", "learning_at", "finished_at", "config", "plan",
        )  # fmt: skip


class ContinuousOut(serializers.ModelSerializer[ContinuousRun]):
    experiment = serializers.CharField(source="experiment.name")
    started_by = serializers.CharField(source="started_by.username", default=None)

    class Meta:
        model = ContinuousRun
        fields = (
            "id", "experiment", "state", "rounds", "reviews", "minutes", "patience", "window", "least_gain", "after",
            "latest", "started_by", "created_at", "changed_at", "rule", "reason", "waiting",
        )  # fmt: skip


class ContinuousIn(serializers.ModelSerializer[ContinuousRun]):
    class Meta:
        model = ContinuousRun
        fields = ("rounds", "reviews", "minutes", "patience", "window", "least_gain")


class LaunchIn(serializers.Serializer[Any]):
    """What differs from the experiment's settings; RoundConfig checks names and values."""

    overrides = serializers.DictField(required=False, default=dict)


class TurnOut(serializers.Serializer[Any]):
    """A turn before the prompt. `role` is user or assistant; the assistant is the learner."""

    role = serializers.CharField()
    content = serializers.CharField()


class SampleOut(serializers.Serializer[Any]):
    """A row of the list. `flag_reason` is null while this person may still be asked about the sample."""

    id = serializers.UUIDField(source="sample.id")
    round = serializers.IntegerField(source="sample.round.number")
    prompt = serializers.CharField(source="sample.query.text")
    turns = TurnOut(source="sample.query.history", many=True)
    kind = serializers.CharField(source="sample.kind")
    category = serializers.CharField(source="sample.category")
    principle = serializers.CharField(source="sample.principle")
    operator = serializers.CharField(source="sample.query.operator")
    status = serializers.CharField(source="state")
    flag_reason = serializers.CharField(source="shown_reason", allow_null=True)
    created_at = serializers.DateTimeField(source="sample.created_at")


class SamplePageOut(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    checked = serializers.IntegerField()
    results = SampleOut(many=True)


class CritiqueOut(serializers.Serializer[Any]):
    status = serializers.CharField()
    violation = serializers.FloatField(allow_null=True)
    uncertainty = serializers.FloatField(allow_null=True)
    disagreement = serializers.FloatField(allow_null=True)
    principle = serializers.CharField()
    rationale = serializers.CharField()
    span = serializers.ListField(child=serializers.IntegerField(), allow_null=True)


class AnswerOut(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    text = serializers.CharField()
    tokens = serializers.IntegerField()
    cut = serializers.BooleanField()
    critique = CritiqueOut(allow_null=True)
    violates = serializers.FloatField(allow_null=True)


class ReviewOut(serializers.Serializer[Any]):
    reviewer = serializers.CharField(source="reviewer.username")
    action = serializers.CharField()
    violations = serializers.DictField()
    rewrite = serializers.CharField()
    note = serializers.CharField()
    saw_critic = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class HistoryOut(serializers.Serializer[Any]):
    """One sample with all that led to it; `blind` says that verdicts and others' judgements are kept back."""

    id = serializers.UUIDField(source="sample.id")
    round = serializers.IntegerField(source="sample.round.number")
    prompt = serializers.CharField(source="sample.query.text")
    turns = TurnOut(source="sample.query.history", many=True)
    kind = serializers.CharField(source="sample.query.kind")
    category = serializers.CharField(source="sample.query.category")
    principle = serializers.CharField(source="sample.query.principle")
    status = serializers.CharField(source="state")
    blind = serializers.BooleanField()
    answers = AnswerOut(many=True)
    reviews = ReviewOut(many=True)


class CheckpointOut(serializers.ModelSerializer[Checkpoint]):
    """`card` is what it was made of, {} where an older version saved it; people are counted in it, never named."""

    experiment = serializers.UUIDField(source="experiment_id")
    round = serializers.IntegerField(source="round.number")

    class Meta:
        model = Checkpoint
        fields = ("id", "experiment", "round", "role", "parent", "verdict", "reasons", "sha256", "card", "created_at")


class StartIn(serializers.Serializer[Any]):
    """`checkpoint` null is the base model. `seen` is the token of a GET: nothing newer is overwritten."""

    checkpoint = serializers.UUIDField(allow_null=True)
    reason = serializers.CharField()
    seen = serializers.CharField(required=False, allow_null=True, default=None)


class StartOut(serializers.Serializer[Any]):
    """What the next round, `number`, starts from; `checkpoint` null is the base model, `reason` "" nobody's choice."""

    number = serializers.IntegerField()
    checkpoint = serializers.UUIDField(source="checkpoint.pk", allow_null=True, default=None)
    chosen_by = serializers.CharField(source="choice.chosen_by.username", default=None)
    reason = serializers.CharField(source="choice.reason", default="")
    seen = serializers.CharField(source="token")


class MetricOut(serializers.ModelSerializer[MetricPoint]):
    round = serializers.IntegerField(source="round.number")

    class Meta:
        model = MetricPoint
        fields = ("round", "name", "group", "model", "value", "ci_low", "ci_high", "n", "seed", "reason")
