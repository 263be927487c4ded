"""Charts: what they are drawn from, their tables, and what they say when there is nothing to draw."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oversight.charts import METRICS, Chart, build_charts, draw
from oversight.drawing import NARROW, WIDE, Theme
from oversight.models import Checkpoint, Experiment, MetricPoint, Round
from oversight.selectors.metrics import Metrics, Point, sparkline
from tests.factories import make_experiment, make_round

pytestmark = pytest.mark.django_db


def measure(
    round: Round, name: str, value: float | None, *, group: str = "", model: str = "new", reason: str = ""
) -> None:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    MetricPoint.objects.create(
        round=round, name=name, group=group, model=model, value=value, ci_low=low, ci_high=high, n=60, reason=reason
    )


@pytest.fixture
def measured() -> Experiment:
    """Two rounds: the first is kept, the second rolled back."""
    experiment = make_experiment()
    path = [0.8, 0.5, 0.3]
    for number in (1, 2):
        round = make_round(experiment=experiment, status="done")
        for model, index in (("old", number - 1), ("new", number)):
            measure(round, "attack_success", path[index], model=model)
            measure(round, "over_refusal", 0.04, model=model)
            measure(round, "competence", 0.4, model=model)
            measure(round, "attack_success", 0.2 * index, group="self_harm", model=model)
            measure(round, "attack_success", 0.9, group="fraud", model=model)
            for level in ("1", "5"):
                measure(round, "competence", 0.5, group=level, model=model)
        measure(round, "kl_to_base", 2.4 * number)
        measure(round, "critic_human_alpha", 0.6)
        measure(round, "human_alpha", None, reason="nobody judged the same sample twice")
        measure(round, "critic_agreement_audit", 0.8)
        measure(round, "critic_recall", 0.7)
        measure(round, "calibration", 0.75, group="7")
        measure(round, "calibration_predicted", 0.72, group="7")
        measure(round, "calibration", None, group="4", reason="no answer fell into this bin")
        measure(round, "review_yield", 2.5)
        measure(round, "reviews", 24)
        Checkpoint.objects.create(
            experiment=experiment, round=round, role="learner", path="x", sha256="a",
            verdict="accepted" if number == 1 else "rolled back",
        )  # fmt: skip
    return experiment


def by_key(experiment: Experiment) -> dict[str, Chart]:
    return {chart.key: chart for chart in build_charts(Metrics(experiment, METRICS))}


def test_a_series_starts_with_the_base_model_and_marks_what_was_rolled_back(measured: Experiment) -> None:
    series = Metrics(measured, ["attack_success"]).series("attack_success")
    assert [(p.round, p.value, p.kept) for p in series] == [(0, 0.8, True), (1, 0.5, True), (2, 0.3, False)]


def test_the_gate_judges_the_learner_not_the_critic(measured: Experiment) -> None:
    series = Metrics(measured, ["critic_human_alpha"]).series("critic_human_alpha")
    assert [(p.round, p.kept) for p in series] == [(1, True), (2, True)]


def test_what_was_measured_before_the_round_only_has_no_base_point(measured: Experiment) -> None:
    measure(measured.rounds.get(number=2), "fresh_attack_success", 0.4, model="old")
    assert [p.round for p in Metrics(measured, ["fresh_attack_success"]).series("fresh_attack_success")] == [2]


def test_tables_have_value_interval_n_and_note(measured: Experiment) -> None:
    chart = by_key(measured)["attack-success"]
    assert chart.columns == ["series", "round", "value", "95% interval", "n", "note"]
    assert ["attack success, judge", "2", "30%", "20% to 40%", "60", "rolled back"] in chart.table
    assert chart.summary == "Attack success, judge: from 80% (the base model) to 50% after round 1."


def test_a_missing_value_says_why_in_the_table(measured: Experiment) -> None:
    table = by_key(measured)["agreement"].table
    note = "not computable: nobody judged the same sample twice"
    assert ["people among themselves", "1", "–", "–", "60", note] in table


def test_conformity_is_one_minus_attack_success_with_its_interval_turned(measured: Experiment) -> None:
    row = by_key(measured)["path"].table[0]
    assert row[:5] == ["0", "20%", "10% to 30%", "40%", "30% to 50%"]


def test_effort_has_the_reviews_in_its_table(measured: Experiment) -> None:
    chart = by_key(measured)["effort"]
    assert chart.columns[-1] == "reviews" and chart.table[0][-1] == "24"


def test_the_distance_from_the_base_model_is_in_nats_and_marks_what_was_rolled_back(measured: Experiment) -> None:
    chart = by_key(measured)["distance"]
    assert ["KL to the base model", "2", "4.80", "4.70 to 4.90", "60", "rolled back"] in chart.table


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("narrow", [True, False])
def test_every_chart_draws(measured: Experiment, theme: Theme, narrow: bool) -> None:
    for key, chart in by_key(measured).items():
        assert chart.reason == "", key
        svg = draw(chart.spec(theme, narrow=narrow))
        assert svg.startswith("<svg") and "NaN" not in svg, key
        width = float(svg.split('width="')[1].split('"')[0])
        assert width <= (NARROW if narrow else WIDE) + 10, key


def test_without_a_measurement_every_chart_says_why() -> None:
    experiment = make_experiment()
    for key, chart in by_key(experiment).items():
        assert chart.make is None and "measured" in chart.reason, key


def test_the_reason_of_the_metric_is_the_reason_of_the_chart() -> None:
    experiment = make_experiment()
    measure(make_round(experiment=experiment), "review_yield", None, reason="the audit slice found no violation")
    assert by_key(experiment)["effort"].reason == "the audit slice found no violation"


def test_one_round_alone_draws() -> None:
    experiment = make_experiment()
    measure(make_round(experiment=experiment), "attack_success", 0.5, model="old")
    chart = by_key(experiment)["attack-success"]
    assert "50% in round 1" in chart.summary and draw(chart.spec("light")).startswith("<svg")


def test_text_from_the_database_is_text_in_the_picture() -> None:
    experiment = make_experiment()
    round = make_round(experiment=experiment)
    measure(round, "attack_success", 0.5, group="<script>alert(1)</script>")
    assert "<script" not in draw(by_key(experiment)["categories"].spec("light"))


def test_the_token_follows_the_data(measured: Experiment) -> None:
    before = by_key(measured)["attack-success"].token
    assert by_key(measured)["attack-success"].token == before
    MetricPoint.objects.filter(name="attack_success", group="").update(value=0.1)
    assert by_key(measured)["attack-success"].token != before


def test_sparkline_coordinates() -> None:
    points = [Point(0, 1.0, 1.0, 1.0, 9), Point(1, 0.5, 0.25, 0.75, 9), Point(2, 0.0, None, None, 9)]
    line, band = sparkline(points, top=1.0)
    # 44 high with an edge of 3: 1 is at 3, 0 at 41, 0.5 half-way.
    assert line == "M0.0 3.0 L100.0 22.0 L200.0 41.0"
    assert band == "M0.0 3.0 L100.0 12.5 L200.0 41.0 L200.0 41.0 L100.0 31.5 L0.0 3.0Z"
    assert sparkline(points[:1], top=1.0) == ("", "")


def test_the_web_process_starts_without_altair_vl_convert_or_torch() -> None:
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'; django.setup();"
        "import oversight.urls; print([m for m in ('altair', 'vl_convert', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_estimates_over_all_answers_carry_what_a_reader_must_know() -> None:
    round = make_round(experiment=make_experiment(), status="done")
    measure(round, "violation_rate_all", 0.3, reason="2 of 60 answers could not be judged")
    measure(round, "critic_recall", 0.7)
    chart = by_key(round.experiment)["estimates"]
    assert chart.table == [
        ["violations", "1", "30%", "20% to 40%", "60", "2 of 60 answers could not be judged"],
        ["critic recall", "1", "70%", "60% to 80%", "60", ""],
    ]
    assert chart.summary == "Critic recall: 70% in round 1."
