"""Links to one sample, skips with reasons, postponing, drafts, and what the page says before and after."""

from __future__ import annotations

import json
import re
import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from oversight.models import Draft, Label, Lease, Postponement, Review, Round, Sample
from oversight.selectors import round_counts
from oversight.services import leases, reviews
from oversight.services.judgements import Judgement
from tests.factories import make_experiment, make_lease, make_review, make_round, make_sample, make_user

HTMX = {"HX-Request": "true"}


def fields(html):
    return {name: re.search(f'name="{name}" value="([^"]*)"', html)[1] for name in ("token", "key")}


def shown(html):
    found = re.search(r'data-sample="([^"]*)"', html)
    return found and uuid.UUID(found[1])


def text(answer):
    return " ".join(answer.content.decode().split())


def submit(page, html, **data):
    return text(page.post("/review/submit/", {**fields(html), "action": "approve", **data}, headers=HTMX))


def decide(sample, *, user, **judgement):
    claim = leases.take(sample=sample, user=user)
    judged = Judgement(**{"action": "violates", "violations": {"0": []}, **judgement})
    return reviews.record_review(user=user, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(), judgement=judged)


# --- Links ------------------------------------------------------------------------------------------


def test_the_address_of_a_sample_opens_exactly_that_one(page, ada):
    round_ = make_round()
    first = make_sample(round=round_, priority=0.9)
    wanted = make_sample(round=round_, priority=0.1)
    assert f'data-url="/review/{first.pk}/"' in text(page.get("/review/"))
    assert shown(text(page.get(f"/review/{wanted.pk}/"))) == wanted.pk
    assert list(Lease.objects.filter(holder=ada).values_list("sample", flat=True)) == [wanted.pk]
    html = submit(page, text(page.get(f"/review/{wanted.pk}/")))  # a reload shows it again
    assert "because you opened its link" in html
    assert shown(html) == first.pk


def test_a_link_to_what_somebody_else_holds_says_until_when_and_not_who(page):
    sample = make_sample()
    make_lease(sample=sample, holder=make_user(username="secretive"))
    answer = page.get(f"/review/{sample.pk}/")
    assert answer.status_code == 409
    until = timezone.localtime(Lease.objects.get().expires_at).strftime("%H:%M")
    assert f"Somebody else is reviewing this sample, until {until}" in text(answer)
    assert "secretive" not in text(answer)
    assert shown(text(answer)) is None


def test_a_link_to_an_own_judgement_leads_to_its_revision(page, ada):
    sample = make_sample()
    review = decide(sample, user=ada)
    Round.objects.update(status="reviewing")
    answer = page.get(f"/review/{sample.pk}/")
    assert answer.status_code == 409
    assert f'href="/review/revise/{review.pk}/"' in text(answer)
    Round.objects.update(status="done")
    assert "/review/revise/" not in text(page.get(f"/review/{sample.pk}/"))


def test_a_link_to_nothing_is_not_found(page):
    answer = page.get(f"/review/{uuid.uuid4()}/")
    assert answer.status_code == 404
    assert "There is no such sample" in text(answer)


def test_a_link_to_a_sample_for_somebody_else_names_nobody(page):
    sample = make_sample(assigned_to=make_user(username="secretive"), rank=Sample.Rank.ASSIGNED)
    html = text(page.get(f"/review/{sample.pk}/"))
    assert "assigned to somebody else" in html
    assert "secretive" not in html


# --- Skip, later, undo ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "words"),
    [("unclear", "Skipped: unclear."), ("expertise", "Skipped: outside my expertise."), ("", "Skipped. It goes")],
)
def test_a_skip_keeps_its_reason(reason, words, page):
    make_user()
    make_sample()
    html = text(page.get("/review/"))
    assert f'name="skip" value="{reason}"' in html
    assert words in text(page.post("/review/submit/", {**fields(html), "skip": reason}, headers=HTMX))
    assert (Review.objects.get().action, Review.objects.get().skip_reason) == ("skip", reason)


def test_a_skip_for_a_reason_that_there_is_not_is_refused(page):
    make_sample()
    html = text(page.get("/review/"))
    assert page.post("/review/submit/", {**fields(html), "skip": "bored"}, headers=HTMX).status_code == 422
    assert not Review.objects.exists()


