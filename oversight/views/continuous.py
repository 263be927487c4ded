"""Continuous mode: start, pause and resume, from the overview or a round's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from oversight.forms import ContinuousForm
from oversight.models import ContinuousRun, Experiment, Role
from oversight.permissions import require_role
from oversight.selectors.continuous import read_continuous
from oversight.selectors.rounds import find_experiment
from oversight.services import continuous
from oversight.services.launching import Estimate, NextRound
from oversight.services.round_rows import RoundRefused
from oversight.views.rounds import actor

ROUNDS = 4  # that a start offers


def offer_form(experiment: Experiment, coming: NextRound, estimate: Estimate | None) -> ContinuousForm:
    """The form with a budget that holds `ROUNDS` rounds like the next one."""
    asked = min(coming.config["budget"], estimate.samples) if estimate else coming.config["budget"]
    overlap = experiment.overlap if experiment.overlap_share else 1
    minutes = max(10, round(1.5 * ROUNDS * estimate.minutes)) if estimate else 120
    return ContinuousForm(initial={"rounds": ROUNDS, "reviews": ROUNDS * asked * overlap, "minutes": minutes})


@require_role(Role.RESEARCHER)
@require_POST
def start(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.POST.get("experiment", ""))
    if experiment is None or str(experiment.pk) != request.POST.get("experiment", "").lower():
        raise Http404
    form = ContinuousForm(request.POST)
    if not form.is_valid():
        wrong = [f"{form.fields[name].label}: {' '.join(map(str, words))}" for name, words in form.errors.items()]
        messages.error(request, f"Continuous mode was not started. {'; '.join(wrong)}")
        return _back(experiment)
    try:
        continuous.start_continuous(experiment=experiment, user=actor(request), **form.cleaned_data)
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    except ValueError as error:
        messages.error(request, f"Continuous mode was not started. {error}")
    else:
        _say(request, experiment)
    return _back(experiment)


def _act(request: HttpRequest, run_id: UUID, act: Callable[..., Any]) -> HttpResponse:
    run = get_object_or_404(ContinuousRun.objects.select_related("experiment"), pk=run_id)
    try:
        act(run=run, user=actor(request))
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    else:
        _say(request, run.experiment)
    return _back(run.experiment)


@require_role(Role.LEAD)
@require_POST
def pause(request: HttpRequest, run_id: UUID) -> HttpResponse:
    return _act(request, run_id, continuous.pause_continuous)


@require_role(Role.RESEARCHER)
@require_POST
def resume(request: HttpRequest, run_id: UUID) -> HttpResponse:
    return _act(request, run_id, continuous.resume_continuous)


def _say(request: HttpRequest, experiment: Experiment) -> None:
    state = read_continuous(experiment)
    if state is not None:
        say = messages.warning if state.run.state == ContinuousRun.State.STOPPED else messages.success
        say(request, f"Continuous mode: {state.next_words}")


def _back(experiment: Experiment) -> HttpResponse:
    return redirect(f"{reverse('overview')}?experiment={experiment.pk}")
