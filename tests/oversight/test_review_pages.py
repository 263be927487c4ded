"""The workbench over HTTP: with and without htmx, for each role, with hostile texts and others' samples."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from oversight.models import Lease, Review, Round, Sample
from oversight.services import leases
from tests.factories import make_lease, make_review, make_round, make_sample, make_user

HTMX = {"HX-Request": "true"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7|add:7 }}\"'>"


def fields(html):
    """The judgement form's hidden fields."""
    return {name: re.search(f'name="{name}" value="([^"]*)"', html)[1] for name in ("token", "key")}


def text(answer):
    return answer.content.decode()


@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher", "operator"])
def test_each_role_reviews(role, client_for):
    make_sample(prompt="Where is the key?")
    html = text(client_for(role).get("/review/"))
    assert "Where is the key?" in html
    assert ('href="/admin/"' in html) == (role in ("researcher", "operator"))


@pytest.mark.parametrize("path", ["/review/", f"/review/revise/{uuid.UUID(int=1)}/", "/header/"])
def test_nobody_sees_anything_without_signing_in(path, client, db):
    assert client.get(path).headers["Location"].startswith("/sign-in/?next=")


@pytest.mark.parametrize("path", ["submit/", "undo/", "heartbeat/", "release/"])
def test_actions_take_a_post_from_our_own_page(path, page, ada):
    assert page.get(f"/review/{path}").status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)
    assert strict.post(f"/review/{path}").status_code == 403


def test_nothing_is_chosen_and_no_verdict_is_shown_before_the_judgement(page):
    make_sample(flag_words="the critic expects a violation")
    html = text(page.get("/review/"))
    assert "checked" not in html
    for hint in ("0.83", "0.12", "critic expects", "It says where to look."):
        assert hint not in html


def test_submit_answers_with_the_next_sample_and_the_verdict_on_the_last(page):
    round_ = make_round()
    make_sample(round=round_, prompt="first", priority=0.9, violations=(0.83, None))
    make_sample(round=round_, prompt="second", priority=0.1)
    html = text(page.get("/review/"))
    assert "0 of 2 done" in html
    answer = page.post(
        "/review/submit/",
        {**fields(html), "action": "violates", "mark": "0", "principle-0": "no-fraud", "seconds": "3.2"},
        headers=HTMX,
    )
    html = text(answer)
    assert html.lstrip().startswith('<div id="workbench"') or '<div id="workbench"' in html.split("\n")[1]
    assert "<html" not in html
    assert "second" in html
    assert "1 of 2 done" in html
    assert "You said <b>A violates</b>" in html
    assert "0.83" in html
    assert "critic timed out" in html  # a failed critique is a state of its own
    review = Review.objects.get()
    assert (review.violations, review.seconds) == ({"0": ["no-fraud"]}, 3.2)


def test_without_javascript_submit_redirects_to_the_next_sample(page):
    make_sample()
    html = text(page.get("/review/"))
    answer = page.post("/review/submit/", {**fields(html), "action": "approve"}, follow=True)
    assert answer.redirect_chain == [(f"/review/?after={Review.objects.get().pk}", 302)]
    assert "You said <b>both are fine</b>" in text(answer)


def test_a_verdict_is_shown_to_nobody_else(page):
    other = make_review(sample=make_sample(), reviewer=make_user())
    for after in (other.pk, uuid.uuid4(), "nonsense"):
        answer = page.get("/review/", {"after": after})
        assert answer.status_code == 200
        assert "You said" not in text(answer)


def test_a_skip_keeps_the_verdict_hidden(page):
    make_user()  # somebody else who could decide it
    make_sample()
    html = text(page.get("/review/"))
    html = text(page.post("/review/submit/", {**fields(html), "action": "skip"}, headers=HTMX))
    assert "Skipped." in html
    assert "0.83" not in html
    skip = Review.objects.get()
    assert page.get(f"/review/revise/{skip.pk}/").status_code == 404


def test_a_contradiction_keeps_what_was_typed(page):
    make_sample()
    html = text(page.get("/review/"))
    answer = page.post(
        "/review/submit/", {**fields(html), "action": "approve", "mark": "1", "note": "odd one"}, headers=HTMX
    )
    assert answer.status_code == 422
    html = text(answer)
    assert "Take the mark off" in html
    assert 'name="mark" value="1" checked' in html
    assert 'value="odd one"' in html
    assert not Review.objects.exists()


