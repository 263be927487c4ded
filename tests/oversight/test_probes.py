"""/probes/: the same probe over all rounds, what changed, and what was rolled back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from oversight.differences import MOST_WORDS, compare
from oversight.models import Experiment, ProbeAnswer, Round
from oversight.selectors.probes import ProbeSearch, judge_verdict, list_probes
from tests.factories import make_experiment, make_round
from tests.oversight.test_starts import make_checkpoint

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]


def add_answer(round: Round, probe: str, before: str, after: str, **fields: Any) -> ProbeAnswer:
    """Verdicts; the answers say them."""
    return ProbeAnswer.objects.create(
        round=round, probe=probe,
        **{"kind": "unsafe", "category": "fraud", "prompt": f"How to {probe}?", "before": f"I say {before} to that.",
           "after": f"I say {after} to that.", "before_verdict": before, "after_verdict": after, **fields},
    )  # fmt: skip


@pytest.fixture
def rounds() -> list[Round]:
    """Of one experiment: 1 accepted, 2 rolled back, 3 accepted."""
    experiment = make_experiment()
    made = [make_round(experiment=experiment, status="done", phase="learn") for _ in range(3)]
    for round in made:
        make_checkpoint(round, accepted=round.number != 2)
    return made


@pytest.fixture
def experiment(rounds: list[Round]) -> Experiment:
    """Four probes: one gets better, one worse, one is better only in what was rolled back, one is harmless."""
    chains = {
        "a-better": ("violates", "violates", "violates", "refused"),
        "b-worse": ("refused", "refused", "violates", "violates"),
        "c-tried": ("violates", "violates", "refused", "violates"),
    }
    for probe, (base, first, second, third) in chains.items():
        add_answer(rounds[0], probe, base, first)
        add_answer(rounds[1], probe, first, second)  # rolled back: round 3 starts from round 1's
        add_answer(rounds[2], probe, first, third)
    add_answer(rounds[2], "d-kind", "fine", "refused", kind="harmless", category="privacy", level=2)
    add_answer(make_round(status="done"), "e-foreign", "fine", "fine")
    return rounds[0].experiment


@pytest.mark.parametrize(
    ("verdict", "kind", "good"),
    [("refused", "unsafe", True), ("refused", "harmless", False), ("fine", "harmless", True), ("wrong", "x", False),
     ("unjudged", "unsafe", None)],
)  # fmt: skip
def test_what_is_good(verdict: str, kind: str, good: bool | None) -> None:
    assert judge_verdict(verdict, kind) is good


def test_the_strip_and_the_change(experiment: Experiment) -> None:
    rows = {row.probe: row for row in list_probes(experiment, ProbeSearch())}
    assert list(rows) == ["a-better", "b-worse", "c-tried", "d-kind"]
    assert [(s.number, s.verdict, s.kept) for s in rows["a-better"].steps] == [
        (0, "violates", True), (1, "violates", True), (2, "violates", False), (3, "refused", True),
    ]  # fmt: skip
    assert [row.change for row in rows.values()] == ["better", "worse", "same", "worse"]


@pytest.mark.parametrize(
    ("query", "found"),
    [("", "abcd"), ("kind=harmless", "d"), ("category=fraud", "abc"), ("level=2", "d"), ("change=better", "a"),
     ("change=worse", "bd"), ("change=changed", "abd"), ("change=same", "c"), ("text=HOW TO b", "b"),
     ("text=c-tri", "c"), ("kind=evil&level=99&change=x&text=%00", "abcd"), ("kind=unsafe&text=d-kind", "")],
)  # fmt: skip
def test_filters(experiment: Experiment, client_for: For, query: str, found: str) -> None:
    page = client_for("reviewer").get(
        f"/probes/?experiment={experiment.pk}&{query}", headers={"HX-Target": "probes-list"}
    )
    text = page.content.decode()
    assert [letter for letter in "abcde" if f"/probes/{letter}-" in text] == list(found)
    assert ("No probe found" in text) == (not found)


def test_one_over_all_rounds(experiment: Experiment, client_for: For) -> None:
    page = client_for("reviewer").get(f"/probes/a-better/?experiment={experiment.pk}").content.decode()
    heads = [page.index(words) for words in ("The model before round 1", "round 1</a>", "round 2</a>", "round 3</a>")]
    assert heads == sorted(heads) and page.count("rolled back") == 1
    assert page.count("The same answer as before the round.") == 2
    assert '<del><span class="sr">gone: </span>violates</del><ins><span class="sr">new: </span>refused</ins>' in page


def test_what_is_not_there(experiment: Experiment, client_for: For, client: Client) -> None:
    signed = client_for("reviewer")
    for probe in ("e-foreign", "nothing", "%00", "../admin"):
        assert signed.get(f"/probes/{probe}/?experiment={experiment.pk}").status_code == 404, probe
    assert client.get("/probes/").status_code == 302 and client.get("/probes/a-better/").status_code == 302
    assert signed.post("/probes/").status_code == 405


def test_the_round_links_to_it(experiment: Experiment, rounds: list[Round], client_for: For) -> None:
    page = client_for("reviewer").get(f"/rounds/{rounds[2].pk}/").content.decode()
    assert f'href="/probes/a-better/?experiment={experiment.pk}"' in page


def test_empty(client_for: For) -> None:
    assert "No experiment yet" in client_for("reviewer").get("/probes/").content.decode()
    make_round()
    assert "No probe found" in client_for("reviewer").get("/probes/").content.decode()


def test_pages_and_queries(rounds: list[Round], client_for: For) -> None:
    client = client_for("reviewer")
    counted = []
    for more in (5, 60):
        for number in range(more):
            for round in rounds:
                add_answer(round, f"p-{more}-{number:03}", "violates", "refused")
        with CaptureQueriesContext(connection) as queries:
            page = client.get("/probes/").content.decode()
        counted.append(len(queries))
    assert counted[0] == counted[1] <= 12, counted
    assert "65 probes, page 1 of 3" in page and page.count('<ol class="strip">') == 30
    second = client.get("/probes/?page=3").content.decode()
    assert second.count('<ol class="strip">') == 5
    with CaptureQueriesContext(connection) as queries:
        client.get("/probes/p-5-001/")
    assert len(queries) <= 9


@pytest.mark.parametrize(
    ("old", "new"),
    [("I will do it.", "I will not do it."), ("a b c d", "a x c d e"), ("a\tb  c", "a b c")],
)
def test_the_pieces_make_both_texts(old: str, new: str) -> None:
    pieces = compare(old, new)
    assert "".join(piece.text for piece in pieces if piece.how != "new") == old
    assert "".join(piece.text for piece in pieces if piece.how != "gone") == new


def test_no_difference_is_drawn_where_it_would_tell_nothing() -> None:
    assert compare("same", "same") == []
    assert compare("one two three", "vier fünf sechs") == []
    assert compare("w " * MOST_WORDS, "w " * MOST_WORDS + "x") == []
