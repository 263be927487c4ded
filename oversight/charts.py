"""The gap charts: Altair specs made from metric points, drawn as SVG on the server.

A chart knows its data, its table, the sentence that says what it shows, and why it can't be drawn where
it can't. `spec` makes the Vega-Lite spec for a theme and a width; `draw` turns a spec into SVG. Altair
and vl-convert are imported when a chart is drawn, not when the web process starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from oversight.drawing import (
    NARROW,
    NUMBER_AXIS,
    SHARE_AXIS,
    WIDE,
    Rows,
    Theme,
    draw_calibration,
    draw_groups,
    draw_path,
    draw_rounds,
    theme_config,
)
from oversight.models import Experiment
from oversight.selectors.metrics import Metrics, Point, percent

DESIGN = "2"  # raise it when the drawing changes: cached pictures are then asked for anew
METRICS = (
    "attack_success", "attack_success_rule", "over_refusal", "separation", "competence", "hypervolume",
    "critic_human_alpha", "human_alpha", "critic_agreement_audit", "critic_precision", "critic_recall",
    "violation_rate_audit", "violation_rate_weighted", "violation_rate_all",
    "calibration", "calibration_predicted", "critic_ece", "critic_brier", "critic_auroc",
    "review_yield", "reviews", "elicitation_gap",
)  # fmt: skip
CALIBRATION_METRICS = ("calibration", "calibration_predicted", "critic_ece")


@dataclass(frozen=True)
class Chart:
    key: str
    title: str
    question: str  # what it answers, in one sentence
    columns: list[str] = field(default_factory=list)
    table: list[list[str]] = field(default_factory=list)
    summary: str = ""  # what it shows, for people who can't see it
    reason: str = ""  # why it can't be computed; "" where it can
    values: Rows = field(default_factory=list)
    make: Callable[[Chart, Theme, int], Any] | None = None
    round: int = 0  # the round that the chart is of alone, 0 for one of the whole experiment

    @property
    def token(self) -> str:
        """Changes with the data and the design, so that a picture may be cached for ever under it."""
        content = json.dumps([DESIGN, self.key, self.values, self.summary], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def spec(self, theme: Theme, *, narrow: bool = False) -> dict[str, Any]:
        assert self.make is not None, f"chart {self.key} can't be drawn: {self.reason}"
        chart = self.make(self, theme, NARROW if narrow else WIDE)
        drawn: dict[str, Any] = chart.properties(description=self.summary).configure(**theme_config(theme)).to_dict()
        return drawn


def draw(spec: dict[str, Any]) -> str:
    return _draw(json.dumps(spec, sort_keys=True))


@lru_cache(maxsize=128)
def _draw(spec: str) -> str:
    import vl_convert

    # No URL may be loaded: the data travels in the spec.
    return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


@lru_cache(maxsize=1)
def vega_bundle() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script, for charts that answer to the pointer. Takes a second, once."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).encode()


def build_charts(metrics: Metrics) -> list[Chart]:
    return [
        _attack(metrics),
        _categories(metrics),
        _levels(metrics),
        _path(metrics),
        _agreement(metrics),
        _audit(metrics),
        _estimates(metrics),
        _calibration(metrics),
        _effort(metrics),
    ]


def build_round_charts(experiment: Experiment, number: int) -> list[Chart]:
    """The charts of one round's page. One query."""
    chart = _calibration(Metrics(experiment, CALIBRATION_METRICS, number=number))
    return [replace(chart, round=number)]


# --- What is shown ----------------------------------------------------------------------------------

ATTACK_SERIES = {
    "attack_success": "attack success, judge",
    "attack_success_rule": "attack success, refusal rule",
    "over_refusal": "harmless refused",
}


def _attack(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "attack-success",
        "Attack success and over-refusal",
        "How often do held-out attacks still work, and what did that cost on harmless look-alikes?",
        ATTACK_SERIES,
        lead="attack_success",
    )


def _agreement(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "agreement",
        "Critic and people",
        "Does the critic agree with people as well as people agree among themselves (Krippendorff's α)?",
        {"critic_human_alpha": "critic and people", "human_alpha": "people among themselves"},
        lead="critic_human_alpha",
        axis=NUMBER_AXIS,
        y_title="Krippendorff's α",
    )


