"""The admin: rounds with their actions, experiments, constitutions, seeds, people, and the evidence to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from oversight.admin_continuous import ContinuousRunAdmin
from oversight.admin_site import OversightAdminSite, ReadOnlyAdmin, RoleAdmin, actor
from oversight.forms import LaunchForm
from oversight.models import (
    AuditEvent,
    Checkpoint,
    Constitution,
    ContinuousRun,
    Critique,
    Experiment,
    Label,
    MetricPoint,
    Principle,
    Review,
    Role,
    Round,
    Sample,
    Seed,
    User,
)
from oversight.permissions import has_role
from oversight.selectors.outlook import read_forecasts
from oversight.selectors.rounds import find_experiment
from oversight.services import accounts, constitutions, launching, people, rounds
from oversight.services.round_rows import RoundRefused

site = OversightAdminSite(name="admin")
site.register(ContinuousRun, ContinuousRunAdmin)


@admin.register(Round, site=site)
class RoundAdmin(ReadOnlyAdmin):
    list_display = ("number", "experiment", "objective", "status", "phase", "stage", "launched_by", "created_at")
    list_filter = ("status", "objective", "experiment")
    list_select_related = ("experiment", "launched_by")
    actions = ("cancel_rounds", "retry_rounds", "close_reviews")
    change_list_template = "admin/oversight/round/change_list.html"

    def view_on_site(self, round: Round) -> str:
        return reverse("round", args=[round.pk])

    def get_urls(self) -> list[URLPattern]:
        launch = path("launch/", self.admin_site.admin_view(self.launch_page), name="oversight_round_launch")
        return [launch, *super().get_urls()]

    def launch_page(self, request: HttpRequest) -> HttpResponse:
        """The launch form with its cost and what stands in the way; `Show cost` asks again without launching."""
        data = request.POST if request.method == "POST" else request.GET
        experiment = find_experiment(data.get("experiment", ""))
        if experiment is None:
            self.message_user(request, "Add an experiment first.", messages.WARNING)
            return redirect("admin:oversight_experiment_changelist")
        coming = launching.prepare_round(experiment)
        form = LaunchForm(
            request.POST if request.method == "POST" else None, defaults=coming.config, reasons=coming.reasons
        )
        problems = launching.preflight(experiment)
        if request.method == "POST" and "launch" in request.POST and form.is_valid():
            try:
                round = launching.launch_round(experiment=experiment, user=actor(request), overrides=form.overrides())
            except RoundRefused as refusal:
                problems = refusal.problems
            except ValueError as error:
                form.add_error(None, str(error))
            else:
                self.message_user(request, f"Round {round.number} is launched.", messages.SUCCESS)
                return redirect("admin:oversight_round_changelist")
        estimate = None
        try:
            estimate = launching.estimate(experiment, form.overrides(), coming=coming)
        except ValueError as error:
            problems = [*problems, str(error)]
        context = {
            **self.admin_site.each_context(request),
            "title": "Launch a round",
            "opts": self.opts,
            "form": form,
            "experiment": experiment,
            "experiments": Experiment.objects.order_by("name"),
            "problems": problems,
            "estimate": estimate,
            "forecasts": read_forecasts(experiment.pk),
        }
        return TemplateResponse(request, "admin/oversight/round/launch.html", context)

    def _apply(self, request: HttpRequest, chosen: QuerySet[Round], act: Callable[..., Round], done: str) -> None:
        for round in chosen.order_by("number"):
            try:
                act(round=round, user=actor(request))
            except RoundRefused as refusal:
                self.message_user(request, str(refusal), messages.ERROR)
            else:
                self.message_user(request, f"Round {round.number}: {done}.", messages.SUCCESS)

    @admin.action(description="Cancel")
    def cancel_rounds(self, request: HttpRequest, chosen: QuerySet[Round]) -> None:
        self._apply(request, chosen, rounds.cancel_round, "being cancelled")

    @admin.action(description="Retry from the last whole stage")
    def retry_rounds(self, request: HttpRequest, chosen: QuerySet[Round]) -> None:
        self._apply(request, chosen, rounds.retry_round, "queued again")

    @admin.action(description="Close the review and learn")
    def close_reviews(self, request: HttpRequest, chosen: QuerySet[Round]) -> None:
        self._apply(request, chosen, rounds.close_review, "review closed")


class ExperimentForm(forms.ModelForm):  # type: ignore[type-arg]
    profile = forms.ChoiceField(choices=[(name, name) for name in ("tiny", "laptop", "gpu")])

    class Meta:
        model = Experiment
        fields = (
            "name",
            "constitution",
            "profile",
            "learner",
            "critic",
            "attacker",
            "judge",
            "seed",
            "settings",
            "overlap",
            "overlap_share",
            "gold_share",
        )

    def clean(self) -> dict[str, Any]:
        """A setting that no round could be launched with is refused here, with the setting's name."""
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            draft = Experiment(pk=self.instance.pk, **cleaned)
            try:
                launching.default_config(draft)
            except (ValueError, TypeError) as error:
                raise ValidationError({"settings": str(error)}) from error
        return cleaned


@admin.register(Experiment, site=site)
class ExperimentAdmin(RoleAdmin):
    form = ExperimentForm
    list_display = ("name", "profile", "learner", "constitution")
    list_select_related = ("constitution",)
    search_fields = ("name",)
    actions = ("start_from_base",)

    @admin.action(description="Start the next round from the base model")
    def start_from_base(self, request: HttpRequest, chosen: QuerySet[Experiment]) -> HttpResponse | None:
        found = list(chosen[:2])
        if len(found) != 1:
            self.message_user(request, "Choose one experiment.", messages.ERROR)
            return None
        return redirect(f"{reverse('checkpoint-start')}?checkpoint=base&experiment={found[0].pk}")


