"""Reviewers: how far each can be relied on, how far they agree, and what each is given to judge."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from oversight.models import Experiment, Role
from oversight.permissions import require_role
from oversight.selectors import reviewers as selector
from oversight.selectors.categories import list_categories
from oversight.selectors.rounds import find_experiment
from oversight.services import reviewers
from oversight.views.rounds import actor


@require_role(Role.LEAD)
@require_safe
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    if experiment is None:
        return render(request, "oversight/reviewers.html", {"experiment": None})
    figures = selector.read_figures(experiment)
    context = {
        "experiment": experiment,
        "figures": figures,
        "state": "" if figures.fresh else reviewers.request_figures(experiment),
        "rows": selector.list_reviewers(figures),
    }
    if request.headers.get("HX-Target") == "reviewers-figures":
        return render(request, "oversight/reviewers_figures.html", context)
    context["experiments"] = Experiment.objects.order_by("name").only("id", "name")
    return render(request, "oversight/reviewers.html", context)


@require_role(Role.LEAD)
@require_http_methods(["GET", "HEAD", "POST"])
def detail_page(request: HttpRequest, username: str) -> HttpResponse:
    """One person; a POST assigns their categories."""
    experiment = find_experiment(request.GET.get("experiment", ""))
    if experiment is None:
        raise Http404("There is no experiment, so nobody has reviewed anything.")
    figures = selector.read_figures(experiment)
    row = selector.read_reviewer(figures, username)
    if row is None:
        raise Http404(f"There is no account {username!r}.")
    if request.method == "POST":
        try:
            reviewers.assign_categories(
                user_id=row.user.pk, categories=request.POST.getlist("category"), actor=actor(request)
            )
        except reviewers.UnknownCategory as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Saved. {username} is given these categories from the next sample on.")
        return redirect(f"{reverse('reviewer', args=[username])}?experiment={experiment.pk}")
    context = {
        "experiment": experiment,
        "figures": figures,
        "state": "" if figures.fresh else reviewers.request_figures(experiment),
        "row": row,
        "person": selector.with_prompts(row.figures) if row.figures else None,
    }
    if request.headers.get("HX-Target") == "reviewer-figures":
        return render(request, "oversight/reviewer_figures.html", context)
    context |= {
        "recent": selector.list_recent(experiment, row.user),
        "categories": list_categories(row.user),
        "experiments": Experiment.objects.order_by("name").only("id", "name"),
    }
    return render(request, "oversight/reviewer.html", context)
