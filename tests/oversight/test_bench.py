"""The benchmark of the workbench: it works, and it would see what it looks for."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from django.db import connection

from oversight.models import Label, Review, Role, Sample
from oversight.services import labels
from tests.bench import inside, review
from tests.bench.drive import Holding, find_double_holdings
from tests.bench.fill import Shape
from tests.bench.words import Writer
from tests.factories import make_review, make_sample, make_user


@pytest.mark.stack
def test_a_small_run_drives_the_real_server(tmp_path: Path) -> None:
    out = tmp_path / "review.json"
    options = ["--databases", "sqlite", "--sizes", "200", "--submits", "300", "--alone", "8", "--warm-up", "2"]
    more = ["--think", "0.05", "--only", "alone,crowd", "--folder", str(tmp_path / "run"), "--out", str(out)]
    assert review.main([*options, *more]) == 0
    written = json.loads(out.read_text())
    assert written["machine"]["cores"] >= 1
    rows = {row["measure"]: row for row in written["rows"]}
    alone = rows["submit and next, 1 reviewer, 200 samples, sqlite"]["numbers"]
    assert alone["n"] == len(alone["milliseconds"]) == 8
    assert 0 < alone["median"] <= alone["p95"]
    crowd = rows["8 reviewers, sqlite, 200 samples, pauses of 0.05 s on average: time of a submit"]["numbers"]
    assert crowd["submits"] == crowd["verified"]["reviews"] == 30
    assert crowd["verified"]["lost"] == crowd["verified"]["counted_twice"] == crowd["held_twice"] == []
    assert [row["met"] for row in rows.values() if row["must"]] == [True] * 5


def test_shape_holds_what_it_says() -> None:
    for samples in (200, 1_000, 100_000, 1_000_000):
        shape = Shape(samples)
        assert sum(shape.sizes()) == samples
        assert shape.queued + shape.decided <= shape.last
    assert Shape(100_000).queued >= 25_000


def test_words_are_spread_as_in_language() -> None:
    texts = Writer(3).write(400, 50)
    assert texts == Writer(3).write(400, 50)
    words = [word for text in texts for word in text.lower().rstrip(".").split()]
    share = words.count(Writer(3).words[0]) / len(words)
    assert 0.07 < share < 0.13  # 1 / (1 + 1/2 + ... + 1/20000) = 0.095


def test_two_people_with_one_sample_are_found() -> None:
    first = Holding("a", 1, "ann", 0.0, 5.0)
    assert find_double_holdings([first, Holding("a", 2, "bob", 5.0, 6.0)]) == []
    assert len(find_double_holdings([first, Holding("a", 2, "bob", 4.0, 6.0)])) == 1
    assert len(find_double_holdings([first, Holding("a", 1, "bob", 7.0, 8.0)])) == 1  # one fence for two


@pytest.mark.django_db
def test_what_is_lost_or_counted_twice_is_found() -> None:
    reviewer, sample = make_user(Role.REVIEWER), make_sample(status=Sample.Status.QUEUED)
    made = make_review(sample=sample, reviewer=reviewer)
    outcome = labels.weigh(sample, [made])
    labels.write_label(sample, outcome)
    Sample.objects.filter(pk=sample.pk).update(status=Sample.Status.DECIDED)
    key = str(made.key)
    assert inside.verify([key])["lost"] == inside.verify([key])["counted_twice"] == []

    missing = str(uuid.uuid4())
    assert inside.verify([key, missing])["lost"] == [missing]

    again = make_review(sample=sample, reviewer=reviewer, action=Review.Action.VIOLATES)
    assert len(inside.verify([key])["counted_twice"]) == 1
    Label.objects.filter(sample=sample).update(evidence=[str(made.pk), str(again.pk)])
    assert len(inside.verify([key])["counted_twice"]) == 2


@pytest.mark.django_db
def test_scans_of_big_tables_are_found() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL reads a table of no rows from end to end, whatever it is asked")
    scan = "SELECT * FROM oversight_review AS r WHERE r.note = 'x'"
    assert [line.split()[:2] for line in inside.find_scans(scan)] == [["SCAN", "r"]]
    assert inside.find_scans("SELECT * FROM oversight_round WHERE reason = 'x'") == []  # a small table
    assert inside.find_scans("SELECT * FROM oversight_review WHERE reviewer_id = 1") == []
