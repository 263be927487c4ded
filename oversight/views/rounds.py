"""Rounds: the list, one round, and what people may do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from oversight import charts
from oversight.forms import LaunchForm
from oversight.models import Experiment, Role, Round, User
from oversight.outlook import read_outlook
from oversight.permissions import has_role, require_role
from oversight.selectors.continuous import read_continuous
from oversight.selectors.outlook import read_forecasts
from oversight.selectors.progress import read_timeline
from oversight.selectors.round_critic import read_critic
from oversight.selectors.round_schedule import read_schedule
from oversight.selectors.rounds import (
    ProbeFilter,
    count_probe_answers,
    find_experiment,
    list_probe_answers,
    list_rounds,
    read_base,
    read_round_row,
)
from oversight.selectors.starts import read_next_beginning
from oversight.selectors.withdrawals import count_withdrawn
from oversight.services import launching, rounds
from oversight.services.launching import NextRound
from oversight.services.round_rows import RoundRefused
from oversight.views.archive import archive_context

LOG_LINES = 200
PROBES_A_PAGE = 20


@require_role(Role.REVIEWER)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    rows = list_rounds(experiment, limit=200) if experiment else []
    context = {
        "experiment": experiment,
        "rows": rows,
        "base": read_base(experiment) if experiment else {},
        "beginning": read_next_beginning(experiment) if experiment else None,
        "experiments": Experiment.objects.order_by("name"),
    }
    if request.headers.get("HX-Target") == "rounds-list":
        return render(request, "oversight/rounds_list.html", context)
    return render(request, "oversight/rounds.html", context)


@require_role(Role.REVIEWER)
def detail_page(request: HttpRequest, round_id: UUID) -> HttpResponse:
    round = get_object_or_404(Round.objects.select_related("experiment", "launched_by"), pk=round_id)
    target = request.headers.get("HX-Target")
    if target == "round-probes":
        context = probes_context(request, round)
        if not context["probe_counts"]["total"]:  # not measured yet: htmx leaves the page as it is
            return HttpResponse(status=204)
        return render(request, "oversight/round_probes.html", context)
    if target == "round-archive":
        context = archive_context(request, round, actor(request))
        if not context["archive"].total.attacks and not context["archive"].level:
            return HttpResponse(status=204)
        return render(request, "oversight/round_archive.html", context)
    if target == "round-critic":
        context = critic_context(round)
        if not context["critic"].measured:
            return HttpResponse(status=204)
        return render(request, "oversight/round_critic.html", context)
    if target == "round-schedule":
        return render(request, "oversight/round_schedule.html", {"round": round, "schedule": read_schedule(round)})
    context = live_context(round) | {
        "may": {"close": has_role(request.user, Role.LEAD), "launch": has_role(request.user, Role.RESEARCHER)}
    }
    if target == "round-live":
        return render(request, "oversight/round_live.html", context)
    context |= probes_context(request, round) | critic_context(round)
    context |= {"config": sorted(round.config.items()), "schedule": read_schedule(round)}
    context |= archive_context(request, round, actor(request))
    return render(request, "oversight/round.html", context)


def live_context(round: Round) -> dict[str, Any]:
    log = list(round.log.order_by("-id")[:LOG_LINES])[::-1]
    row = read_round_row(round)
    later = Round.objects.filter(experiment=round.experiment_id, number__gt=round.number).exists()
    return {
        "round": round,
        "row": row,
        "outlook": read_outlook(round, labels=row.labels),
        "timeline": read_timeline(round),
        "log": log,
        "open": round.status in Round.OPEN,
        "latest": not later,
        "continuous": None if later else read_continuous(round.experiment),
        "beginning": None if later else read_next_beginning(round.experiment),
        "withdrawn": count_withdrawn(round),
        "retryable": round.status in (Round.Status.FAILED, Round.Status.CANCELLED) and not later,
    }


def critic_context(round: Round) -> dict[str, Any]:
    return {
        "round": round,
        "experiment": round.experiment,
        "critic": read_critic(round),
        "charts": charts.build_round_charts(round.experiment, round.number),
    }


def probes_context(request: HttpRequest, round: Round) -> dict[str, Any]:
    kind = request.GET.get("kind", "")
    wanted = ProbeFilter(
        kind=kind if kind in ("unsafe", "harmless", "competence") else "", changed=request.GET.get("all") != "1"
    )
    pages = Paginator(list_probe_answers(round, wanted), PROBES_A_PAGE)
    return {
        "round": round,
        "wanted": wanted,
        "kinds": ("unsafe", "harmless", "competence"),
        "probes": pages.get_page(request.GET.get("page")),
        "probe_counts": count_probe_answers(round),
    }


def launch_context(experiment: Experiment, form: LaunchForm, coming: NextRound) -> dict[str, Any]:
    """The launch form with what it will cost and what stands in the way."""
    context: dict[str, Any] = {"experiment": experiment, "form": form, "problems": launching.preflight(experiment)}
    context |= {"plan": coming.plan, "estimate": None}
    try:
        context["estimate"] = launching.estimate(experiment, form.overrides(), coming=coming)
    except ValueError as error:
        context["problems"] = [*context["problems"], str(error)]
    context["forecasts"] = read_forecasts(experiment.pk)
    context["next_number"] = coming.round.number
    return context


@require_role(Role.RESEARCHER)
@require_http_methods(["GET", "POST"])
def launch(request: HttpRequest) -> HttpResponse:
    """GET shows the form (to htmx only its cost, for the values typed so far); POST launches."""
    data = request.POST if request.method == "POST" else request.GET
    experiment = find_experiment(data.get("experiment", ""))
    if experiment is None:
        return redirect("overview")
    bound = request.method == "POST" or request.headers.get("HX-Target") == "round-cost"
    coming = launching.prepare_round(experiment)
    form = LaunchForm(data if bound else None, defaults=coming.config, reasons=coming.reasons)
    if request.method == "POST" and form.is_valid():
        try:
            launched = launching.launch_round(experiment=experiment, user=actor(request), overrides=form.overrides())
        except RoundRefused as refusal:
            form.add_error(None, "Not launched.")
            return render(
                request,
                "oversight/round_launch.html",
                {**launch_context(experiment, form, coming), "problems": refusal.problems},
                status=409,
            )
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"Round {launched.number} is launched.")
            return redirect("round", round_id=launched.pk)
    context = launch_context(experiment, form, coming)
    if request.headers.get("HX-Target") == "round-cost":
        return render(request, "oversight/round_cost.html", context)
    return render(request, "oversight/round_launch.html", context, status=422 if form.errors else 200)


def actor(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # require_role let nobody else in
    return request.user


def _act(request: HttpRequest, round_id: UUID, act: Callable[..., Round], words: str) -> HttpResponse:
    """One button of a round: does it, says what came of it, and shows the round."""
    round = get_object_or_404(Round, pk=round_id)
    try:
        round = act(round=round, user=actor(request))
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, words.format(number=round.number))
    return redirect("round", round_id=round_id)


@require_role(Role.RESEARCHER)
@require_POST
def cancel(request: HttpRequest, round_id: UUID) -> HttpResponse:
    return _act(request, round_id, rounds.cancel_round, "Round {number} is being cancelled.")


@require_role(Role.RESEARCHER)
@require_POST
def retry(request: HttpRequest, round_id: UUID) -> HttpResponse:
    return _act(request, round_id, rounds.retry_round, "Round {number} goes on where it stopped.")


@require_role(Role.LEAD)
@require_POST
def close(request: HttpRequest, round_id: UUID) -> HttpResponse:
    return _act(request, round_id, rounds.close_review, "The review of round {number} is closed; it learns next.")
