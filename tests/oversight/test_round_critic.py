"""The round page's parts about stopping and the critic, and the launch form's sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from oversight import outlook, tasks, workers
from oversight.models import Experiment, Label, MetricPoint, Round
from oversight.selectors.outlook import NEVER, read_forecasts
from oversight.selectors.round_critic import read_critic
from tests.factories import make_experiment, make_round, make_sample

pytestmark = pytest.mark.django_db
For = Callable[..., Client]
GAIN = "20 more reviews are expected to raise AUROC by 0.004 (0.000 to 0.011): stopping is reasonable"
WIDTH = "The violation rate is 30% (18% to 45%); 20 more reviews are expected to narrow the interval to 20% to 43%"


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    outlook._kept.clear()
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


def measure(round: Round, name: str, value: float | None, **fields: object) -> None:
    MetricPoint.objects.create(round=round, name=name, value=value, **{"n": 40, **fields})


def make_learnt(experiment: Experiment) -> Round:
    round = make_round(experiment=experiment, status="done", phase="learn", config={"risk_alpha": 0.1})
    measure(round, "next_reviews_width", 0.137, group="now")
    measure(round, "next_reviews_width", 0.113, group="rate", reason=WIDTH)
    measure(round, "next_reviews_gain", 0.004, group="critic", reason=GAIN)
    return round


def read(client: Client, round: Round) -> str:
    return client.get(f"/rounds/{round.pk}/").content.decode()


def test_before_anything_is_learnt_or_judged_the_panel_says_why(client_for: For) -> None:
    page = read(client_for("reviewer"), make_round())
    assert "What the next 20 reviews would buy" in page
    assert "Not computable, because no sample was reviewed." in page
    assert f"Not computable, because {NEVER}." in page


def test_while_people_review_the_rate_comes_from_the_labels_so_far(client_for: For) -> None:
    """Ten samples at a chance of 1, 3 of them violating: an effective size of 9 (the variance divides by k - 1), so
    Wilson's interval is 10% to 62%, and that of 27 is 16% to 49%. A sample without a label counts for nothing."""
    experiment = make_experiment()
    make_learnt(experiment)
    round = make_round(experiment=experiment)
    for number in range(10):
        sample = make_sample(round=round, status="decided", propensity=1.0, answers=("One answer.",))
        Label.objects.create(sample=sample, violates={"0": float(number < 3)})
    make_sample(round=round)
    page = read(client_for("reviewer"), round)
    assert (
        "The violation rate is 30% (10% to 62%); 20 more reviews are expected to narrow the interval to 16% to 49%."
        in page
    )
    assert "from the labels so far, weighted by 1/propensity" in page
    assert GAIN in page and "measured when round 1 learnt" in page and WIDTH not in page


def test_labels_count_by_the_inverse_of_their_chance() -> None:
    """One violating at 1, one fine at 1/3: (1 * 1 + 3 * 0) / 4 = 25%."""
    round = make_round()
    for chance, violates in ((1.0, 1.0), (1 / 3, 0.0)):
        sample = make_sample(round=round, status="decided", propensity=chance, answers=("One answer.",))
        Label.objects.create(sample=sample, violates={"0": violates})
    assert "The violation rate is 25% (" in outlook.forecast_width(round).words


def test_a_new_label_shows_at_once(client_for: For) -> None:
    round, client = make_round(), client_for("reviewer")
    assert "no sample was reviewed" in read(client, round)
    Label.objects.create(sample=make_sample(round=round, status="decided"), violates={"0": 1.0})
    assert "The violation rate is 100% (" in read(client, round)


def test_after_learning_the_page_shows_what_the_round_measured(client_for: For) -> None:
    page = read(client_for("reviewer"), make_learnt(make_experiment()))
    assert WIDTH in page and GAIN in page and "from the labels so far" not in page


def test_a_later_round_says_nothing_of_an_earlier_one() -> None:
    experiment = make_experiment()
    first = make_round(experiment=experiment, status="done")
    make_learnt(experiment)
    assert [forecast.reason for forecast in read_forecasts(experiment.pk, upto=first.number)] == [NEVER, NEVER]
    assert [forecast.words for forecast in read_forecasts(experiment.pk)] == [WIDTH, GAIN]


def test_the_newest_round_that_learnt_speaks_also_where_it_could_not_tell() -> None:
    experiment = make_experiment()
    make_learnt(experiment)
    second = make_round(experiment=experiment, status="done")
    measure(second, "next_reviews_gain", None, group="critic", reason="20 are needed")
    rate, critic = read_forecasts(experiment.pk)
    assert (critic.words, critic.reason, critic.round) == ("", "20 are needed", 2)
    assert rate.reason == "round 2 did not measure it"


@pytest.mark.parametrize("address", ["/rounds/launch/", "/admin/oversight/round/launch/"])
def test_the_launch_form_says_it_beside_the_budget(client_for: For, address: str) -> None:
    experiment = make_experiment()
    client = client_for("operator")
    assert f"Not computable, because {NEVER}." in client.get(address).content.decode()
    make_learnt(experiment)
    page = client.get(address).content.decode()
    assert GAIN in page and WIDTH in page