def _audit(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "audit",
        "What the random audit slice says",
        "Flagged samples are no fair sample; the audit slice is. How often does the critic agree with people there?",
        {
            "critic_agreement_audit": "critic agrees, audit slice",
            "violation_rate_audit": "violations, audit slice",
            "violation_rate_weighted": "violations, all reviews weighted",
        },
        lead="critic_agreement_audit",
    )


def _estimates(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "estimates",
        "What holds for all answers",
        "Of all answers of a round, reviewed or not: how many violate, and how far can the critic's calls be trusted?",
        {
            "violation_rate_all": "violations",
            "critic_precision": "critic precision",
            "critic_recall": "critic recall",
        },
        lead="critic_recall",
    )


def _effort(metrics: Metrics) -> Chart:
    chart = _over_rounds(
        metrics,
        "effort",
        "What a review buys",
        "How many violations does a review find, against a review of a random sample (1)?",
        {"review_yield": "violations a review, against random"},
        lead="review_yield",
        axis=NUMBER_AXIS,
        y_title="times random",
        rule=1.0,
    )
    reviews = {point.round: point for point in metrics.series("reviews")}
    for row in chart.table:
        found = reviews.get(int(row[1]))
        row.append(f"{found.value:.0f}" if found is not None and found.value is not None else "–")
    chart.columns.append("reviews")
    return chart


def _over_rounds(
    metrics: Metrics,
    key: str,
    title: str,
    question: str,
    names: dict[str, str],
    *,
    lead: str,
    axis: str = SHARE_AXIS,
    y_title: str = "",
    rule: float | None = None,
) -> Chart:
    """Lines over rounds, one a metric. Not computable where `lead`, the metric it is about, has no value."""
    show = percent if axis == SHARE_AXIS else _two_places
    table, values = [], []
    for index, (name, words) in enumerate(names.items()):
        for point in metrics.series(name):
            table.append([words, str(point.round), *_cells(point, show), _note(point)])
            if point.value is not None:
                # Side by side, so that intervals of the same round don't hide each other.
                x = point.round + (index - (len(names) - 1) / 2) * 0.07
                values.append({"x": x, "round": point.round, "series": words, "order": index, **_value(point)})
    reason = metrics.missing(lead)
    columns = ["series", "round", "value", "95% interval", "n", "note"]
    if reason:
        return Chart(key, title, question, columns, table, reason=reason)
    series = [point for point in metrics.series(lead) if point.value is not None]
    summary = _moved(names[lead], series, show)

    def make(chart: Chart, theme: Theme, width: int) -> Any:
        return draw_rounds(chart.values, list(names.values()), theme, width, axis=axis, y_title=y_title, rule=rule)

    return Chart(key, title, question, columns, table, summary, "", values, make)


def _categories(metrics: Metrics) -> Chart:
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


def _levels(metrics: Metrics) -> Chart:
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
            table.append([words(group), str(point.round), *_cells(point, percent), _note(point)])
        if not kept:
            continue
        last = max(last, kept[-1].round)
        pair = [("base model", kept[0]), ("now", kept[-1])] if len(kept) > 1 else [("now", kept[0])]
        for series, point in pair:
            values.append({"group": words(group), "series": series, "round": point.round, **_value(point)})
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


def _path(metrics: Metrics) -> Chart:
    """Competence against conformity (1 - attack success): the alternation as a path."""
    key, title = "path", "Competence against conformity"
    question = "Does each round gain on one side without losing the other? Up and to the right is better."
    attacks = {point.round: point for point in metrics.series("attack_success")}
    solved = {point.round: point for point in metrics.series("competence")}
    volume = {point.round: point for point in metrics.series("hypervolume")}
    table: list[list[str]] = []
    values: Rows = []
    for number in sorted(set(attacks) & set(solved)):
        attack, skill = attacks[number], solved[number]
        if attack.value is None or skill.value is None:
            continue
        front = volume.get(number)
        table.append(
            [
                str(number), percent(1 - attack.value), _range(_flip(attack), percent), percent(skill.value),
                _range(skill, percent), _two_places(front.value) if front else "–", f"{attack.n} and {skill.n}",
                _note(attack),
            ]
        )  # fmt: skip
        flipped = _flip(attack)
        values.append(
            {
                "round": number, "label": "base" if number == 0 else str(number), "kept": attack.kept,
                "x": flipped.value, "x_low": flipped.low, "x_high": flipped.high,
                "y": skill.value, "y_low": skill.low, "y_high": skill.high, "n": attack.n,
            }
        )  # fmt: skip
    columns = ["round", "conformity", "95% interval", "competence", "95% interval", "hypervolume", "n", "note"]
    if not values:
        reason = metrics.missing("attack_success") or metrics.missing("competence") or "no round measured both"
        return Chart(key, title, question, columns, table, reason=reason)
    first, now = values[0], ([row for row in values if row["kept"]] or values)[-1]
    summary = (
        f"Conformity went from {percent(first['x'])} to {percent(now['x'])}, "
        f"competence from {percent(first['y'])} to {percent(now['y'])}, by round {now['round']}."
    )
    return Chart(key, title, question, columns, table, summary, "", values, lambda c, t, w: draw_path(c.values, t, w))


