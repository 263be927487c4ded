"""The gap charts: the page, its pictures, and the script that makes them answer to the pointer."""

from __future__ import annotations

from typing import get_args

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from oversight import charts
from oversight.charts import Chart
from oversight.drawing import Theme
from oversight.models import Experiment, Role
from oversight.permissions import require_role
from oversight.selectors.metrics import Metrics
from oversight.selectors.rounds import find_experiment

FOR_EVER = "private, max-age=31536000, immutable"


@require_role(Role.REVIEWER)
def gaps(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    context = {
        "experiment": experiment,
        "experiments": Experiment.objects.order_by("name"),
        "charts": charts.build_charts(Metrics(experiment, charts.METRICS)) if experiment else [],
    }
    return render(request, "oversight/gaps.html", context)


@require_role(Role.REVIEWER)
def chart_svg(request: HttpRequest, key: str) -> HttpResponse:
    """One picture, of the experiment or of its `round`. Its address carries the data's token, so that a browser asks
    for it once."""
    chart = _find_chart(request, key)
    svg = charts.draw(chart.spec(_theme(request), narrow=request.GET.get("narrow") == "1"))
    return _cached(request, chart, HttpResponse(svg, content_type="image/svg+xml"))


@require_role(Role.REVIEWER)
def chart_spec(request: HttpRequest, key: str) -> HttpResponse:
    """The Vega-Lite spec of a chart, for the interactive drawing and for anybody's own."""
    chart = _find_chart(request, key)
    return _cached(request, chart, JsonResponse(chart.spec(_theme(request), narrow=request.GET.get("narrow") == "1")))


@require_role(Role.REVIEWER)
def vega_script(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(charts.vega_bundle(), content_type="text/javascript")
    response["Cache-Control"] = FOR_EVER
    return response


def _find_chart(request: HttpRequest, key: str) -> Chart:
    experiment = find_experiment(request.GET.get("experiment", ""))
    if experiment is None:
        raise Http404("There is no experiment.")
    number = request.GET.get("round", "")
    if number.isdecimal():
        built = charts.build_round_charts(experiment, min(int(number[:9]), 2**31 - 1))
    else:
        built = charts.build_charts(Metrics(experiment, charts.METRICS))
    for chart in built:
        if chart.key == key and chart.make is not None:
            return chart
    raise Http404(f"There is no chart {key}, or it can't be computed yet.")


def _theme(request: HttpRequest) -> Theme:
    theme = request.GET.get("theme", "light")
    return "dark" if theme == get_args(Theme)[1] else "light"


def _cached(request: HttpRequest, chart: Chart, response: HttpResponse) -> HttpResponse:
    """For ever under the token of what it shows; not at all under an older one."""
    response["Cache-Control"] = FOR_EVER if request.GET.get("v") == chart.token else "no-store"
    return response