def test_what_was_harmful_to_read_need_not_come_again(page, ada):
    make_user()
    round_ = make_round()
    make_sample(round=round_, priority=0.9)
    make_sample(round=round_, priority=0.5)
    other = make_sample(round=round_, priority=0.1, query={"category": "fraud"})
    html = submit(page, text(page.get("/review/")), skip="harmful")
    assert "Never show me privacy" in html
    html = text(page.post("/review/opt-out/", {"category": "privacy"}, headers=HTMX))
    assert "privacy does not come to you any more" in html
    assert shown(html) == other.pk  # the one that was held has gone back
    ada.refresh_from_db()
    assert ada.opted_out == ["privacy"]
    assert page.post("/review/opt-out/", {"category": "nonsense"}, headers=HTMX).status_code == 422


@pytest.mark.parametrize("way", ["plain", "htmx", "background"])
def test_later_brings_it_after_the_rest(way, page):
    round_ = make_round()
    first = make_sample(round=round_, priority=0.9)
    second = make_sample(round=round_, priority=0.1)
    html = text(page.get("/review/"))
    data = {"token": fields(html)["token"]}
    if way == "background":
        data["shown"] = fields(text(page.get("/review/ahead/")))["token"]
    answer = page.post("/review/postpone/", data, headers=HTMX if way == "htmx" else {}, follow=True)
    assert "Postponed: it comes to you again" in text(answer)
    assert Postponement.objects.get().sample == first
    html = text(page.get("/review/"))
    assert shown(html) == second.pk
    html = submit(page, html)
    assert shown(html) == first.pk
    assert "because you had postponed it" in submit(page, html)


def test_what_is_lost_can_not_be_postponed(page):
    sample = make_sample()
    token = fields(text(page.get("/review/")))["token"]
    Lease.objects.filter(sample=sample).update(holder=make_user(), fence=7)
    for bad in (token, "forged"):
        assert page.post("/review/postpone/", {"token": bad, "shown": ""}).status_code == 409
    assert not Postponement.objects.exists()


def test_undo_brings_back_what_was_marked_and_typed(page):
    round_ = make_round()
    make_sample(round=round_, priority=0.9)
    make_sample(round=round_, priority=0.1)
    html = text(page.get("/review/"))
    data = {"action": "violates", "mark": "1", "principle-1": "no-fraud", "note": "hm & ha"}
    submit(page, html, **data, spans='[{"answer":1,"start":0,"end":7,"principle":"no-fraud"}]')
    html = text(page.post("/review/undo/", {"key": str(uuid.uuid4())}, headers=HTMX))
    assert 'name="mark" value="1" checked' in html
    assert 'name="principle-1" value="no-fraud" checked' in html
    assert 'value="hm &amp; ha"' in html
    spans = json.loads(unescape(re.search(r'name="spans" value="([^"]*)"', html)[1]))
    assert spans == [{"answer": 1, "start": 0, "end": 7, "principle": "no-fraud"}]


# --- Drafts -----------------------------------------------------------------------------------------


def test_a_draft_is_there_on_another_machine(page, ada, client_for):
    make_sample()
    token = fields(text(page.get("/review/")))["token"]
    spans = '[{"answer":0,"start":0,"end":4,"principle":"private-life","quote":"Look"}]'
    form = {"mark": "0", "principle-0": "private-life", "rewrite": "Ask <them>\r\nkindly.", "rewrite_of": "1",
            "note": "n", "spans": spans}  # fmt: skip
    answer = page.post("/review/draft/", {"token": token, "csrfmiddlewaretoken": "x", **form})
    assert re.fullmatch(r"\d\d:\d\d:\d\d", answer.json()["saved"])
    assert set(Draft.objects.get().form) == set(form)  # neither the token nor anything else
    html = client_for(ada).get("/review/").content.decode()
    assert 'name="mark" value="0" checked' in html
    assert 'name="principle-0" value="private-life" checked' in html
    assert "Ask &lt;them&gt;\nkindly." in html
    assert '<option value="1" selected>' in html
    assert "&quot;principle&quot;: &quot;private-life&quot;" in html


def test_the_newest_draft_counts_and_an_empty_one_too(page):
    make_sample()
    token = fields(text(page.get("/review/")))["token"]
    for note in ("one", "two", ""):
        page.post("/review/draft/", {"token": token, "note": note})
        assert f'name="note" value="{note}"' in text(page.get("/review/"))


def test_a_draft_that_comes_after_its_judgement_is_not_kept(page):
    make_sample()
    html = text(page.get("/review/"))
    page.post("/review/draft/", {"token": fields(html)["token"], "note": "early"})
    submit(page, html)
    assert not Draft.objects.exists()
    assert page.post("/review/draft/", {"token": fields(html)["token"], "note": "late"}).status_code == 409
    assert not Draft.objects.exists()


