"""Continuous mode in the admin: a start with its budget, pause and resume, and why it stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from oversight.admin_site import RoleAdmin, actor
from oversight.forms import ContinuousForm
from oversight.models import ContinuousRun, Experiment
from oversight.services import continuous
from oversight.services.round_rows import RoundRefused


class StartForm(ContinuousForm):
    experiment = forms.ModelChoiceField(Experiment.objects.order_by("name"))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        running = ContinuousRun.objects.filter(experiment=cleaned.get("experiment"), state=ContinuousRun.State.RUNNING)
        if running.exists():
            raise ValidationError("Continuous mode is on already; pause it first.")
        return cleaned

    def validate_constraints(self) -> None:
        """A paused run of the experiment is no error: the start ends it."""


class ContinuousRunAdmin(RoleAdmin):
    """Adding one starts it; afterwards it is paused and resumed, never edited."""

    list_display = ("experiment", "state", "rounds", "reviews", "minutes", "reason", "started_by", "created_at")
    list_filter = ("state", "experiment")
    list_select_related = ("experiment", "started_by")
    fields = ("experiment", *ContinuousForm.Meta.fields)
    actions = ("pause_runs", "resume_runs")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: ContinuousRun, form: Any, change: bool) -> None:
        """The service makes a row of its own, because it also launches; the admin goes on with that one."""
        started = continuous.start_continuous(
            experiment=obj.experiment,
            user=actor(request),
            **{name: form.cleaned_data[name] for name in ContinuousForm.Meta.fields},
        )
        obj.pk = started.pk

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, form=StartForm, **kwargs)

    def _apply(self, request: HttpRequest, chosen: QuerySet[ContinuousRun], act: Callable[..., Any]) -> None:
        for run in chosen.select_related("experiment"):
            try:
                done = act(run=run, user=actor(request))
            except RoundRefused as refusal:
                self.message_user(request, f"{run.experiment}: {refusal}", messages.ERROR)
            else:
                self.message_user(request, f"{run.experiment}: {done.state}. {done.reason}", messages.SUCCESS)

    @admin.action(description="Pause")
    def pause_runs(self, request: HttpRequest, chosen: QuerySet[ContinuousRun]) -> None:
        self._apply(request, chosen, continuous.pause_continuous)

    @admin.action(description="Resume")
    def resume_runs(self, request: HttpRequest, chosen: QuerySet[ContinuousRun]) -> None:
        self._apply(request, chosen, continuous.resume_continuous)