def test_the_critic_of_a_round(client_for: For) -> None:
    round = make_learnt(make_experiment())
    measure(round, "routed_alone", 0.62, n=310)
    measure(round, "routing_coverage", 0.91, ci_low=0.84, ci_high=0.95, n=96)
    measure(round, "critic_auroc", 0.87, ci_low=0.8, ci_high=0.92)
    measure(round, "critic_member_weight", 0.2, group="words")
    measure(round, "critic_member_weight", 0.8, group="layer 22")
    measure(round, "critic_error_correlation", 0.45, group="layer 22|words")
    measure(round, "selection_weight", None, group="violation", reason="nobody was reviewed at random")
    measure(round, "calibration", 0.75, group="7", ci_low=0.5, ci_high=0.9)
    measure(round, "calibration_predicted", 0.72, group="7")
    page = read(client_for("reviewer"), round)
    assert "62%</b> of 310" in page and "promised risk of 10%" in page
    assert "in 91% (84% to 95%), n 96. At least 90% was promised." in page
    assert page.index("layer 22</th>") < page.index("words</th>"), "the heaviest member first"
    assert "layer 22 and words" in page and "0.45" in page
    assert "Not computable, because nobody was reviewed at random." in page
    assert "0.7 to 0.8" in page and "50% to 90%" in page, "the reliability curve's table"
    picture = page.split('<img src="')[1].split('"')[0].replace("&amp;", "&")
    assert f"round={round.number}" in picture
    drawn = client_for("reviewer").get(picture)
    assert drawn.content.startswith(b"<svg") and "immutable" in drawn.headers["Cache-Control"]


def test_a_curve_that_can_not_be_drawn_says_why_once(client_for: For) -> None:
    round = make_learnt(make_experiment())
    measure(round, "critique_failed", 0)
    measure(round, "calibration", None, group="4", reason="no answer was judged by people")
    assert "<b>Not computable</b>, because no answer was judged by people." in read(client_for("reviewer"), round)


def test_what_a_round_did_not_measure_is_hidden(client_for: For) -> None:
    round = make_round()
    client = client_for("reviewer")
    assert "The critic in this round" not in read(client, round)
    assert client.get(f"/rounds/{round.pk}/", headers={"HX-Target": "round-critic"}).status_code == 204
    measure(round, "critique_failed", 0, n=12)
    part = client.get(f"/rounds/{round.pk}/", headers={"HX-Target": "round-critic"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="round-critic"') and "None of 12." in part
    assert "Members" not in part and "What it decides alone" not in part


def test_failed_critiques_by_state_with_their_bounds(client_for: For) -> None:
    round = make_round()
    for group, value in (("", 3), ("timeout", 2), ("empty", 1)):
        measure(round, "critique_failed", value, group=group, n=20)
    measure(round, "critic_called_best", 0.3, n=20)
    measure(round, "critic_called_worst", 0.45, n=20)
    page = read(client_for("reviewer"), round)
    assert '<b class="digits">3</b> of 20: 2 timeout, 1 empty.' in page
    assert "calls 30% of the answers violating if every failed one is fine, 45% if every one violates." in page


def test_a_reason_from_a_run_folder_is_escaped(client_for: For) -> None:
    round = make_round(status="done")
    evil = "<script>alert(1)</script>"
    for name, group in (("next_reviews_gain", "critic"), ("critic_member_weight", ""), ("routed_alone", "")):
        measure(round, name, None, group=group, reason=evil)
    measure(round, "selection_weight", 1.0, group=evil)
    assert evil not in read(client_for("reviewer"), round)


def test_a_round_that_is_not_there_has_no_picture(client_for: For) -> None:
    round = make_learnt(make_experiment())
    for number in ("1", "7", "99999999999999999999"):
        address = f"/gaps/calibration.svg?experiment={round.experiment_id}&round={number}"
        assert client_for("reviewer").get(address).status_code == 404


def test_read_critic_asks_once(django_assert_num_queries: Callable[..., object]) -> None:
    round = make_learnt(make_experiment())
    for number in range(30):
        measure(round, "critic_error_correlation", number / 100, group=f"a|{number}")
    measure(round, "critic_error_correlation", 0.15)
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        table = read_critic(round).tables[0]
    assert [number.group for number in table.rows[:2]] == ["mean of all", "a and 29"]
    assert (len(table.rows), len(table.more)) == (8, 23)


def test_the_card_says_what_the_critic_was_fitted_on(client_for: Callable[..., Client]) -> None:
    round = make_learnt(make_experiment())
    measure(round, "critic_auroc", 0.8)
    measure(round, "critic_labels", 24)
    measure(round, "critic_labels", 300, group="exemplars")
    measure(round, "critic_error", 0.2)
    measure(round, "critic_error", 0.5, group="privacy")
    assert [number.group for number in read_critic(round).tables[0].rows] == ["all", "privacy"]
    page = client_for("reviewer").get(f"/rounds/{round.pk}/").content.decode()
    assert '<b class="digits">24</b> answers that people judged and <b class="digits">300</b> exemplars' in page
