"""The overview: what each role sees, and how few queries it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from redis.exceptions import ConnectionError as Down

from oversight import tasks, workers
from oversight.models import Checkpoint, MetricPoint, Round, Seed
from tests.factories import make_experiment, make_round, make_sample

pytestmark = pytest.mark.django_db
For = Callable[..., Client]


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


def measure(round: Round, name: str, old: float, new: float) -> None:
    for model, value in (("old", old), ("new", new)):
        MetricPoint.objects.create(
            round=round, name=name, model=model, value=value, ci_low=value - 0.1, ci_high=value + 0.1, n=60
        )


def test_nobody_is_sent_to_sign_in(client: Client) -> None:
    assert client.get("/").headers["Location"].startswith("/sign-in/")


def test_an_empty_database_says_what_comes_next(client_for: For) -> None:
    assert b"No experiment yet" in client_for("reviewer").get("/").content


def test_cards_show_the_kept_checkpoint_with_interval_and_n(client_for: For) -> None:
    experiment = make_experiment(name="Laptop demo")
    first = make_round(experiment=experiment, status="done", config={"over_refusal_limit": 0.05})
    measure(first, "attack_success", 0.78, 0.49)
    measure(first, "over_refusal", 0.02, 0.04)
    second = make_round(experiment=experiment, status="done", config={"over_refusal_limit": 0.05})
    measure(second, "attack_success", 0.49, 0.12)
    Checkpoint.objects.create(
        experiment=experiment, round=second, role="learner", path="x", sha256="a" * 64, verdict="rolled back"
    )
    page = client_for("reviewer").get("/").content.decode()
    assert "49%" in page and "39%–59% · n 60 · was 78%" in page
    assert "limit 7%" in page
    assert "no round has measured it yet" in page, "competence says why there is no number"
    assert "rolled back" in page and "base model" in page


def test_only_a_researcher_gets_the_launch_form(client_for: For) -> None:
    experiment = make_experiment()
    Seed.objects.create(experiment=experiment, key="s", category="c", principle="p", style="q", unsafe="x")
    for role, there in (("reviewer", False), ("lead", False), ("researcher", True), ("operator", True)):
        assert (b"Launch round 1</button>" in client_for(role).get("/").content) is there, role


def test_the_chosen_experiment(client_for: For) -> None:
    one, other = make_experiment(name="One"), make_experiment(name="Other")
    make_round(experiment=one)
    client = client_for("reviewer")
    assert b"<h1>One</h1>" in client.get("/").content, "the one with the newest round"
    assert b"<h1>Other</h1>" in client.get(f"/?experiment={other.pk}").content
    assert b"<h1>One</h1>" in client.get("/?experiment=nonsense").content


def test_the_part_that_refreshes_itself(client_for: For) -> None:
    make_round(experiment=make_experiment())
    page = client_for("reviewer").get("/", headers={"HX-Request": "true", "HX-Target": "overview-live"})
    assert page.content.lstrip().startswith(b'<div id="overview-live"')


def test_a_broker_that_is_down_does_not_take_the_page_with_it(client_for: For, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: str) -> list[str]:
        raise Down("refused")

    monkeypatch.setattr(workers, "listening", refuse)
    make_round(experiment=make_experiment())
    page = client_for("researcher").get("/")
    assert page.status_code == 200 and b"The broker does not answer" in page.content


def test_as_many_queries_for_many_rounds_as_for_one(
    client_for: For, django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    experiment = make_experiment()
    client = client_for("reviewer")
    counts = []
    for size in (1, 6):
        for _ in range(size):
            round = make_round(experiment=experiment, status="done")
            measure(round, "attack_success", 0.5, 0.4)
            make_sample(round=round)
        with django_assert_max_num_queries(22) as captured:
            assert client.get("/").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]
