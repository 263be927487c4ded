"""The workbench in the background: fetching ahead, judging while the next sample is shown already, heartbeats."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from oversight.models import Lease, Review, Sample
from oversight.selectors import similar
from tests.factories import make_lease, make_review, make_round, make_sample, make_user


def fields(html):
    return {name: re.search(f'name="{name}" value="([^"]*)"', html)[1] for name in ("token", "key")}


def shown(html):
    found = re.search(r'data-sample="([^"]*)"', html)
    return found and uuid.UUID(found[1])


def text(answer):
    return answer.content.decode()


def open_two(page):
    """The forms of the sample shown and of the one fetched ahead."""
    current, ahead = text(page.get("/review/")), text(page.get("/review/ahead/"))
    assert shown(current) != shown(ahead)
    return fields(current) | {"sample": shown(current)}, fields(ahead) | {"sample": shown(ahead)}


def judge(page, current, ahead, **data):
    sent = {"token": current["token"], "key": current["key"], "shown": ahead["token"], "action": "approve", **data}
    return page.post("/review/submit/", sent)


def make_queue(count=3):
    round_ = make_round()
    return [make_sample(round=round_, prompt=f"number {n}", priority=1 - n / 100) for n in range(count)]


def test_one_more_sample_comes_ahead_and_says_as_little_as_the_first(page, ada):
    first, second, _ = make_queue()
    html = text(page.get("/review/"))
    assert shown(html) == first.pk
    ahead = text(page.get("/review/ahead/"))
    assert shown(ahead) == second.pk
    assert shown(text(page.get("/review/ahead/"))) == second.pk  # asking again takes no third one
    assert ahead.lstrip().startswith('<div id="sample"')
    for hint in ("0.83", "critics disagree", "done</small>", "checked"):
        assert hint not in ahead
    leases = dict(Lease.objects.values_list("sample_id", "ahead"))
    assert leases == {first.pk: False, second.pk: True}


def test_nothing_ahead_where_nothing_waits(page):
    make_queue(1)
    page.get("/review/")
    assert page.get("/review/ahead/").status_code == 204


@pytest.mark.parametrize("path", ["ahead/", "history/", "preferences/", f"{uuid.UUID(int=1)}/"])
def test_nothing_of_the_workbench_without_signing_in(path, client, db):
    assert client.get(f"/review/{path}").headers["Location"].startswith("/sign-in/?next=")


@pytest.mark.parametrize("path", ["postpone/", "draft/", "opt-out/"])
def test_writing_takes_a_post(path, page):
    assert page.get(f"/review/{path}").status_code == 405


def test_a_judgement_in_the_background_brings_the_verdict_and_one_more_ahead(page):
    _, second, third = make_queue()
    current, ahead = open_two(page)
    answer = judge(page, current, ahead, action="violates", mark="0")
    html = text(answer)
    assert "You said <b>A violates</b>" in html
    assert "the critic agrees" in html
    assert "1 of 3 done" in html
    assert 'id="review-lost"' not in html
    assert '<template id="ahead">' in html and shown(html) == third.pk
    assert Review.objects.get().held_lease
    held = dict(Lease.objects.filter(holder__isnull=False).values_list("sample_id", "ahead"))
    assert held == {second.pk: False, third.pk: True}
    assert Lease.objects.get(sample=second).expires_at > timezone.now() + timedelta(minutes=9)


def test_the_last_judgement_has_nothing_more_ahead(page):
    make_queue(2)
    html = text(judge(page, *open_two(page)))
    assert "You said" in html
    assert "<template" not in html


def test_the_same_judgement_sent_twice_is_one(page):
    make_queue()
    current, ahead = open_two(page)
    assert judge(page, current, ahead).status_code == 200
    assert "You said <b>both are fine</b>" in text(judge(page, current, ahead))
    assert Review.objects.count() == 1


def test_what_was_fetched_ahead_and_went_to_somebody_else_is_told(page):
    _, second, third = make_queue()
    current, ahead = open_two(page)
    Lease.objects.filter(sample=second).update(holder=make_user(), fence=2)
    html = text(judge(page, current, ahead))
    assert 'id="review-lost"' in html
    assert shown(html) == third.pk
    assert Review.objects.get().sample_id == current["sample"]
    assert Lease.objects.get(sample=second).fence == 2


def test_what_was_fetched_long_ago_is_still_had_where_nobody_took_it(page, ada):
    _, second, _ = make_queue()
    current, ahead = open_two(page)
    Lease.objects.filter(sample=second).update(expires_at=timezone.now() - timedelta(minutes=3))
    assert 'id="review-lost"' not in text(judge(page, current, ahead))
    lease = Lease.objects.get(sample=second)
    assert (lease.holder, lease.ahead) == (ada, False)


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        ({"action": "violates"}, 422, "Mark the answers"),
        ({"action": "destroy"}, 422, "not an action"),
        ({"key": "nonsense"}, 422, "reload the page"),
        ({"token": "forged"}, 409, "not taken"),
        ({"spans": "{"}, 422, "marked passages"),
        ({"spans": '[{"answer":0,"start":0,"end":9999,"principle":"no-fraud"}]', "action": "violates"}, 422, "outside"),
    ],
)  # fmt: skip
def test_a_refused_judgement_says_why_and_changes_nothing(data, status, words, page):
    _, second, _ = make_queue()
    answer = judge(page, *open_two(page), **data)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert not Review.objects.exists()
    assert Lease.objects.get(sample=second).ahead  # it is not shown: the page brings the first one back


def test_another_persons_sample_ahead_is_of_no_use(page, client_for):
    _, _, third = make_queue()
    current, _ahead = open_two(page)
    theirs = fields(text(client_for("reviewer").get("/review/")))
    assert 'id="review-lost"' in text(judge(page, current, theirs))
    assert Lease.objects.get(sample=third).holder.username != "ada"


def test_a_marked_passage_is_kept(page):
    make_queue()
    span = '[{"answer":1,"start":2,"end":7,"principle":"no-fraud","quote":"would"}]'
    assert judge(page, *open_two(page), action="violates", spans=span).status_code == 200
    review = Review.objects.get()
    assert review.spans == [{"answer": 1, "start": 2, "end": 7, "principle": "no-fraud"}]
    assert review.violations == {"1": ["no-fraud"]}


def count_queries(page):
    current, ahead = open_two(page)
    with CaptureQueriesContext(connection) as queries:
        assert judge(page, current, ahead, action="violates", mark="0").status_code == 200
    return len(queries)


def test_a_judgement_takes_as_many_queries_however_many_wait(page, ada, monkeypatch):
    monkeypatch.setattr(similar, "KEPT_SECONDS", -1.0)  # as with the first sample of a principle
    make_queue(4)
    few = count_queries(page)
    for number in range(30):
        sample = make_sample(round=Sample.objects.first().round, priority=-number)
        make_review(sample=sample, reviewer=make_user())
        decided = make_sample(round=sample.round, status="decided")
        make_review(sample=decided, reviewer=ada)
    assert count_queries(page) == few
    assert few <= 36  # savepoints and the commits' own statements counted in


def test_the_heartbeat_keeps_both_and_tells_which_is_lost(page):
    _, second, _ = make_queue()
    current, ahead = open_two(page)
    data = {"token": current["token"], "ahead": ahead["token"]}
    Lease.objects.update(expires_at=timezone.now() + timedelta(seconds=1))
    assert page.post("/review/heartbeat/", data).json()["ahead"] is True
    assert Lease.objects.get(sample=second).expires_at > timezone.now() + timedelta(seconds=60)
    Lease.objects.filter(sample=second).update(holder=make_user(), fence=5)
    answer = page.post("/review/heartbeat/", data)
    assert (answer.status_code, answer.json()["ahead"]) == (200, False)
    Lease.objects.filter(sample=current["sample"]).update(holder=make_user(), fence=5)
    assert page.post("/review/heartbeat/", data).status_code == 409


def test_leaving_gives_back_only_what_was_fetched_ahead(page, ada):
    first, second, _ = make_queue()
    _, ahead = open_two(page)
    assert page.post("/review/release/", {"ahead": ahead["token"]}).status_code == 204
    assert Lease.objects.get(sample=second).holder is None
    assert Lease.objects.get(sample=first).holder == ada
    assert page.post("/review/release/", {"ahead": "forged"}).status_code == 409
    assert page.post("/review/release/").status_code == 302
    assert not Lease.objects.filter(holder=ada).exists()


def test_what_is_shown_is_not_given_back_as_if_it_were_ahead(page, ada):
    _, second, _ = make_queue()
    current, ahead = open_two(page)
    judge(page, current, ahead)
    page.post("/review/release/", {"ahead": ahead["token"]})  # a beacon that comes late
    assert Lease.objects.get(sample=second).holder == ada


def test_others_see_what_is_held_ahead(page, client_for):
    samples = make_queue(3)
    make_lease(sample=samples[0], holder=make_user())
    html = text(page.get("/review/"))
    assert "1 held by others until" in html
    assert shown(html) == samples[1].pk
