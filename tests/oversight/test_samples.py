"""/samples/: filters that can't be bent, pages that don't skip, and nothing that sways a judgement."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight.models import Critique, Label, Sample
from oversight.selectors.samples import SampleFilter, list_samples, mark_span
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user

pytestmark = pytest.mark.django_db
For = Callable[..., Client]


def test_an_outsider_is_sent_to_sign_in(client: Client) -> None:
    for address in ("/samples/", f"/samples/{make_sample().pk}/"):
        assert client.get(address).headers["Location"].startswith("/sign-in/")


def test_bad_ids_are_not_found(client_for: For) -> None:
    client = client_for("reviewer")
    assert client.get(f"/samples/{uuid.uuid4()}/").status_code == 404
    assert client.get("/samples/7/").status_code == 404


def test_filters(client_for: For) -> None:
    round = make_round()
    make_sample(round=round, prompt="first", status="decided", query={"category": "fraud"})
    make_sample(round=round, prompt="second", status="unflagged", query={"kind": "harmless"})
    client = client_for("reviewer")

    def shown(query: str) -> list[str]:
        page = client.get(f"/samples/?{query}", headers={"HX-Target": "samples-list"}).content.decode()
        return [name for name in ("first", "second") if f">{name}<" in page]

    assert shown("") == ["first", "second"]
    assert shown("status=decided") == ["first"]
    assert shown("category=fraud") == ["first"]
    assert shown("kind=harmless") == ["second"]
    assert shown("text=SECO") == ["second"]
    assert shown("round=2") == [] and shown("round=1") == ["first", "second"]


@pytest.mark.parametrize(
    "query",
    [
        "reviews__reviewer__password__startswith=md5", "round__launched_by__password=x", "status=queued'--",
        "round=1%00", "text=%00", "after=nonsense", "after=bnVsbA==", "round=99999999999999999999", "order=password",
        "experiment=1%20OR%201", "status__in=queued", "category=%00",
    ],
)  # fmt: skip
def test_no_other_column_can_be_asked_for(client_for: For, query: str) -> None:
    make_sample(prompt="the only one")
    page = client_for("reviewer").get(f"/samples/?{query}")
    assert page.status_code == 200 and b"the only one" in page.content


def test_filters_are_links() -> None:
    wanted = SampleFilter.from_query({"status": "decided", "text": "a & b", "kind": "nonsense", "round": "3"})
    assert wanted.link() == "round=3&status=decided&text=a+%26+b"


def test_pages_show_every_sample_once() -> None:
    experiment = make_experiment()
    round = make_round(experiment=experiment)
    made = {make_sample(round=round).pk for _ in range(7)}
    Sample.objects.update(created_at=Sample.objects.latest("created_at").created_at)  # as a bulk insert leaves them
    seen, after = [], ""
    while True:
        page = list_samples(experiment, SampleFilter(), blind=False, after=after, size=3)
        seen += [sample.pk for sample in page.samples]
        after = page.next
        if not after:
            break
    assert len(seen) == 7 and set(seen) == made


def test_as_many_queries_for_many_samples_as_for_one(client_for: For, django_assert_max_num_queries: Any) -> None:
    round, client, counts = make_round(), client_for("reviewer"), []
    for size in (1, 20):
        for _ in range(size):
            make_sample(round=round)
        with django_assert_max_num_queries(12) as captured:
            client.get("/samples/")
        counts.append(len(captured))
    assert counts[0] == counts[1]


# --- One sample -------------------------------------------------------------------------------------

VERDICT, OTHERS = "violation 0.83", "the other reviewer's note"


@pytest.fixture
def judged_by_another() -> Sample:
    sample = make_sample(flag_words="the critic expects a violation")
    make_review(sample=sample, reviewer=make_user("reviewer", username="bea"), note=OTHERS.replace("'", ""))
    return sample


def page_of(client: Client, sample: Sample) -> str:
    return client.get(f"/samples/{sample.pk}/").content.decode()


def test_a_reviewer_who_may_still_be_asked_sees_no_verdict(client_for: For, judged_by_another: Sample) -> None:
    page = page_of(client_for("reviewer"), judged_by_another)
    for kept_back in (VERDICT, "bea", "critic expects", "disagreement", "It says where to look"):
        assert kept_back not in page, kept_back
    assert "once you have judged" in page and "Look under the mat" in page


def test_after_the_own_judgement_everything_is_shown(client_for: For, judged_by_another: Sample) -> None:
    ada = make_user("reviewer", username="ada")
    make_review(sample=judged_by_another, reviewer=ada, action="skip")
    assert VERDICT not in page_of(client_for(ada), judged_by_another), "a skip is no judgement"
    make_review(sample=judged_by_another, reviewer=ada, action="violates")
    page = page_of(client_for(ada), judged_by_another)
    assert VERDICT in page and "bea" in page


@pytest.mark.parametrize("role", ["lead", "researcher", "operator"])
def test_leads_and_above_see_it_all(client_for: For, judged_by_another: Sample, role: str) -> None:
    page = page_of(client_for(role), judged_by_another)
    assert VERDICT in page and "bea" in page


def test_a_closed_round_has_nothing_to_keep_back(client_for: For) -> None:
    assert VERDICT in page_of(client_for("reviewer"), make_sample(round=make_round(status="done")))
    assert VERDICT in page_of(client_for("reviewer"), make_sample(status="decided"))


def test_the_list_keeps_the_reason_back_too(client_for: For) -> None:
    make_sample(flag_reason="violation", prompt="open one")
    address = "/samples/?reason=violation"
    headers = {"HX-Target": "samples-list"}
    assert b"open one" not in client_for("reviewer").get(address, headers=headers).content
    assert b"open one" in client_for("lead").get(address, headers=headers).content
    assert b"violation" not in client_for("reviewer").get("/samples/", headers=headers).content


def test_model_text_is_escaped_and_the_span_marked(client_for: For) -> None:
    evil = "<img src=x onerror=alert(1)>"
    sample = make_sample(prompt=evil, answers=(f"one {evil} two", evil), status="decided")
    Critique.objects.filter(sample=sample, response_index=0).update(span=[4, 8], rationale=evil)
    make_review(sample=sample, reviewer=make_user(), note=evil, rewrite=evil, violations={evil: [evil]})
    Label.objects.create(sample=sample, violates={"0": 0.5}, rewrite=evil, principles=[evil])
    page = page_of(client_for("lead"), sample)
    assert evil not in page
    assert "one <mark>&lt;img</mark> src=x" in page


def test_the_lineage_is_shown_oldest_first(client_for: For) -> None:
    first = make_sample(prompt="the seed")
    second = make_sample(round=first.round, prompt="its paraphrase", parent=first.query)
    third = make_sample(round=first.round, prompt="its persona", parent=second.query)
    page = page_of(client_for("lead"), third)
    assert "From 2 earlier versions" in page
    assert page.index("the seed") < page.index("its paraphrase")


def test_a_failed_critique_is_no_low_score(client_for: For) -> None:
    page = page_of(client_for("lead"), make_sample(violations=(None, 0.1)))
    assert "no verdict: timeout" in page


@pytest.mark.parametrize(
    ("span", "marked"),
    [([0, 2], "ab"), ([3, 99], "d"), ([-5, 1], "a"), ([2, 2], ""), (None, ""), ([1], ""), ([9, 12], "")],
)
def test_a_span_outside_the_text_breaks_nothing(span: list[int] | None, marked: str) -> None:
    parts = mark_span("abcd", span)
    assert "".join(part.text for part in parts) == "abcd"
    assert "".join(part.text for part in parts if part.marked) == marked
