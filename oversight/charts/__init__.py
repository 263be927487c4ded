"""The gap charts: Altair specs made from metric points, drawn as SVG on the server. A module a kind of chart."""

from __future__ import annotations

from dataclasses import replace

from oversight.charts.calibration import CALIBRATION_METRICS, build_calibration
from oversight.charts.chart import Chart, draw, vega_bundle
from oversight.charts.groups import build_categories, build_levels
from oversight.charts.over_rounds import (
    build_agreement,
    build_attack,
    build_audit,
    build_distance,
    build_effort,
    build_estimates,
)
from oversight.charts.path import build_path
from oversight.models import Experiment
from oversight.selectors.metrics import Metrics

__all__ = ["METRICS", "Chart", "build_charts", "build_round_charts", "draw", "vega_bundle"]

METRICS = (
    "attack_success", "attack_success_rule", "over_refusal", "separation", "competence", "hypervolume", "kl_to_base",
    "critic_human_alpha", "human_alpha", "critic_agreement_audit", "critic_precision", "critic_recall",
    "violation_rate_audit", "violation_rate_weighted", "violation_rate_all",
    "calibration", "calibration_predicted", "critic_ece", "critic_brier", "critic_auroc",
    "review_yield", "reviews", "elicitation_gap",
)  # fmt: skip


def build_charts(metrics: Metrics) -> list[Chart]:
    return [
        build_attack(metrics),
        build_categories(metrics),
        build_levels(metrics),
        build_path(metrics),
        build_distance(metrics),
        build_agreement(metrics),
        build_audit(metrics),
        build_estimates(metrics),
        build_calibration(metrics),
        build_effort(metrics),
    ]


def build_round_charts(experiment: Experiment, number: int) -> list[Chart]:
    """The charts of one round's page. One query."""
    chart = build_calibration(Metrics(experiment, CALIBRATION_METRICS, number=number))
    return [replace(chart, round=number)]
