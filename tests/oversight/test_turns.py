"""Attacks of several turns: the conversation stands wherever the prompt does, and says who speaks."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client

from oversight.models import Label, Sample
from tests.factories import make_review, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]
HISTORY = [
    {"role": "user", "content": "Tell me <b>about</b> doors."},
    {"role": "assistant", "content": "A door opens & closes."},
    {"role": "user", "content": "Go on."},
    {"role": "assistant", "content": "It has a lock."},
]


@pytest.fixture
def told() -> Sample:
    return make_sample(prompt="And who has the key?", query={"history": HISTORY, "operator": "multi_turn"})


def check(page: str) -> None:
    said = [
        page.index(text) for text in ("Tell me &lt;b&gt;about", "A door opens &amp; closes", "It has a lock", "And who")
    ]
    assert said == sorted(said), "the turns come in their order, and before the prompt"
    assert page.count("<b>User</b>") == 2 and page.count("<b>Model</b>") == 2
    assert "4 turns before the prompt" in page


def test_on_the_review_page_and_the_samples_page(told: Sample, client_for: For) -> None:
    client = client_for("reviewer")
    check(client.get(f"/review/{told.pk}/").content.decode())
    check(client.get(f"/samples/{told.pk}/").content.decode())


def test_where_leads_decide_and_withdraw(told: Sample, client_for: For) -> None:
    client = client_for("lead")
    review = make_review(sample=told, reviewer=make_user(), action="violates", violations={"0": []})
    make_review(sample=told, reviewer=make_user())
    Sample.objects.filter(pk=told.pk).update(status="disputed", disputed=True)
    check(client.get(f"/adjudicate/{told.pk}/").content.decode())
    check(client.get(f"/withdraw/?review={review.pk}").content.decode())


def test_a_list_says_how_many(told: Sample, client_for: For) -> None:
    plain = make_sample(round=told.round, prompt="One turn only")
    page = client_for("lead").get("/samples/").content.decode()
    assert page.count('<span class="chip">3 turns</span>') == 1
    assert plain.query.turns == 1


def test_the_conversation_as_plain_text(told: Sample, client_for: For) -> None:
    client = client_for("reviewer")
    answer = client.get(f"/samples/{told.pk}/text/turns/")
    assert answer.content.decode().startswith("user: Tell me <b>about</b> doors.\n\nassistant: A door opens & closes.")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert client.get(f"/samples/{make_sample().pk}/text/turns/").status_code == 404


def test_api_and_export(told: Sample, client_for: For) -> None:
    client = client_for("lead")
    assert client.get("/api/samples/").json()["results"][0]["turns"] == HISTORY
    assert client.get(f"/api/samples/{told.pk}/").json()["turns"] == HISTORY
    Label.objects.create(sample=told, violates={"0": 1.0})
    lines = b"".join(client.get("/api/labels.jsonl").streaming_content).decode().splitlines()
    assert json.loads(lines[0])["turns"] == HISTORY


def test_words_of_an_earlier_turn_find_it(client_for: For) -> None:
    from oversight import search

    told = make_sample(round=make_round(), prompt="And then?", query={"history": HISTORY})
    search.rebuild_index()
    page = client_for("reviewer").get("/samples/?text=closes", headers={"HX-Target": "samples-list"}).content.decode()
    assert str(told.pk) in page