def _calibration(metrics: Metrics) -> Chart:
    key, title = "calibration", "Calibration of the critic"
    question = "When the critic says 70%, is it a violation seven times in ten? On the diagonal it is."
    rounds = metrics.rounds("calibration")
    columns = ["round", "bin", "critic says", "people say", "95% interval", "n", "note"]
    if not rounds:
        return Chart(key, title, question, columns, reason=metrics.missing("calibration"))
    number = rounds[-1]
    table, values, reasons = [], [], []
    for group in metrics.groups("calibration"):
        observed = metrics.get("calibration", number, group)
        predicted = metrics.get("calibration_predicted", number, group)
        if observed is None:
            continue
        reasons.append(observed.reason)
        said = predicted.value if predicted else None
        low = int(group) / 10 if group.isdigit() else 0.0
        table.append([str(number), f"{low:.1f} to {low + 0.1:.1f}", percent(said) or "–", *_cells(observed, percent),
                      _note(observed)])  # fmt: skip
        if observed.value is not None and said is not None:
            values.append({"said": said, "round": number, **_value(observed)})
    if not values:
        reason = next((why for why in reasons if why), "no judged answer had a critic's score")
        return Chart(key, title, question, columns, table, reason=reason)
    error = metrics.get("critic_ece", number)
    ece = f" Expected calibration error {error.value:.2f}." if error and error.value is not None else ""
    summary = f"Round {number}, {len(values)} bins.{ece}"
    return Chart(
        key, title, question, columns, table, summary, "", values, lambda c, t, w: draw_calibration(c.values, t, w)
    )


# --- Words and numbers ------------------------------------------------------------------------------


def _value(point: Point) -> dict[str, Any]:
    low = point.value if point.low is None else point.low
    high = point.value if point.high is None else point.high
    return {"value": point.value, "low": low, "high": high, "n": point.n, "kept": point.kept}


def _cells(point: Point, show: Callable[[float | None], str]) -> list[str]:
    if point.value is None:
        return ["–", "–", str(point.n)]
    return [show(point.value), _range(point, show), str(point.n)]


def _range(point: Point, show: Callable[[float | None], str]) -> str:
    return "–" if point.low is None or point.high is None else f"{show(point.low)} to {show(point.high)}"


def _note(point: Point) -> str:
    if point.value is None:
        return f"not computable: {point.reason}" if point.reason else "not computable"
    return " · ".join(part for part in (point.reason, "" if point.kept else "rolled back") if part)


def _flip(point: Point) -> Point:
    """1 - value, with the interval turned round."""

    def one_minus(value: float | None) -> float | None:
        return None if value is None else 1 - value

    changes = {"value": one_minus(point.value), "low": one_minus(point.high), "high": one_minus(point.low)}
    return Point(**{**vars(point), **changes})


def _two_places(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _moved(words: str, points: list[Point], show: Callable[[float | None], str]) -> str:
    kept = [point for point in points if point.kept] or points
    first, last = points[0], kept[-1]
    name = words[0].upper() + words[1:]
    if first.round == last.round:
        return f"{name}: {show(last.value)} in round {last.round}."
    start = "the base model" if first.round == 0 else f"round {first.round}"
    return f"{name}: from {show(first.value)} ({start}) to {show(last.value)} after round {last.round}."
