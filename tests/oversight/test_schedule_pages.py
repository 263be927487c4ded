"""The plan of a round: kept with it, overridden by people, shown with its reasons; the launch form beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight import tasks, workers
from oversight.forms import LaunchForm
from oversight.models import Checkpoint, Experiment, Label, MetricPoint, Round, Seed
from oversight.selectors.round_schedule import in_words, read_schedule
from oversight.services import launching
from tests.factories import make_experiment, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
Status = Round.Status
For = Callable[..., Client]


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


@pytest.fixture
def experiment() -> Experiment:
    experiment = make_experiment(settings={"budget": 40})
    for level in (1, 2, 3):
        Seed.objects.create(
            experiment=experiment, key=f"s{level}", category="c", principle="p", style="q", level=level, unsafe="x"
        )
    return experiment


def learnt(experiment: Experiment, *, verdict: str = "accepted", **fields: Any) -> Round:
    """A finished round, with what the schedule of the next one reads."""
    config = {"levels": [1, 2, 3], "attack_levels": [1, 2], "budget": 40, "beta": 0.1}
    round = make_round(experiment=experiment, status=Status.DONE, config=config, budget=40, **fields)
    points = (
        ("competence", "3", 0.7, 0.4, 0.9, 10), ("critic_agreement_audit", "", 0.95, 0.84, 0.99, 40),
        ("teacher_gap", "", -55, -65, -45, 40), ("hypervolume", "", 0.3, 0.2, 0.4, 50),
    )  # fmt: skip
    for name, group, value, low, high, n in points:
        MetricPoint.objects.create(
            round=round, name=name, group=group, value=value, ci_low=low, ci_high=high, n=n, model="new"
        )
    Checkpoint.objects.create(experiment=experiment, round=round, role="learner", path="x", sha256="a", verdict=verdict)
    Label.objects.create(sample=make_sample(round=round, status="decided"), violates={"0": 1.0})
    return round


def test_a_launch_follows_the_plan_and_keeps_it(experiment: Experiment) -> None:
    learnt(experiment)
    round = launching.launch_round(experiment=experiment, user=None, overrides={})
    round.refresh_from_db()
    assert (round.objective, round.budget) == ("competence", 30)
    assert [round.config[name] for name in ("levels", "attack_levels", "beta")] == [[1, 2, 3, 4], [1, 2, 3], 0.1]
    assert round.config["objective"] == "competence"
    reasons = {name: reason["words"] for name, reason in round.plan["reasons"].items()}
    assert reasons["levels"] == "Level 4 added: 0.70 (n 10, 0.40 to 0.90) solved on level 3."
    assert reasons["attack_levels"].startswith("Attack level 3 added: the teacher gap is -55 (n 40, -65 to -45) points")
    assert reasons["budget"].startswith(
        "30 reviews after 40: the critic agrees with people on 0.95 (n 40, 0.83 to 0.99)"
    )
    assert round.plan["reasons"]["levels"]["metric"]["n"] == 10 and round.plan["overrides"] == {}


def test_what_a_person_chose_is_kept_beside_what_was_planned(experiment: Experiment) -> None:
    learnt(experiment)
    mia = make_user("researcher", username="mia")
    chosen = {"budget": 5, "levels": [1], "objective": "joint", "attacks": 9}
    round = launching.launch_round(experiment=experiment, user=mia, overrides=chosen)
    assert (round.objective, round.budget, round.config["levels"], round.config["attacks"]) == ("joint", 5, (1,), 9)
    assert round.plan["overrides"] == {
        "objective": {"planned": "competence", "chosen": "joint", "by": "mia"},
        "budget": {"planned": 30, "chosen": 5, "by": "mia"},
        "levels": {"planned": [1, 2, 3, 4], "chosen": [1], "by": "mia"},
    }
    with pytest.raises(ValueError, match="objective 'fun'"):
        launching.prepare_round(experiment)
        launching.estimate(experiment, {"objective": "fun"})


def test_the_first_round_and_a_fixed_schedule_are_as_the_experiment_sets_them(experiment: Experiment) -> None:
    coming = launching.prepare_round(experiment)
    assert (coming.config["budget"], coming.config["attack_levels"]) == (40, [1, 2, 3])
    learnt(experiment)
    experiment.settings = {"budget": 40, "annealing": "fixed", "schedule": "joint"}
    experiment.save()
    fixed = launching.prepare_round(experiment)
    assert (fixed.config["budget"], fixed.config["objective"]) == (40, "joint")
    assert fixed.reasons["budget"] == "The schedule is fixed: as the experiment sets it."


def test_a_failed_round_takes_no_turn(experiment: Experiment) -> None:
    learnt(experiment)
    make_round(experiment=experiment, status=Status.FAILED, objective="competence")
    coming = launching.prepare_round(experiment)
    assert (coming.round.number, coming.plan["objective"]) == (3, "competence")


def test_a_plan_takes_as_many_queries_for_many_rounds_as_for_one(
    experiment: Experiment, django_assert_max_num_queries: Any
) -> None:
    counts = []
    for size in (1, 9):
        for _ in range(size):
            learnt(experiment)
        with django_assert_max_num_queries(8) as captured:
            launching.prepare_round(experiment)
        counts.append(len(captured))
    assert counts[0] == counts[1]


# --- The form ---------------------------------------------------------------------------------------


def test_the_form_is_filled_from_the_plan_with_the_reason_beside_each_field(
    client_for: For, experiment: Experiment
) -> None:
    learnt(experiment)
    client = client_for("researcher")
    for address in ("/", "/rounds/launch/"):
        page = client.get(address).content.decode()
        assert 'name="levels" value="1, 2, 3, 4"' in page and 'name="budget" value="30"' in page
        assert '<option value="competence" selected>' in page
        assert "Level 4 added: 0.70 (n 10, 0.40 to 0.90) solved on level 3." in page
    assert "Level 4 added" in client.get("/admin/oversight/round/launch/").content.decode()


def test_fields_override_and_untouched_ones_do_not(client_for: For, experiment: Experiment) -> None:
    learnt(experiment)
    sent = {"experiment": str(experiment.pk), "objective": "competence", "levels": "3 1", "attack_levels": "1, 2, 3",
            "budget": 30, "beta": "0.1"}  # fmt: skip
    client_for(make_user("researcher", username="mia")).post("/rounds/launch/", sent)
    round = experiment.rounds.get(number=2)
    assert round.config["levels"] == [1, 3] and round.budget == 30
    assert list(round.plan["overrides"]) == ["levels"] and round.plan["overrides"]["levels"]["by"] == "mia"


@pytest.mark.parametrize("typed", ["6", "0", "one", "1;2", "-1", "1" * 41])
def test_levels_that_are_none_are_said_at_the_field(client_for: For, experiment: Experiment, typed: str) -> None:
    answer = client_for("researcher").post("/rounds/launch/", {"experiment": str(experiment.pk), "levels": typed})
    assert answer.status_code == 422 and not experiment.rounds.exists()


def test_an_empty_form_changes_nothing() -> None:
    form = LaunchForm({"levels": "", "budget": "", "objective": ""}, defaults={"levels": (1, 2), "budget": 3})
    assert form.is_valid() and form.overrides() == {}
    assert LaunchForm({"levels": "2 1"}, defaults={"levels": (1, 2)}).overrides() == {}


# --- The round's page and the API -------------------------------------------------------------------


def test_the_round_page_shows_plan_reasons_overrides_and_the_rounds(client_for: For, experiment: Experiment) -> None:
    learnt(experiment, verdict="rolled back")
    mia = make_user("researcher", username="mia")
    round = launching.launch_round(experiment=experiment, user=mia, overrides={"budget": 5})
    page = client_for("reviewer").get(f"/rounds/{round.pk}/").content.decode()
    assert "chosen by mia, planned 40" in page and "Round 1 was rolled back" in page
    assert "alternating" in page and "annealed" in page and "rolled back</span>" in page
    part = client_for("reviewer").get(f"/rounds/{round.pk}/", headers={"HX-Target": "round-schedule"}).content.decode()
    assert part.lstrip().startswith('<section class="panel" id="round-schedule"')
    schedule = read_schedule(round)
    assert [(line.number, line.levels, line.verdict, line.changed) for line in schedule.lines] == [
        (2, "1 to 3", "", True), (1, "1 to 3", "rolled back", False)
    ]  # fmt: skip


def test_an_old_round_has_no_plan(client_for: For) -> None:
    round = make_round(status=Status.DONE)
    page = client_for("reviewer").get(f"/rounds/{round.pk}/").content.decode()
    assert "launched before plans were kept" in page


def test_reasons_are_escaped(client_for: For) -> None:
    evil = "<script>alert(1)</script>"
    plan = {
        "schedule": "joint", "annealing": "fixed", "reasons": {"budget": {"words": evil}},
        "overrides": {"budget": {"planned": evil, "chosen": 1, "by": evil}},
    }  # fmt: skip
    page = client_for("reviewer").get(f"/rounds/{make_round(plan=plan).pk}/").content.decode()
    assert evil not in page and page.count("&lt;script&gt;") >= 3


def test_the_api_gives_the_plan_and_takes_overrides(client_for: For, experiment: Experiment) -> None:
    learnt(experiment)
    address = f"/api/rounds/?experiment={experiment.pk}"
    made = client_for("researcher").post(address, {"overrides": {"objective": "joint"}}, "application/json")
    assert made.status_code == 201, made.content
    assert made.json()["plan"]["overrides"]["objective"]["planned"] == "competence"
    assert made.json()["objective"] == "joint"
    refused = client_for("researcher").post(address, {"overrides": {"levels": [9]}}, "application/json")
    assert refused.status_code in (400, 409)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2, 3], "1 to 3"),
        ([1, 3], "1, 3"),
        ([2], "2"),
        ([], "all"),
        (0.15000000000000002, "0.15"),
        (None, "–"),
        (4, "4"),
    ],
)
def test_settings_in_words(value: Any, words: str) -> None:
    assert in_words(value) == words
