"""The overview: how far the experiment is, in numbers, and what comes next."""

from __future__ import annotations

import logging
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from redis.exceptions import RedisError

from oversight import workers
from oversight.forms import LaunchForm
from oversight.models import Experiment, Role, Round
from oversight.permissions import has_role, require_role
from oversight.selectors.continuous import read_continuous
from oversight.selectors.metrics import read_cards
from oversight.selectors.rounds import find_experiment, list_rounds, read_base
from oversight.selectors.starts import read_next_beginning
from oversight.services import launching
from oversight.views.continuous import offer_form
from oversight.views.rounds import launch_context

log = logging.getLogger(__name__)


@require_role(Role.REVIEWER)
def overview(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    if experiment is None:
        return render(request, "oversight/overview_empty.html")
    context = {"experiment": experiment, "learner_name": Path(experiment.learner).name, **live_context(experiment)}
    context["may"] = {"close": has_role(request.user, Role.LEAD), "launch": has_role(request.user, Role.RESEARCHER)}
    if request.headers.get("HX-Target") == "overview-live":
        return render(request, "oversight/overview_live.html", context)
    context["experiments"] = Experiment.objects.order_by("name").only("id", "name")
    if has_role(request.user, Role.RESEARCHER):
        coming = launching.prepare_round(experiment)
        form = LaunchForm(defaults=coming.config, reasons=coming.reasons)
        launch = launch_context(experiment, form, coming)
        context |= launch | {"continuous_form": offer_form(experiment, coming, launch["estimate"])}
    return render(request, "oversight/overview.html", context)


def live_context(experiment: Experiment) -> dict[str, object]:
    rows = list_rounds(experiment)
    current = next((row for row in rows if row.round.status in Round.OPEN), None)
    return {
        "cards": read_cards(experiment),
        "rows": rows,
        "base": read_base(experiment) if len(rows) < 8 else {},
        "current": current,
        "beginning": read_next_beginning(experiment),
        "next_number": rows[0].round.number + 1 if rows else 1,
        "machines": read_machines(),
        "continuous": read_continuous(experiment),
    }


def read_machines() -> dict[str, object]:
    """Workers by queue, or why nothing is known of them."""
    try:
        return {
            "queues": [
                {"name": name, "workers": workers.listening(name), "waiting": workers.waiting(name), "words": words}
                for name, words in (("gpu", "runs the phases of rounds"), ("default", "watches over rounds"))
            ]
        }
    except RedisError as error:
        log.warning("workers unknown: %s", error)
        return {"broken": "The broker does not answer, so nothing is known of the workers."}
