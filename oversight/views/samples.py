"""Samples: the filtered list, the whole history of one, and what leads do with many."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from oversight.models import Experiment, Role, Sample, User
from oversight.permissions import has_role, require_role
from oversight.selectors.rounds import find_experiment
from oversight.selectors.sample_filter import KINDS, REASONS, SampleFilter, allow, open_sight
from oversight.selectors.sample_history import read_history
from oversight.selectors.sample_timeline import describe_flag, describe_pairs, list_steps
from oversight.selectors.samples import list_presets, list_samples, read_choices
from oversight.views.rounds import actor


@require_role(Role.REVIEWER)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    context: dict[str, Any] = {"experiment": experiment}
    if experiment is None:
        return render(request, "oversight/samples.html", context)
    sight = open_sight(actor(request), experiment)
    wanted = allow(SampleFilter.from_query(request.GET), sight)
    after = request.GET.get("after", "")
    context |= {
        "wanted": wanted,
        "link": wanted.link(),
        "page": list_samples(experiment, wanted, sight=sight, after=after),
        "presets": list_presets(wanted, sight),
        "after": after,
        "sight": sight,
    }
    if sight.lead:
        context["people"] = User.objects.filter(is_active=True).order_by("username")
    if request.headers.get("HX-Target") == "samples-list":
        return render(request, "oversight/samples_list.html", context)
    context |= {
        "choices": read_choices(experiment, sight),
        "statuses": [(value, label) for value, label in Sample.Status.choices if sight.lead or value != "disputed"],
        "reasons": REASONS,
        "kinds": KINDS,
        "experiments": Experiment.objects.order_by("name"),
        "result": request.session.pop("samples_result", None) if sight.lead else None,
    }
    return render(request, "oversight/samples.html", context)


@require_role(Role.REVIEWER)
def detail_page(request: HttpRequest, sample_id: UUID) -> HttpResponse:
    sample = get_object_or_404(Sample.objects.select_related("query", "round__experiment", "assigned_to"), pk=sample_id)
    lead = has_role(request.user, Role.LEAD)
    history = read_history(sample, user=actor(request))
    context: dict[str, Any] = {
        "history": history,
        "steps": list_steps(history),
        "why": describe_flag(sample),
        "pairs": describe_pairs(history.label) if history.label else [],
        "lead": lead,
        "result": request.session.pop("samples_result", None) if lead else None,
    }
    if lead:
        context["people"] = User.objects.filter(is_active=True).order_by("username")
    return render(request, "oversight/sample.html", context)
