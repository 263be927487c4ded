"""Charts of lines over rounds, one line a metric."""

from __future__ import annotations

from typing import Any

from oversight.charts.chart import Chart
from oversight.charts.words import cells_of, describe_move, note_of, two_places, value_of
from oversight.drawing import NUMBER_AXIS, SHARE_AXIS, Theme, draw_rounds
from oversight.selectors.metrics import Metrics, percent

ATTACK_SERIES = {
    "attack_success": "attack success, judge",
    "attack_success_rule": "attack success, refusal rule",
    "over_refusal": "harmless refused",
}


def build_attack(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "attack-success",
        "Attack success and over-refusal",
        "How often do held-out attacks still work, and what did that cost on harmless look-alikes?",
        ATTACK_SERIES,
        lead="attack_success",
    )


def build_agreement(metrics: Metrics) -> Chart:
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


def build_audit(metrics: Metrics) -> Chart:
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


def build_estimates(metrics: Metrics) -> Chart:
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


def build_distance(metrics: Metrics) -> Chart:
    return _over_rounds(
        metrics,
        "distance",
        "Distance from the base model",
        "How far has training moved the learner's answers (KL divergence to the base model)?",
        {"kl_to_base": "KL to the base model"},
        lead="kl_to_base",
        axis=NUMBER_AXIS,
        y_title="nats an answer",
    )


def build_effort(metrics: Metrics) -> Chart:
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
    show = percent if axis == SHARE_AXIS else two_places
    table, values = [], []
    for index, (name, words) in enumerate(names.items()):
        for point in metrics.series(name):
            table.append([words, str(point.round), *cells_of(point, show), note_of(point)])
            if point.value is not None:
                # Side by side, so that intervals of the same round don't hide each other.
                x = point.round + (index - (len(names) - 1) / 2) * 0.07
                values.append({"x": x, "round": point.round, "series": words, "order": index, **value_of(point)})
    reason = metrics.missing(lead)
    columns = ["series", "round", "value", "95% interval", "n", "note"]
    if reason:
        return Chart(key, title, question, columns, table, reason=reason)
    series = [point for point in metrics.series(lead) if point.value is not None]
    summary = describe_move(names[lead], series, show)

    def make(chart: Chart, theme: Theme, width: int) -> Any:
        return draw_rounds(chart.values, list(names.values()), theme, width, axis=axis, y_title=y_title, rule=rule)

    return Chart(key, title, question, columns, table, summary, "", values, make)
