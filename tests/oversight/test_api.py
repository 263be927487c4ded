"""The API obeys the pages' rules: roles, blindness, filters."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight import tasks, workers
from oversight.models import Label, MetricPoint, Round, Sample, Seed
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user

pytestmark = pytest.mark.django_db
For = Callable[..., Client]
LISTS = ["/api/rounds/", "/api/samples/", "/api/metrics/", "/api/schema/", "/api/docs/", "/api/labels.jsonl"]


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


def text_of(response: Any) -> str:
    return b"".join(response).decode() if response.streaming else response.content.decode()


@pytest.mark.parametrize("address", LISTS)
def test_an_outsider_is_refused(client: Client, address: str) -> None:
    make_round()
    assert client.get(address).status_code == 403


@pytest.mark.parametrize("address", LISTS)
def test_a_closed_account_is_refused(client_for: For, address: str) -> None:
    user = make_user("operator")
    client = client_for(user)
    user.is_active = False
    user.save()
    make_round()
    assert client.get(address).status_code == 403


@pytest.mark.parametrize("address", LISTS[:-1])
def test_everybody_signed_in_reads(client_for: For, address: str) -> None:
    make_round()
    assert client_for("reviewer").get(address).status_code == 200


@pytest.mark.parametrize("address", LISTS[:3])
@pytest.mark.parametrize("query", ["reviewer__password__startswith=x", "ordering=password", "status__in=done"])
def test_an_unknown_filter_is_an_error_not_ignored(client_for: For, address: str, query: str) -> None:
    make_round()
    answer = client_for("operator").get(f"{address}?{query}")
    assert answer.status_code == 400 and "There is no such filter" in answer.content.decode()


@pytest.mark.parametrize("address", LISTS[:3])
@pytest.mark.parametrize("query", ["experiment=1", "experiment=%00", f"experiment={uuid.UUID(int=1)}"])
def test_an_unknown_experiment_is_not_found(client_for: For, address: str, query: str) -> None:
    make_round()
    assert client_for("reviewer").get(f"{address}?{query}").status_code == 404


@pytest.mark.parametrize("query", ["round=%C2%B2", "round=x", "round=9999999999999999999999"])
def test_a_bad_round_number_is_a_400(client_for: For, query: str) -> None:
    make_round()
    assert client_for("reviewer").get(f"/api/metrics/?{query}").status_code == 400


def test_rounds(client_for: For) -> None:
    round = make_round(status="done")
    other = make_round(experiment=round.experiment, status="failed", reason="killed")
    client = client_for("reviewer")
    assert [row["number"] for row in client.get("/api/rounds/").json()["results"]] == [2, 1]
    assert [row["id"] for row in client.get("/api/rounds/?status=failed").json()["results"]] == [str(other.pk)]
    assert client.get("/api/rounds/?status=nonsense").status_code == 400
    assert client.get(f"/api/rounds/{other.pk}/").json()["reason"] == "killed"
    assert client.get(f"/api/rounds/{uuid.uuid4()}/").status_code == 404


@pytest.mark.parametrize(
    ("act", "least"), [("cancel", "researcher"), ("retry", "researcher"), ("close", "lead"), ("", "researcher")]
)
@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher"])
def test_who_may_act(client_for: For, role: str, act: str, least: str) -> None:
    round = make_round(status="failed" if act == "retry" else "reviewing")
    Label.objects.create(sample=make_sample(round=round), violates={"0": 1.0})
    address = f"/api/rounds/{round.pk}/{act}/" if act else "/api/rounds/"
    answer = client_for(role).post(address, "{}", content_type="application/json")
    ladder = ["reviewer", "lead", "researcher"]
    if ladder.index(role) < ladder.index(least):
        assert answer.status_code == 403
    elif act == "":
        assert answer.status_code == 409 and "Round 1 is reviewing" in answer.content.decode()
    else:
        assert answer.status_code == 200
        assert answer.json()["status"] == {"cancel": "cancelled", "retry": "queued", "close": "queued"}[act]


def test_launch(client_for: For) -> None:
    experiment = make_experiment()
    Seed.objects.create(experiment=experiment, key="s", category="c", principle="p", style="q", unsafe="x")
    client = client_for("researcher")

    def post(overrides: Any) -> Any:
        return client.post("/api/rounds/", json.dumps({"overrides": overrides}), content_type="application/json")

    assert post({"budget": "many"}).status_code == 400
    assert post({"colour": 1}).status_code == 400
    assert post([1]).status_code == 400
    assert post({"budget": 3}).json()["config"]["budget"] == 3
    assert Round.objects.count() == 1


def test_samples_keep_verdicts_back_from_those_who_may_be_asked(client_for: For) -> None:
    sample = make_sample(flag_reason="violation")
    make_review(sample=sample, reviewer=make_user(), note="a judgement")
    reviewer, lead = client_for("reviewer"), client_for("lead")
    assert reviewer.get("/api/samples/").json()["results"][0]["flag_reason"] is None
    assert lead.get("/api/samples/").json()["results"][0]["flag_reason"] == "violation"
    assert reviewer.get("/api/samples/?reason=violation").json()["results"] == []
    blind = reviewer.get(f"/api/samples/{sample.pk}/").json()
    assert blind["blind"] and blind["reviews"] == [] and blind["answers"][0]["critique"] is None
    seen = lead.get(f"/api/samples/{sample.pk}/").json()
    assert seen["answers"][0]["critique"]["violation"] == 0.83 and len(seen["reviews"]) == 1


def test_sample_pages_show_every_sample_once(client_for: For) -> None:
    round = make_round()
    made = {str(make_sample(round=round).pk) for _ in range(5)}
    Sample.objects.update(created_at=Sample.objects.latest("created_at").created_at)
    client, seen, address = client_for("lead"), [], "/api/samples/?limit=2"
    while address:
        page = client.get(address).json()
        seen += [row["id"] for row in page["results"]]
        address = page["next"]
    assert len(seen) == 5 and set(seen) == made


def test_a_page_has_a_limit(client_for: For) -> None:
    round = make_round()
    MetricPoint.objects.bulk_create(MetricPoint(round=round, name="m", group=str(i)) for i in range(600))
    assert len(client_for("reviewer").get("/api/metrics/?limit=100000").json()["results"]) == 500


def test_metrics(client_for: For) -> None:
    round = make_round()
    MetricPoint.objects.create(round=round, name="competence", group="1", value=0.5, ci_low=0.4, ci_high=0.6, n=10)
    MetricPoint.objects.create(round=round, name="competence", reason="no probe", n=0)
    client = client_for("reviewer")
    whole = client.get("/api/metrics/?name=competence&group=").json()["results"]
    assert [(row["value"], row["reason"]) for row in whole] == [(None, "no probe")]
    assert len(client.get("/api/metrics/?round=1").json()["results"]) == 2


@pytest.mark.parametrize(("role", "status"), [("reviewer", 403), ("lead", 200), ("researcher", 200)])
def test_who_may_export_labels(client_for: For, role: str, status: int) -> None:
    make_round()
    assert client_for(role).get("/api/labels.jsonl").status_code == status


def test_the_export_is_what_trainers_read(client_for: For) -> None:
    sample = make_sample(prompt="line\u2028one\n=cmd", answers=("bad", "good"), status="decided")
    span = {"answer": 0, "start": 0, "end": 3, "principle": "private-life"}
    marked = make_review(sample=sample, reviewer=make_user(), spans=[span])
    Label.objects.create(
        sample=sample, violates={"0": 1.0, "1": 0.0}, preferred=1, principles=["private-life"], how="agreed",
        evidence=[str(marked.pk)],
    )  # fmt: skip
    elsewhere = make_sample(prompt="another experiment's")
    Label.objects.create(sample=elsewhere, violates={"0": 1.0})
    text = text_of(client_for("lead").get(f"/api/labels.jsonl?experiment={sample.round.experiment_id}"))
    rows = [json.loads(line) for line in text.split("\n") if line]
    assert [(row["completion"], row["label"], row["preferred"]) for row in rows] == [
        ("bad", False, False),
        ("good", True, True),
    ]
    assert rows[0]["prompt"] == "line\u2028one\n=cmd" and rows[0]["principles"] == ["private-life"]
    assert [(row["how"], row["judgements"]) for row in rows] == [("agreed", 1), ("agreed", 1)]
    assert rows[0]["spans"] == [{"start": 0, "end": 3, "principle": "private-life"}] and rows[1]["spans"] == []


def test_as_many_queries_for_many_rows_as_for_one(client_for: For, django_assert_max_num_queries: Any) -> None:
    round, client = make_round(launched_by=make_user()), client_for("lead")
    for address in ("/api/samples/", "/api/rounds/"):
        counts = []
        for size in (1, 10):
            for _ in range(size):
                make_sample(round=make_round(experiment=round.experiment, status="done"))
            with django_assert_max_num_queries(8) as captured:
                client.get(address)
            counts.append(len(captured))
        assert counts[0] == counts[1], address


def test_the_documentation_works_under_the_policy(client_for: For) -> None:
    client = client_for("reviewer")
    page = client.get("/api/docs/")
    text = page.content.decode()
    assert "<style" not in text and "onload" not in text and "unsafe" not in page.headers["Content-Security-Policy"]
    assert [part for part in text.split("<script")[1:] if "src=" not in part.split(">")[0]] == []
    assert b"SwaggerUIBundle" in client.get("/api/docs/?script=").content
