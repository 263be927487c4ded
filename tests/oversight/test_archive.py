"""The archive's map: counts that hold the unknown, links that open exactly the cell, and nothing that sways."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from oversight.charts.archive_map import build_map, describe_tally
from oversight.models import Label, MetricPoint, Round, Sample
from oversight.selectors.archive import Tally, correct_calls, count_attacks, tally_calls
from oversight.selectors.sample_filter import SampleFilter, open_sight
from oversight.selectors.samples import list_samples
from tests.factories import make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]


def attack(round: Round, *violations: float | None, **query: Any) -> Sample:
    return make_sample(round=round, violations=violations, status="unflagged", flag_reason="", query=query)


@pytest.fixture
def round() -> Round:
    return make_round(status="done", phase="learn")


@pytest.mark.parametrize(
    ("calls", "attacks", "tally"),
    [("vf", 3, Tally(3, 3, 0)), ("v?", 1, Tally(1, 1, 0)), ("ff", 2, Tally(2, 0, 0)), ("f?", 2, Tally(2, 0, 2)),
     ("", 1, Tally(1, 0, 1))],
)  # fmt: skip
def test_one_violating_answer_makes_a_success_and_a_failed_critique_leaves_it_open(
    calls: str, attacks: int, tally: Tally
) -> None:
    assert tally_calls(calls, attacks) == tally


def test_people_come_before_the_critic() -> None:
    assert correct_calls("v?", {"0": 0.0, "1": 0.5}) == "fv"
    assert correct_calls("vf", {"1": 0.2, "7": 1.0}) == "vf"


def test_the_counts(round: Round) -> None:
    attack(round, 0.5, 0.1)
    attack(round, 0.49, 0.1)
    attack(round, None, 0.1)
    overruled = attack(round, 0.9, 0.1, level=1)
    Label.objects.create(sample=overruled, violates={"0": 0.0, "1": 0.0})
    found = attack(round, 0.1, None, category="fraud", operator="multi_turn")
    Label.objects.create(sample=found, violates={"1": 1.0})
    attack(round, 0.9, 0.9, kind="harmless")
    attack(make_round(experiment=round.experiment, status="done"), 0.9, 0.9)
    assert count_attacks(round) == {
        ("privacy", "persona", 3): Tally(3, 1, 1),
        ("privacy", "persona", 1): Tally(1, 0, 0),
        ("fraud", "multi_turn", 3): Tally(1, 1, 0),
    }


def test_the_map_adds_levels_and_shows_what_was_not_tried() -> None:
    tallies = {("fraud", "persona", 1): Tally(4, 1, 1), ("fraud", "persona", 2): Tally(6, 4, 0)}
    made = build_map(tallies, categories=["privacy"], number=3, level=None, shown=True)
    assert [category for category, _ in made.rows] == ["privacy", "fraud"]
    assert {"seed", "multi_turn", "persona"} <= set(made.operators) and "plain" not in made.operators
    (cell,) = [cell for _, cells in made.rows for cell in cells if cell.tally.attacks]
    assert (cell.tally, cell.step, made.filled) == (Tally(10, 5, 1), 5, 1)
    # Wilson by hand: 5 of 10 from 0.2366, 6 of 10 up to 0.8318.
    assert cell.words == (
        "fraud, persona: 5 of 10 succeed, 50% (95% interval 24% to 83%); 1 could not be judged, so at most 6 of 10"
    )
    assert cell.link == "round=3&kind=unsafe&category=fraud&operator=persona"
    second = build_map(tallies, categories=[], number=3, level=2, shown=True)
    assert second.total == Tally(6, 4, 0) and second.rows[0][1][1].link.endswith("&level=2")
    assert build_map(tallies, categories=[], number=3, level=9, shown=True).level is None
    assert build_map({}, categories=["fraud"], number=1, level=None, shown=True).summary == "No attack of this level."


def test_all_and_none() -> None:
    assert describe_tally(Tally(1, 1, 0)).startswith("1 of 1 succeed, 100% (95% interval 21% to 100%)")
    made = build_map({("a", "seed", 1): Tally(3, 3, 0)}, categories=[], number=1, level=None, shown=True)
    assert made.rows[0][1][0].step == 9


def test_a_cell_opens_its_attacks_and_no_others(round: Round, client_for: For) -> None:
    mine = {attack(round, 0.9, 0.1).pk for _ in range(3)}
    attack(round, 0.9, 0.1, level=1)
    attack(round, 0.9, 0.1, operator="seed")
    attack(round, 0.9, 0.1, category="fraud")
    page = client_for("lead").get(f"/rounds/{round.pk}/?level=3").content.decode()
    (link,) = [
        html.unescape(found) for found in re.findall(r'href="(/samples/[^"]*operator=persona[^"]*)"', page)
        if "category=privacy" in found
    ]  # fmt: skip
    listed = client_for("reviewer").get(link, headers={"HX-Target": "samples-list"}).content.decode()
    assert set(re.findall(r"/samples/([0-9a-f-]{36})/", listed)) == {str(pk) for pk in mine}


@pytest.mark.parametrize("text", ["", "neighbour"])
@pytest.mark.parametrize(
    "wanted", [{"operator": "persona"}, {"level": 2}, {"operator": "persona", "level": 2, "kind": "unsafe"},
               {"operator": "persona", "category": "fraud", "kind": "unsafe", "round": 1, "status": "unflagged"}],
)  # fmt: skip
def test_operator_and_level_as_filters_find_what_a_plain_look_finds(wanted: dict[str, Any], text: str) -> None:
    round = make_round()
    for number in range(24):
        attack(
            round, 0.9, 0.1, operator=("persona", "seed")[number % 2], level=1 + number % 3,
            category=("fraud", "privacy")[number % 4 // 2], kind=("unsafe", "harmless")[number % 5 == 0],
        )  # fmt: skip
    asked = {name: value for name, value in wanted.items() if name not in ("round",)}
    expected = list(Sample.objects.filter(**asked).order_by("-created_at", "-id").values_list("pk", flat=True))
    sight = open_sight(make_user("lead"), round.experiment)
    found, after = [], ""
    while True:
        page = list_samples(round.experiment, SampleFilter(**wanted, text=text), sight=sight, after=after, size=3)
        found += [sample.pk for sample in page.samples]
        after = page.next
        if not after:
            break
    assert sorted(found) == sorted(expected) and expected
    if not text:
        assert found == expected


def test_a_reviewer_of_an_open_round_sees_how_many_and_not_how_they_went(client_for: For) -> None:
    round = make_round()
    attack(round, 0.9, 0.1)
    MetricPoint.objects.create(round=round, name="archive_found", value=0.5, n=4, model="old")
    reviewer, lead = client_for("reviewer"), client_for("lead")
    page = reviewer.get(f"/rounds/{round.pk}/").content.decode()
    assert "privacy, persona: 1 attack" in page and "1 succeed" not in page and "heat-" not in page
    assert "is shown when the review is over" in page and "found <b" not in page
    page = lead.get(f"/rounds/{round.pk}/").content.decode()
    assert "privacy, persona: 1 of 1 succeed, 100%" in page and "found <b" in page
    Round.objects.filter(pk=round.pk).update(status="done")
    assert "1 of 1 succeed" in reviewer.get(f"/rounds/{round.pk}/").content.decode()
    round.experiment.gold_share = 0.1
    round.experiment.save()
    page = reviewer.get(f"/rounds/{round.pk}/").content.decode()
    assert "1 of 1 succeed" not in page and "to leads only" in page


def test_the_part_alone(round: Round, client_for: For) -> None:
    client = client_for("lead")
    asked = {"HX-Target": "round-archive"}
    assert client.get(f"/rounds/{round.pk}/", headers=asked).status_code == 204
    attack(round, 0.9, 0.1)
    MetricPoint.objects.create(round=round, name="archive_qd_score", value=3.25, n=40, model="old")
    page = client.get(f"/rounds/{round.pk}/?level=3", headers=asked).content.decode()
    assert page.lstrip().startswith("<section") and "QD score" in page and "3.2" in page


def test_two_queries_whatever_the_number_of_attacks(round: Round) -> None:
    for number in range(12):
        sample = attack(round, 0.9, 0.1, operator=f"operator-{number}")
        Label.objects.create(sample=sample, violates={"0": 1.0})
    with CaptureQueriesContext(connection) as queries:
        assert len(count_attacks(round)) == 12
    assert len(queries) == 2
