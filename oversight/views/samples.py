"""Samples: the filtered list and the whole history of one."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from oversight.models import Experiment, Role, Sample
from oversight.permissions import has_role, require_role
from oversight.selectors.rounds import find_experiment
from oversight.selectors.samples import KINDS, REASONS, SampleFilter, list_samples, read_choices, read_history
from oversight.views.rounds import actor


@require_role(Role.REVIEWER)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    context: dict[str, object] = {"experiment": experiment}
    if experiment is None:
        return render(request, "oversight/samples.html", context)
    wanted = SampleFilter.from_query(request.GET)
    after = request.GET.get("after", "")
    blind = not has_role(request.user, Role.LEAD)
    context |= {
        "wanted": wanted,
        "link": wanted.link(),
        "page": list_samples(experiment, wanted, blind=blind, after=after),
        "after": after,
        "blind": blind,
    }
    if request.headers.get("HX-Target") == "samples-list":
        return render(request, "oversight/samples_list.html", context)
    context |= {
        "choices": read_choices(experiment),
        "statuses": Sample.Status.choices,
        "reasons": REASONS,
        "kinds": KINDS,
        "experiments": Experiment.objects.order_by("name"),
    }
    return render(request, "oversight/samples.html", context)


@require_role(Role.REVIEWER)
def detail_page(request: HttpRequest, sample_id: UUID) -> HttpResponse:
    sample = get_object_or_404(Sample.objects.select_related("query", "round__experiment"), pk=sample_id)
    return render(request, "oversight/sample.html", {"history": read_history(sample, user=actor(request))})
