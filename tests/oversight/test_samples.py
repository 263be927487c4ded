"""/samples/: filters that can't be bent, pages that don't skip, and nothing that sways a judgement."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight.models import Checkpoint, Critique, Label, Sample, TrainedOn
from oversight.selectors.sample_filter import SampleFilter, open_sight
from oversight.selectors.sample_history import read_history
from oversight.selectors.samples import list_samples
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
    seen, after, sight = [], "", open_sight(make_user("lead"), experiment)
    while True:
        page = list_samples(experiment, SampleFilter(), sight=sight, after=after, size=3)
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


def texts_of(client: Client, query: str) -> list[str]:
    """The prompts that the list shows."""
    page = client.get(f"/samples/?{query}", headers={"HX-Target": "samples-list"}).content.decode()
    return re.findall(r'<td class="query"[^>]*><a [^>]*>([^<]*)</a>', page)


def test_what_leads_filter_by(client_for: For) -> None:
    round, ada = make_round(), make_user(username="ada")
    make_sample(round=round, prompt="disputed", status="disputed", disputed=True)
    make_sample(round=round, prompt="gold", status="decided", gold=True)
    make_sample(round=round, prompt="assigned", assigned_to=ada)
    make_review(sample=make_sample(round=round, prompt="judged", status="decided"), reviewer=ada)
    skipped = make_sample(round=round, prompt="skipped")
    make_review(sample=skipped, reviewer=ada, action="skip")
    undone = make_review(sample=make_sample(round=round, prompt="undone"), reviewer=ada)
    make_review(sample=undone.sample, reviewer=ada, action="undo", supersedes=undone)
    lead = client_for("lead")
    assert texts_of(lead, "status=disputed") == texts_of(lead, "disputed=yes") == ["disputed"]
    assert texts_of(lead, "gold=yes") == ["gold"]
    assert texts_of(lead, "assigned=ada") == ["assigned"]
    assert texts_of(lead, "reviewer=ada") == ["judged"]
    assert texts_of(lead, "reviewer=ada&status=queued") == []
    assert texts_of(lead, "reviewer=nobody") == []


def test_what_reviewers_may_not_ask_is_ignored(client_for: For) -> None:
    round, ada, bea = make_round(), make_user(username="ada"), make_user(username="bea")
    make_review(sample=make_sample(round=round, prompt="of ada", status="decided", gold=True), reviewer=ada)
    make_review(sample=make_sample(round=round, prompt="of bea", status="disputed", disputed=True), reviewer=bea)
    mine = client_for(ada)
    everything = ["of bea", "of ada"]
    assert texts_of(mine, "reviewer=ada") == ["of ada"]
    for query in ("reviewer=bea", "assigned=bea", "gold=yes", "disputed=yes", "status=disputed"):
        assert texts_of(mine, query) == everything, query
        rows = mine.get(f"/api/samples/?{query}").json()["results"]
        assert len(rows) == 2, query


def test_a_dispute_looks_as_if_it_waited(client_for: For) -> None:
    sample = make_sample(prompt="contested", status="disputed", disputed=True, gold=True)
    reviewer, lead = client_for("reviewer"), client_for("lead")
    page = reviewer.get("/samples/?status=queued").content.decode()
    assert "contested" in page and ">disputed<" not in page and ">gold<" not in page
    one = page_of(reviewer, sample)
    assert "disputed" not in one.lower() and VERDICT not in one
    assert reviewer.get(f"/api/samples/{sample.pk}/").json()["status"] == "queued"
    assert reviewer.get("/api/samples/").json()["results"][0]["status"] == "queued"
    assert "disputed" in page_of(lead, sample) and ">disputed<" in lead.get("/samples/").content.decode()


def test_a_known_answer_is_not_recognisable_before_it_was_given(client_for: For) -> None:
    """With gold in the queue every decided sample that one never judged is kept back, gold or not."""
    ada = make_user(username="ada")
    experiment = make_experiment(gold_share=0.1)
    round = make_round(experiment=experiment, status="done")
    gold = make_sample(round=round, status="decided", gold=True, flag_reason="violation")
    plain = make_sample(round=round, status="decided", flag_reason="violation")
    pages = [page_of(client_for(ada), sample) for sample in (gold, plain)]
    for page in pages:
        assert VERDICT not in page and "once you have judged" in page and "known" not in page and ">gold<" not in page
    assert texts_of(client_for(ada), "reason=violation") == []
    make_review(sample=gold, reviewer=ada, purpose="gold")
    assert VERDICT in page_of(client_for(ada), gold)


def test_presets_are_links_to_filters(client_for: For) -> None:
    ada = make_user("lead", username="ada")
    sample = make_sample(prompt="mine")
    make_review(sample=sample, reviewer=ada)
    page = client_for(ada).get("/samples/").content.decode()
    assert "reviewer=ada" in page and "status=excluded" in page
    assert "status=excluded" not in client_for("reviewer").get("/samples/").content.decode().replace("<option", "")


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
    make_review(sample=sample, reviewer=make_user(), note=evil, rewrite=evil, violations={"0": [evil]})
    Label.objects.create(sample=sample, violates={"0": 0.5}, rewrite=evil, principles=[evil])
    page = page_of(client_for("lead"), sample)
    assert evil not in page
    assert "&lt;img</mark> src=x" in page


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
    [([0, 2], "ab"), ([3, 99], "d"), ([-5, 1], "a"), ([2, 2], ""), (None, ""), ([1], ""), ([9, 12], ""), ("ab", "")],
)
def test_a_span_outside_the_text_breaks_nothing(span: Any, marked: str) -> None:
    sample = make_sample(answers=("abcd",), violations=(0.9,))
    Critique.objects.filter(sample=sample).update(span=span)
    (answer,) = read_history(sample, user=make_user("lead")).answers
    assert "".join(answer.text[start:end] for start, end, _, _ in answer.marks) == marked


def test_the_whole_history_of_one(client_for: For) -> None:
    ada, bea, lead = make_user(username="ada"), make_user(username="bea"), make_user("lead", username="lea")
    sample = make_sample(status="decided", answers=("Look under the mat.", "Ask."), flag_words="the critics disagree")
    first = make_review(sample=sample, reviewer=ada, action="approve")
    span = {"answer": 0, "start": 5, "end": 14, "principle": "private-life"}
    second = make_review(
        sample=sample, reviewer=ada, action="violates", violations={"0": ["private-life"]}, spans=[span],
        supersedes=first, saw_critic=True,
    )  # fmt: skip
    make_review(sample=sample, reviewer=bea, action="skip", skip_reason="expertise")
    make_review(sample=sample, reviewer=bea, action="approve", held_lease=False)
    decision = make_review(sample=sample, reviewer=lead, action="prefer_b", purpose="adjudication")
    Label.objects.create(
        sample=sample, violates={"0": 1.0, "1": 0.0}, preferred=1, how="adjudicated", evidence=[str(decision.pk)]
    )
    later = make_round(experiment=sample.experiment, status="done")
    TrainedOn.objects.create(round=later, sample=sample)
    Checkpoint.objects.create(
        experiment=sample.experiment, round=later, role="learner", path="x", sha256="0" * 64, verdict="rolled back"
    )
    page = page_of(client_for(lead), sample)
    for shown in (
        "corrected", "in the label", "late", "Outside my expertise", "under the", "a lead's decision", "adjudicated",
        "B over A", "learner rolled back", f"/rounds/{later.pk}/", "a chance of 40%", "The critics disagree",
        "Trained the learner of round 2: rolled back", "after the critic", "Seed privacy-118",
    ):  # fmt: skip
        assert shown in page, shown
    assert "&lt;mark" not in page and "<mark" in page
    history = read_history(sample, user=lead)
    assert [turn.ended for turn in history.turns] == ["corrected", "", "", "", ""]
    assert [turn.counts for turn in history.turns] == [False] * 4 + [True]
    assert (5, 14) in {mark[:2] for mark in history.answers[0].marks}
    assert second.pk != first.pk


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"audit": True, "flag_reason": "audit", "flag_words": "drawn for the audit, a chance of 10%"},
            "Drawn for the audit, a chance of 10%: the audit draws",
        ),
        ({"flag_reason": "violation", "flag_words": "looks bad"}, "Looks bad; it had a chance of 40% of going to"),
        ({"flag_reason": "", "flag_words": "", "status": "unflagged"}, "Not flagged, the critic alone decides; it"),
    ],
)  # fmt: skip
def test_why_it_is_here_in_one_sentence(client_for: For, fields: dict[str, Any], words: str) -> None:
    page = page_of(client_for("lead"), make_sample(**fields))
    assert words in page and page.count("chance of") == 1


def test_one_sample_takes_as_many_queries_whoever_judged_it(django_assert_max_num_queries: Any) -> None:
    sample, lead, counts = make_sample(), make_user("lead"), []
    for _ in range(2):
        for _ in range(5):
            make_review(sample=sample, reviewer=make_user())
        with django_assert_max_num_queries(12) as captured:
            read_history(sample, user=lead)
        counts.append(len(captured))
    assert counts[0] == counts[1]