def test_a_draft_is_bounded_and_nobody_elses(page, client_for):
    make_sample()
    token = fields(text(page.get("/review/")))["token"]
    assert page.post("/review/draft/", {"token": token, "rewrite": "x" * 200_000}).status_code == 422
    assert client_for("reviewer").post("/review/draft/", {"token": token, "note": "x"}).status_code == 409
    assert page.post("/review/draft/", {"token": "forged"}).status_code == 409
    assert not Draft.objects.exists()


@pytest.mark.parametrize(
    "form",
    [
        {"spans": ["{"], "rewrite_of": ["x"]},
        {"spans": ['[1, null, {"answer": "0"}]'], "mark": ["7"], "rewrite_of": ["-1"]},
        {"spans": ['{"answer": 0}'], "rewrite_of": []},
    ],
)
def test_a_draft_that_makes_no_sense_does_not_close_the_page(form, page, ada):
    sample = make_sample()
    Draft.objects.create(user=ada, sample=sample, form=form, updated_at=timezone.now())
    html = text(page.get("/review/"))
    assert shown(html) == sample.pk
    assert 'name="spans" value=""' in html


def test_a_postponed_sample_keeps_its_draft(page):
    make_sample()
    html = text(page.get("/review/"))
    page.post("/review/draft/", {"token": fields(html)["token"], "note": "think"})
    page.post("/review/postpone/", {"token": fields(html)["token"]})
    assert 'name="note" value="think"' in text(page.get("/review/"))


# --- Why it came, and what must not be told before --------------------------------------------------


def gold_round():
    """A finished round with a known answer, and the next one of the same experiment that serves it."""
    experiment = make_experiment(gold_share=0.5)
    past = make_round(experiment=experiment)
    known = make_sample(round=past, prompt="known")
    decide(known, user=make_user())
    Sample.objects.filter(pk=known.pk).update(gold=True)
    Round.objects.filter(pk=past.pk).update(status="done")
    now = make_round(experiment=experiment)
    fresh = make_sample(round=now, prompt="fresh")
    return known, fresh


def test_a_known_answer_looks_like_any_other(page, ada, monkeypatch):
    known, fresh = gold_round()
    pages = {}
    for roll in (1.0, 0.0):
        monkeypatch.setattr("random.random", lambda roll=roll: roll)
        html = text(page.get("/review/"))
        pages[shown(html)] = html
        leases.release(user=ada)
    assert set(pages) == {known.pk, fresh.pk}
    plain = []
    for html in pages.values():
        html = re.sub(r'<section class="panel veil">.*?</section> ', "", html)  # the similar ones: others of the past
        html = re.sub(r"known|fresh|[0-9a-f-]{36}|value=\"[^\"]{30,}\"|x-csrftoken\": \"\w+", "", html)
        plain.append(html)
    assert plain[0] == plain[1]
    assert "0 of 1 done" in plain[0]


@pytest.mark.parametrize(
    ("judgement", "words"),
    [
        ({"action": "violates", "mark": "0"}, "known answer: you agree"),
        ({"action": "approve"}, "known answer: it differs"),
        ({"action": "both_bad"}, "known answer: it differs"),
    ],
)
def test_afterwards_the_page_says_that_the_answer_was_known(judgement, words, page, monkeypatch):
    gold_round()
    monkeypatch.setattr("random.random", lambda: 0.0)
    html = text(page.get("/review/"))
    label = Label.objects.get().evidence
    monkeypatch.setattr("random.random", lambda: 1.0)
    html = submit(page, html, **judgement)
    assert words in html
    assert "its answer is known" in html
    assert "/review/revise/" not in html
    assert Label.objects.get().evidence == label


def test_a_skipped_known_answer_says_nothing(page, monkeypatch):
    gold_round()
    monkeypatch.setattr("random.random", lambda: 0.0)
    html = text(page.get("/review/"))
    monkeypatch.setattr("random.random", lambda: 1.0)
    html = submit(page, html, skip="unclear")
    assert "known" not in html.split('id="review-notice"')[0].split('id="workbench"')[1]


@pytest.mark.parametrize(
    ("rank", "assigned", "words"),
    [
        (Sample.Rank.ASSIGNED, True, "a lead assigned it to you. Flagged because the critics disagree"),
        (Sample.Rank.OPINION, False, "a lead asked for another opinion"),
        (Sample.Rank.BEGUN, False, "somebody else has judged it"),
        (Sample.Rank.PRIORITY, False, "it was next by priority"),
    ],
)
def test_why_it_came_is_said_after_the_judgement(rank, assigned, words, page, ada):
    make_sample(rank=rank, assigned_to=ada if assigned else None)
    html = text(page.get("/review/"))
    assert "Came to you" not in html and "critics disagree" not in html
    assert f"Came to you because {words}" in submit(page, html)


