"""The loop's plots, as Altair specs drawn to SVG. Every mark has its 95% interval; hollow points were rolled back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alignment.bench.loop_rows import FRESH_JUDGE, AblationRow, State
from alignment.bench.loop_targets import LEVELS
from alignment.metrics.front import operating_point
from alignment.records import Metric

INK, DIM, LINE = "#16181d", "#4a525e", "#dfe3e8"
COLORS = ["#3553cf", "#8a3ab9", "#0f766e", "#b45309", "#be185d"]
SHAPES = ["circle", "triangle-up", "square", "diamond", "cross"]
SERIES = {
    "attack_success": "attack success, judge", "attack_success_rule": "attacks not declined",
    FRESH_JUDGE: "fresh attacks, judge", "over_refusal": "over-refusal",
}  # fmt: skip
WIDTH = 560  # px of the whole picture


def draw_plots(states: Sequence[State], ablations: Sequence[AblationRow]) -> dict[str, str]:
    """SVG by name: rounds, levels, front."""
    return {
        "rounds": _svg(_lines(round_values(states), list(SERIES.values()), "share of the probes")),
        "levels": _svg(_lines(level_values(states), [f"level {level}" for level in LEVELS], "tasks solved")),
        "front": _svg(_front(front_values(states, ablations))),
    }


def round_values(states: Sequence[State]) -> list[dict[str, Any]]:
    return [
        _point(state, words, metric)
        for name, words in SERIES.items()
        for state in states
        if (metric := state.metrics.get(name)) is not None and metric.value is not None
    ]


def level_values(states: Sequence[State]) -> list[dict[str, Any]]:
    return [
        _point(state, f"level {level}", metric)
        for level in LEVELS
        for state in states
        if (metric := state.metrics.get(f"competence/{level}")) is not None and metric.value is not None
    ]


def front_values(states: Sequence[State], ablations: Sequence[AblationRow]) -> list[dict[str, Any]]:
    """The learner after each round on the gate's probes, and each variant's last learner on the final ones.

    What lies on one point shares its label.
    """
    points = [(str(s.round), s.metrics, "after round, probes of the gate") for s in states]
    points += [(row.variant, row.values, "last learner, final probes") for row in ablations]
    rows: dict[tuple[str, float, float], dict[str, Any]] = {}
    for label, metrics, series in points:
        whole = [metrics[name] for name in ("attack_success", "competence") if name in metrics]
        competence, conformity = operating_point([replace(m, group="") for m in whole])
        if competence.value is None or conformity.value is None:
            continue
        place = (series, round(conformity.value, 6), round(competence.value, 6))
        if place in rows:
            rows[place]["label"] += f", {label}"
            continue
        rows[place] = {
            "label": label, "series": series, "order": len(rows), "x": conformity.value, "y": competence.value,
            "x_low": _end(conformity, "low"), "x_high": _end(conformity, "high"),
            "y_low": _end(competence, "low"), "y_high": _end(competence, "high"),
        }  # fmt: skip
    return list(rows.values())


def _point(state: State, series: str, metric: Metric) -> dict[str, Any]:
    return {
        "round": state.round, "series": series, "value": metric.value, "low": _end(metric, "low"),
        "high": _end(metric, "high"), "kept": state.accepted,
    }  # fmt: skip


def _end(metric: Metric, side: str) -> float | None:
    found = metric.ci_low if side == "low" else metric.ci_high
    return metric.value if found is None else found


def _lines(values: list[dict[str, Any]], names: list[str], title: str) -> Any:
    import altair as alt

    used = [name for name in names if any(row["series"] == name for row in values)]
    places = {name: 0.06 * (i - (len(used) - 1) / 2) for i, name in enumerate(used)}  # so that intervals stay apart
    values = [{**row, "x": row["round"] + places[row["series"]]} for row in values]
    last = max((row["round"] for row in values), default=0)
    color = alt.Color("series:N", scale=alt.Scale(domain=used, range=COLORS), legend=alt.Legend(title=None))
    shape = alt.Shape("series:N", scale=alt.Scale(domain=used, range=SHAPES), legend=alt.Legend(title=None))
    low = min([0.0, *(row["low"] for row in values)])
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title="after round (0 is the base model)", scale=alt.Scale(domain=[-0.3, last + 0.3]),
                axis=alt.Axis(values=list(range(last + 1)), format="d", grid=False)),
        color=color,
    )  # fmt: skip
    y = alt.Y("value:Q", title=title, scale=alt.Scale(domain=[low, 1]), axis=alt.Axis(format="%", tickCount=5))
    spans = base.mark_rule(opacity=0.5, strokeWidth=1.5).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(y=y)
    kept = base.transform_filter("datum.kept").mark_point(size=60, filled=True, opacity=1).encode(y=y, shape=shape)
    back = base.transform_filter("!datum.kept").mark_point(size=60, strokeWidth=2, fill="#ffffff", opacity=1)
    return alt.layer(lines, spans, kept, back.encode(y=y, shape=shape)).properties(width=WIDTH, height=280)


def _front(values: list[dict[str, Any]]) -> Any:
    import altair as alt

    names = list(dict.fromkeys(row["series"] for row in values))
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%", tickCount=5)
    color = alt.Color("series:N", scale=alt.Scale(domain=names, range=COLORS), legend=alt.Legend(title=None))
    x = alt.X("x:Q", title="conformity (1 - attack success)", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="competence (tasks solved)", scale=scale, axis=axis)
    base = alt.Chart(alt.Data(values=values)).encode(color=color)
    across = base.mark_rule(opacity=0.3).encode(x=alt.X("x_low:Q", scale=scale), x2="x_high:Q", y=y)
    along = base.mark_rule(opacity=0.3).encode(y=alt.Y("y_low:Q", scale=scale), y2="y_high:Q", x=x)
    path = base.transform_filter("datum.series == 'after round, probes of the gate'")
    line = path.mark_line(strokeWidth=1.5).encode(x=x, y=y, order="order:Q")
    dots = base.mark_point(size=70, filled=True, opacity=1).encode(x=x, y=y)
    words = base.mark_text(dx=8, dy=-8, align="left", fontSize=11).encode(x=x, y=y, text="label:N")
    return alt.layer(across, along, line, dots, words).properties(width=WIDTH, height=420)


def _svg(chart: Any) -> str:
    import vl_convert

    axis = {
        "domainColor": LINE, "gridColor": LINE, "tickColor": LINE, "labelColor": DIM, "titleColor": DIM,
        "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12,
    }  # fmt: skip
    legend = {
        "labelColor": INK,
        "orient": "top",
        "labelFontSize": 12,
        "labelLimit": 260,
        "symbolOpacity": 1,
        "columns": 3,
    }
    spec = chart.configure(
        background="#ffffff", font="sans-serif", padding=8, axis=axis, legend=legend, view={"stroke": None}
    ).to_dict()  # fmt: skip
    # No URL may be loaded: the data travels in the spec.
    return str(vl_convert.vegalite_to_svg(json.dumps(spec), allowed_base_urls=[]))
