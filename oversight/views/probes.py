"""Probes: what the model answered to the same held-out prompt, before training and after each round."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from oversight.differences import Piece, compare
from oversight.models import Experiment, ProbeAnswer, Role
from oversight.permissions import require_role
from oversight.selectors.probes import (
    CHANGES,
    KINDS,
    LEVELS,
    ProbeSearch,
    fill_prompts,
    list_answers,
    list_kept,
    list_probe_categories,
    list_probes,
)
from oversight.selectors.rounds import find_experiment

PAGE_SIZE = 30


@dataclass(frozen=True)
class Shown:
    """A round's answer, with what changed from the answer of the model that the round started from."""

    answer: ProbeAnswer
    kept: bool
    pieces: list[Piece]
    same: bool


@require_GET
@require_role(Role.REVIEWER)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    if experiment is None:
        return render(request, "oversight/probes.html", {"experiment": None})
    wanted = ProbeSearch.from_query(request.GET)
    page = Paginator(list_probes(experiment, wanted), PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "experiment": experiment,
        "wanted": wanted,
        "link": wanted.link(),
        "page": page,
        "rows": fill_prompts(experiment, list(page.object_list)),
    }
    if request.headers.get("HX-Target") == "probes-list":
        return render(request, "oversight/probes_list.html", context)
    context |= {
        "experiments": Experiment.objects.order_by("name"),
        "kinds": KINDS,
        "levels": LEVELS,
        "changes": CHANGES,
        "categories": list_probe_categories(experiment),
    }
    return render(request, "oversight/probes.html", context)


@require_GET
@require_role(Role.REVIEWER)
def detail_page(request: HttpRequest, probe: str) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    answers = list_answers(experiment, probe) if experiment and "\x00" not in probe else []
    if experiment is None or not answers:
        raise Http404(f"This experiment has no answer to a probe {probe[:80]!r}.")
    kept = list_kept(experiment)
    shown = [
        Shown(
            answer, answer.round.number in kept, compare(answer.before, answer.after), answer.before == answer.after
        )
        for answer in answers
    ]  # fmt: skip
    context = {"experiment": experiment, "probe": answers[-1], "base": answers[0], "rounds": shown}
    return render(request, "oversight/probe.html", context)