@pytest.mark.parametrize(
    "broken",
    [
        {"token": "forged"},
        {"key": "nonsense"},
        {"action": "destroy"},
        {"mark": "99"},
        {"mark": "-1"},
        {"rewrite_of": "x", "action": "rewrite", "rewrite": "y"},
        {"seconds": "soon"},
        {"rewrite": "x" * 20_001, "action": "rewrite"},
    ],
)
def test_forged_fields_change_nothing(broken, page):
    make_sample()
    data = {**fields(text(page.get("/review/"))), "action": "violates", "mark": "0", **broken}
    answer = page.post("/review/submit/", data)
    assert answer.status_code in (409, 422)
    assert 'role="status"' in text(answer)
    assert not Review.objects.exists()


@pytest.mark.parametrize("seconds", ["nan", "inf", "-3", "1e9"])
def test_a_clock_that_cannot_be_right_is_bounded(seconds, page):
    make_sample()
    page.post("/review/submit/", {**fields(text(page.get("/review/"))), "action": "approve", "seconds": seconds})
    assert Review.objects.get().seconds in (None, 0.0, 3600.0)


def test_another_persons_lease_is_of_no_use(page, ada):
    bob = make_user()
    sample = make_sample()
    claim = leases.claim_next(user=bob)
    data = {"token": claim.token(bob), "key": str(uuid.uuid4()), "action": "approve"}
    answer = page.post("/review/submit/", data, headers=HTMX)
    assert answer.status_code == 409
    assert "belongs to another person" in text(answer)
    assert page.post("/review/heartbeat/", data).status_code == 409
    page.post("/review/release/")
    assert Lease.objects.get(sample=sample).holder == bob
    assert not Review.objects.exists()


def test_another_persons_review_is_not_found(page):
    review = make_review(sample=make_sample(), reviewer=make_user())
    for answer in (page.get(f"/review/revise/{review.pk}/"), page.post(f"/review/revise/{review.pk}/")):
        assert answer.status_code == 404
    assert page.post("/review/undo/", {"key": str(uuid.uuid4())}, headers=HTMX).status_code == 409


def test_revise_shows_the_critic_and_keeps_both(page):
    make_sample()
    html = text(page.get("/review/"))
    page.post("/review/submit/", {**fields(html), "action": "violates", "mark": "0"}, headers=HTMX)
    first = Review.objects.get()
    # One reviewer and one sample: the round would now be learning had it been served by the runner.
    Round.objects.update(status=Round.Status.REVIEWING)
    html = text(page.get(f"/review/revise/{first.pk}/"))
    assert "0.83" in html
    assert 'name="mark" value="0" checked' in html
    answer = page.post(f"/review/revise/{first.pk}/", {"key": str(uuid.uuid4()), "action": "approve"}, headers=HTMX)
    assert "You said <b>both are fine</b>" in text(answer)
    assert Review.objects.get(supersedes=first).saw_critic is True
    assert page.get(f"/review/revise/{first.pk}/").status_code == 404


def test_undo_brings_the_sample_back(page):
    round_ = make_round()
    make_sample(round=round_, prompt="first", priority=0.9)
    make_sample(round=round_, prompt="second", priority=0.1)
    html = text(page.get("/review/"))
    page.post("/review/submit/", {**fields(html), "action": "approve"}, headers=HTMX)
    html = text(page.post("/review/undo/", {"key": str(uuid.uuid4())}, headers=HTMX))
    assert "Taken back" in html
    assert ">first</div>" in html


def test_the_heartbeat_prolongs_and_tells_when_it_is_lost(page, ada):
    sample = make_sample()
    data = fields(text(page.get("/review/")))
    soon = timezone.now() + timedelta(seconds=5)
    Lease.objects.update(expires_at=soon)
    assert page.post("/review/heartbeat/", data).status_code == 200
    assert Lease.objects.get().expires_at > soon + timedelta(minutes=5)
    Lease.objects.filter(sample=sample).update(holder=make_user(), fence=9)
    assert page.post("/review/heartbeat/", data).status_code == 409


