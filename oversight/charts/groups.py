"""Charts of groups: the base model against the newest kept round, a line a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oversight.charts.chart import Chart
from oversight.charts.words import cells_of, note_of, value_of
from oversight.drawing import Theme, draw_groups
from oversight.selectors.metrics import Metrics, percent


def build_categories(metrics: Metrics) -> Chart:
    return _before_after(
        metrics,
        "attack_success",
        key="categories",
        title="Attack success by risk category",
        question="Where do attacks still work?",
        words=lambda group: group.replace("_", " "),
        x_title="attack success",
        by_value=True,
    )


def build_levels(metrics: Metrics) -> Chart:
    return _before_after(
        metrics,
        "competence",
        key="competence",
        title="Competence by level",
        question="Did the model lose or gain skill, from easy tasks (level 1) to hard ones (level 5)?",
        words=lambda group: f"level {group}",
        x_title="tasks solved",
    )


def _before_after(
    metrics: Metrics,
    name: str,
    *,
    key: str,
    title: str,
    question: str,
    words: Callable[[str], str],
    x_title: str,
    by_value: bool = False,
) -> Chart:
    """The base model against the newest kept round, a line a group, in the groups' order or the highest first."""
    table, values, last = [], [], 0
    for group in metrics.groups(name):
        points = metrics.series(name, group)
        kept = [point for point in points if point.kept and point.value is not None]
        for point in points:
            table.append([words(group), str(point.round), *cells_of(point, percent), note_of(point)])
        if not kept:
            continue
        last = max(last, kept[-1].round)
        pair = [("base model", kept[0]), ("now", kept[-1])] if len(kept) > 1 else [("now", kept[0])]
        for series, point in pair:
            values.append({"group": words(group), "series": series, "round": point.round, **value_of(point)})
    columns = ["group", "round", "value", "95% interval", "n", "note"]
    if not values:
        reason = metrics.missing(name) or f"no round has measured {name.replace('_', ' ')} by group yet"
        return Chart(key, title, question, columns, table, reason=reason)
    now = [row for row in values if row["series"] == "now"]
    most, least = max(now, key=lambda row: row["value"]), min(now, key=lambda row: row["value"])
    if by_value:
        height = {row["group"]: row["value"] for row in now}
        values.sort(key=lambda row: -height[row["group"]])
    summary = f"After round {last}: "
    if most["value"] == least["value"]:
        summary += f"{percent(most['value'])} in each."
    else:
        summary += f"highest for {most['group']} ({percent(most['value'])}), "
        summary += f"lowest for {least['group']} ({percent(least['value'])})."

    def make(chart: Chart, theme: Theme, width: int) -> Any:
        return draw_groups(chart.values, theme, width, x_title=x_title)

    return Chart(key, title, question, columns, table, summary, "", values, make)