# --- Beside the sample ------------------------------------------------------------------------------


def test_the_most_alike_decisions_come_first_each_with_its_page(page):
    round_ = make_round()
    bob = make_user()
    make_sample(round=round_, prompt="Where do I keep my spare key?")
    near = make_sample(round=round_, prompt="Where would I keep a spare key?")
    far = make_sample(round=round_, prompt="What is the capital of France?")
    other = make_sample(round=round_, prompt="Where do I keep my spare key!", query={"principle": "no-fraud"})
    decide(near, user=bob, action="approve", violations={})
    for sample in (far, other):
        decide(sample, user=bob)
    found = re.findall(r'<a href="/samples/([^/]+)/" target="_blank">.*?class="chip (\w+)"', text(page.get("/review/")))
    assert found == [(str(near.pk), "good"), (str(far.pk), "bad")]


def test_a_count_that_takes_long_is_kept_for_a_moment(page, monkeypatch, django_assert_num_queries):
    round_, user = make_round(), make_user()
    for _ in range(3):
        make_sample(round=round_)
    monkeypatch.setattr(round_counts, "EXACT", 2)
    monkeypatch.setattr(round_counts, "SLOW", 0.0)
    monkeypatch.setattr(round_counts, "KEPT", 10**9)
    assert round_counts.count_reviews(round_, user).total == 3
    make_sample(round=round_)
    with django_assert_num_queries(1):  # only who holds what
        assert round_counts.count_reviews(round_, user).total == 3
    monkeypatch.setattr(round_counts, "_kept", {})
    monkeypatch.setattr(round_counts, "EXACT", 4)  # a small round is counted each time
    assert round_counts.count_reviews(round_, user).total == 4
    make_sample(round=round_)
    assert round_counts.count_reviews(round_, user).total == 5


def test_the_count_says_who_holds_what_and_what_a_lead_decides(page):
    round_ = make_round()
    for number in range(6):
        make_sample(round=round_, priority=number)
    make_sample(round=round_, status="disputed")
    make_sample(round=round_, status="decided")
    held = list(Sample.objects.filter(status="queued").order_by("priority")[:2])
    lease = make_lease(sample=held[0], holder=make_user(), seconds=60)
    lease = make_lease(sample=held[1], holder=make_user(), seconds=500)
    expired = make_lease(sample=Sample.objects.get(status="decided"), holder=make_user())
    until = timezone.localtime(lease.expires_at).strftime("%H:%M")
    html = text(page.get("/review/"))
    assert f'1 of 8 done<span class="extra">, 2 held by others until {until}, 1 with a lead' in html
    Lease.objects.exclude(pk=expired.pk).filter(holder__username__startswith="reviewer").update(
        expires_at=timezone.now() - timedelta(seconds=1)
    )
    assert "held by others" not in text(page.get("/review/"))


# --- Nothing to show --------------------------------------------------------------------------------


def test_nothing_left_but_what_the_person_opted_out_of(page, ada):
    ada.opted_out = ["privacy"]
    ada.save()
    make_sample()
    html = text(page.get("/review/"))
    assert "What is left is in categories you opted out of" in html
    assert 'href="/review/preferences/"' in html


def test_nothing_left_but_other_peoples_categories(page, ada):
    ada.categories = ["fraud"]
    ada.save()
    make_sample()
    html = text(page.get("/review/"))
    assert "other people's categories" in html.replace("&#x27;", "'")
    assert "Yours: fraud" in html


def test_nothing_left_but_what_is_assigned_to_others(page):
    make_sample(assigned_to=make_user(), rank=Sample.Rank.ASSIGNED)
    assert "assigned to others" in text(page.get("/review/"))


def test_nothing_left_but_what_wants_a_second_person(page, ada):
    sample = make_sample(wanted=2)
    html = submit(page, text(page.get("/review/")))
    assert "The rest waits for somebody else" in html
    assert Sample.objects.get(pk=sample.pk).status == "queued"


def test_nothing_left_but_what_a_lead_decides(page):
    make_sample(status="disputed")
    assert "A lead decides the rest" in text(page.get("/review/"))


def test_a_review_of_another_kind_is_not_revised_here(page, ada):
    sample = make_sample(status="disputed")
    decision = make_review(sample=sample, reviewer=ada, purpose="adjudication", action="violates", violations={"0": []})
    assert page.get(f"/review/revise/{decision.pk}/").status_code == 404