class PrincipleInline(admin.StackedInline):  # type: ignore[type-arg]
    model = Principle
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return has_role(request.user, Role.RESEARCHER)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_change(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_change(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may_change(request, obj)

    def _may_change(self, request: HttpRequest, obj: Model | None) -> bool:
        used = isinstance(obj, Constitution) and constitutions.is_used(obj)
        return has_role(request.user, Role.RESEARCHER) and not used


@admin.register(Constitution, site=site)
class ConstitutionAdmin(RoleAdmin):
    list_display = ("name", "version", "principle_count", "used")
    inlines = (PrincipleInline,)
    actions = ("make_next_version",)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        used = isinstance(obj, Constitution) and constitutions.is_used(obj)
        return super().has_change_permission(request, obj) and not used

    @admin.display(description="principles")
    def principle_count(self, constitution: Constitution) -> int:
        return constitution.principles.count()

    @admin.display(description="used by rounds", boolean=True)
    def used(self, constitution: Constitution) -> bool:
        return constitutions.is_used(constitution)

    @admin.action(description="Make the next version")
    def make_next_version(self, request: HttpRequest, chosen: QuerySet[Constitution]) -> None:
        for constitution in chosen:
            copy = constitutions.make_next_version(constitution=constitution, user=actor(request))
            self.message_user(request, f"{copy} is made; edit it, then give it to an experiment.", messages.SUCCESS)


@admin.register(Seed, site=site)
class SeedAdmin(RoleAdmin):
    list_display = ("key", "category", "principle", "style", "level", "source")
    list_filter = ("category", "style", "level", "experiment")
    search_fields = ("key", "unsafe", "harmless")
    delete_role = Role.RESEARCHER


class PersonForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ("username", "first_name", "last_name", "email", "role", "is_active")


@admin.register(User, site=site)
class PersonAdmin(RoleAdmin):
    """People and their roles. There is no password here: a one-time link lets a person in."""

    form = PersonForm
    change_role = Role.OPERATOR
    list_display = ("username", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    search_fields = ("username", "first_name", "last_name")
    actions = ("make_link",)
    fields = ("username", "first_name", "last_name", "email", "role", "is_active")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # Nobody locks themselves out: an operator's own role and account are another operator's business.
        return ("role", "is_active") if obj is not None and obj.pk == request.user.pk else ()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        people.give_role(obj, Role(obj.role))
        if not change:
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)

    @admin.action(description="Make a one-time sign-in link", permissions=["change"])
    def make_link(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        base_url = f"{request.scheme}://{request.get_host()}"
        for user in chosen.filter(is_active=True):
            link = accounts.make_sign_in_link(user=user, base_url=base_url)
            self.message_user(request, f"For {user.get_username()}, once: {link}", messages.SUCCESS)


@admin.register(Sample, site=site)
class SampleAdmin(ReadOnlyAdmin):
    list_display = ("id", "round", "status", "flag_reason", "priority", "audit", "created_at")
    list_filter = ("status", "flag_reason", "audit")
    list_select_related = ("round__experiment",)
    ordering = ("-created_at",)

    def view_on_site(self, sample: Sample) -> str:
        return reverse("sample", args=[sample.pk])


@admin.register(Review, site=site)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ("id", "reviewer", "action", "saw_critic", "held_lease", "seconds", "created_at")
    list_filter = ("action", "saw_critic", "reviewer")
    list_select_related = ("reviewer",)
    ordering = ("-created_at",)


@admin.register(Label, site=site)
class LabelAdmin(ReadOnlyAdmin):
    list_display = ("id", "sample_id", "violates", "preferred", "created_at")
    ordering = ("-created_at",)


@admin.register(Critique, site=site)
class CritiqueAdmin(ReadOnlyAdmin):
    list_display = ("id", "sample_id", "response_index", "status", "violation", "uncertainty", "principle")
    list_filter = ("status",)


@admin.register(Checkpoint, site=site)
class CheckpointAdmin(ReadOnlyAdmin):
    """Rolling back is one action here; its confirmation is the product's own page, with the same checks."""

    list_display = ("round", "role", "verdict", "path", "created_at")
    list_filter = ("role", "verdict", "experiment")
    list_select_related = ("round__experiment",)
    actions = ("start_next_round",)

    def view_on_site(self, checkpoint: Checkpoint) -> str:
        return reverse("checkpoint", args=[checkpoint.pk])

    @admin.action(description="Start the next round from it")
    def start_next_round(self, request: HttpRequest, chosen: QuerySet[Checkpoint]) -> HttpResponse | None:
        found = list(chosen[:2])
        if len(found) != 1 or found[0].role != Checkpoint.Role.LEARNER:
            self.message_user(request, "Choose one checkpoint of a learner.", messages.ERROR)
            return None
        return redirect(f"{reverse('checkpoint-start')}?checkpoint={found[0].pk}")


@admin.register(MetricPoint, site=site)
class MetricPointAdmin(ReadOnlyAdmin):
    list_display = ("round", "name", "group", "model", "value", "ci_low", "ci_high", "n", "reason")
    list_filter = ("name", "model")
    list_select_related = ("round__experiment",)


@admin.register(AuditEvent, site=site)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "target")
    list_filter = ("action",)
    search_fields = ("actor", "target")
    ordering = ("-id",)