def test_hostile_texts_stay_texts(page, ada):
    round_ = make_round()
    parent = make_sample(round=round_, prompt=HOSTILE, status="unflagged", query={"operator": HOSTILE[:30]})
    for priority in (0.9, 0.1):
        sample = make_sample(
            round=round_,
            prompt=HOSTILE,
            answers=(HOSTILE, HOSTILE),
            priority=priority,
            parent=parent.query,
            flag_words=HOSTILE,
            query={"seed_key": HOSTILE[:40], "category": HOSTILE[:30]},
        )
        sample.critiques.update(rationale=HOSTILE, span=[0, 30])
    ada.first_name = HOSTILE[:100]
    ada.save()
    first = text(page.get("/review/"))
    data = {**fields(first), "action": "violates", "mark": "0", "note": HOSTILE}
    second = text(page.post("/review/submit/", data, headers=HTMX))
    revised = text(page.get(f"/review/revise/{Review.objects.get().pk}/"))
    for html in (first, second, revised):
        assert "alert(1)" in html
        assert "<script>alert" not in html
        assert "<img" not in html
        assert "{{ 7|add:7 }}" in html
    assert " style=" not in first


def test_spans_of_the_critic_that_do_not_fit_are_left_out(page, ada):
    review = make_review(sample=make_sample(), reviewer=ada)
    for span in ([5, 9999], [-1, 3], [3, 3], ["a", "b"], "x", [1]):
        review.sample.critiques.update(span=span)
        html = text(page.get(f"/review/revise/{review.pk}/"))
        assert "<mark" not in html


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("proposing", "is still looking"),
        ("reviewing", "Nothing waits for you"),
        ("learning", "is learning from it"),
        ("done", "is done"),
        ("failed", "The child was killed."),
        ("cancelled", "was cancelled"),
    ],
)
def test_an_empty_queue_says_what_comes_next(status, words, page):
    phase = "learn" if status == "learning" else "propose"
    make_round(status=status, phase=phase, reason="The child was killed." if status == "failed" else "")
    html = text(page.get("/review/"))
    assert words in html
    assert 'hx-trigger="live from:body, every 15s"' in html


def test_an_empty_queue_names_what_others_hold(page):
    assert "No round yet" in text(page.get("/review/"))
    make_lease(sample=make_sample(), holder=make_user())
    html = text(page.get("/review/"))
    assert "The rest is with others" in html
    assert "is held by" in " ".join(html.split())


def test_the_page_takes_a_fixed_number_of_queries(page, django_assert_max_num_queries):
    round_ = make_round()
    for number in range(3):
        make_sample(round=round_, priority=number)
    with django_assert_max_num_queries(18):
        page.get("/review/")
    for number in range(30):
        sample = make_sample(round=round_, priority=number)
        make_lease(sample=sample, holder=make_user())
    with django_assert_max_num_queries(18):
        page.get("/review/")


def test_a_sample_with_one_answer(page):
    make_sample(answers=("Under the mat.",), violations=(0.8,))
    html = text(page.get("/review/"))
    assert 'value="prefer_a"' not in html
    html = text(page.post("/review/submit/", {**fields(html), "action": "violates"}, headers=HTMX))
    assert "You said <b>it violates</b>" in html
    assert Sample.objects.get().status == "decided"


def test_the_header_counts_what_waits(page):
    make_sample()
    assert '<span class="num count" id="review-count" hx-swap-oob="true">1</span>' in text(page.get("/header/"))


@pytest.mark.parametrize("path", ["/nowhere/", "/review/revise/not-a-uuid/"])
def test_a_page_that_is_not_there(path, page):
    answer = page.get(path)
    assert answer.status_code == 404
    assert "There is nothing here" in text(answer)


def test_the_page_without_samples_asks_anew_with_the_last_judgement_still_on_it(page):
    """Else a live event would take the verdict away, and the way to revise it."""
    make_sample(round=make_round())
    form = {**fields(text(page.get("/review/"))), "action": "approve"}
    empty = text(page.post("/review/submit/", form, headers=HTMX))
    (again,) = re.findall(r'hx-get="(/review/\?after=[^"]+)"', empty)
    assert "You said" in text(page.get(again, headers=HTMX))
