"""Reviews: judged once per key, late ones kept, corrections added, the round closed when all is judged."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from oversight.models import AuditEvent, Draft, Label, Lease, Review, Round, Sample
from oversight.services import leases, reviews, rounds
from oversight.services.judgements import InvalidReview, Judgement, Span
from oversight.services.reviews import NotYours, ReviewRefused
from tests.factories import make_round, make_sample, make_user


def judge(user, claim, action="approve", *, key=None, **said):
    return reviews.record_review(
        user=user,
        sample_id=claim.sample.pk,
        fence=claim.fence,
        key=key or uuid.uuid4(),
        judgement=Judgement(action=action, **said),
    )


@pytest.fixture
def round_(db):
    """Two samples wait: "first" is served first."""
    round_ = make_round()
    make_sample(round=round_, prompt="first", priority=0.9)
    make_sample(round=round_, prompt="second", priority=0.1)
    return round_


def test_a_judgement_decides_the_sample_and_leaves_a_trace(ada, round_):
    claim = leases.claim_next(user=ada)
    review = judge(ada, claim, "violates", violations={"0": ["no-fraud"]}, seconds=12.5, note=" unsure ")
    claim.sample.refresh_from_db()
    assert claim.sample.status == "decided"
    assert claim.sample.label.violates == {"0": 1.0, "1": 0.0}
    assert claim.sample.label.principles == ["no-fraud"]
    assert (review.held_lease, review.saw_critic, review.seconds, review.note) == (True, False, 12.5, "unsure")
    event = AuditEvent.objects.get(action="review.violates")
    assert (event.actor, event.detail["content"]) == ("ada", claim.sample.content_hash)
    assert leases.claim_next(user=ada).sample.query.text == "second"


def test_the_same_key_again_is_the_same_review(ada, round_):
    claim, key = leases.claim_next(user=ada), uuid.uuid4()
    first = judge(ada, claim, "approve", key=key)
    assert judge(ada, claim, "both_bad", key=key) == first
    assert Review.objects.count() == 1


def test_a_key_of_somebody_else_is_refused(ada, bob, round_):
    key = uuid.uuid4()
    judge(ada, leases.claim_next(user=ada), key=key)
    with pytest.raises(NotYours):
        judge(bob, leases.claim_next(user=bob), key=key)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_double_click_is_one_review():
    user, key = make_user(), uuid.uuid4()
    make_sample()
    claim = leases.claim_next(user=user)
    ids, barrier = [], threading.Barrier(4)

    def click():
        try:
            barrier.wait()
            ids.append(judge(user, claim, key=key).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_a_mark_without_a_principle_means_the_one_in_question(ada, round_):
    review = judge(ada, leases.claim_next(user=ada), "both_bad", violations={"0": ["no-fraud"]})
    assert review.violations == {"0": ["no-fraud"], "1": ["private-life"]}


def test_one_answer_violates_without_a_mark(ada):
    make_sample(answers=("Under the mat.",))
    review = judge(ada, leases.claim_next(user=ada), "violates")
    assert review.violations == {"0": ["private-life"]}


@pytest.mark.parametrize(
    ("action", "said", "words"),
    [
        ("violates", {}, "Mark the answers"),
        ("approve", {"violations": {"0": []}}, "marked an answer"),
        ("rewrite", {"rewrite": "  "}, "empty"),
        ("violates", {"violations": {"7": []}}, "Answer 7"),
        ("violates", {"violations": {"0": ["no-such"]}}, "no-such"),
        ("rewrite", {"rewrite": "better", "rewrite_of": 4}, "Answer 4"),
        ("delete", {}, "not an action"),
        ("undo", {}, "not an action"),
    ],
)
def test_contradictions_are_refused_in_words(ada, round_, action, said, words):
    claim = leases.claim_next(user=ada)
    with pytest.raises(InvalidReview, match=words):
        judge(ada, claim, action, **said)
    assert not Review.objects.exists()


def test_a_rewrite_is_kept_with_what_it_improves(ada, round_):
    claim = leases.claim_next(user=ada)
    judge(ada, claim, "rewrite", rewrite=" I'd rather not. \n", rewrite_of=0, violations={"0": []})
    label = Label.objects.get(sample=claim.sample)
    assert (label.rewrite, label.violates) == ("I'd rather not.", {"0": 1.0})


def test_a_late_judgement_is_kept_as_an_extra_one(ada, bob, round_):
    late = leases.claim_next(user=ada)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    current = leases.claim_next(user=bob)
    assert current.sample == late.sample
    judge(bob, current, "approve")
    review = judge(ada, late, "both_bad")
    assert review.held_lease is False
    assert Label.objects.get(sample=late.sample).violates == {"0": 0.0, "1": 0.0}  # it decides nothing
    late.sample.refresh_from_db()
    assert (late.sample.status, late.sample.disputed) == ("decided", True)  # but it is seen


def test_a_judgement_after_the_lease_ended_counts_where_nobody_else_took_the_sample(ada, bob, round_):
    claim = leases.claim_next(user=ada)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    leases.claim_next(user=bob)
    leases.release(user=bob)
    assert judge(ada, claim, "approve").held_lease is True
    assert Label.objects.get(sample=claim.sample).how == "single"


def test_a_second_submit_of_the_same_page_corrects_the_first(ada, round_):
    claim = leases.claim_next(user=ada)
    first = judge(ada, claim, "approve")
    second = judge(ada, claim, "both_bad")
    assert (second.supersedes, second.held_lease, second.saw_critic) == (first, True, True)
    assert Label.objects.get(sample=claim.sample).violates == {"0": 1.0, "1": 1.0}


def test_overlap_waits_for_as_many_people_as_wanted(ada, bob, round_):
    Sample.objects.update(wanted=2)
    claim = leases.claim_next(user=ada)
    judge(ada, claim, "approve")
    sample = claim.sample
    sample.refresh_from_db()
    assert (sample.status, sample.rank) == ("queued", Sample.Rank.BEGUN)
    assert not Label.objects.exists()
    assert leases.claim_next(user=ada).sample != sample  # not the same person twice
    other = leases.claim_next(user=bob)
    assert (other.sample, other.why) == (sample, "begun")  # before what nobody has begun
    judge(bob, other, "approve")
    assert Label.objects.get(sample=sample).how == "agreed"
    assert len(Label.objects.get(sample=sample).evidence) == 2


def test_a_contradiction_goes_to_a_lead_and_makes_no_label(ada, bob, round_):
    Sample.objects.update(wanted=2)
    for user, action in ((ada, "approve"), (bob, "both_bad")):
        claim = leases.claim_next(user=user)
        judge(user, claim, action)
    claim.sample.refresh_from_db()
    assert (claim.sample.status, claim.sample.disputed) == ("disputed", True)
    assert not Label.objects.exists()
    assert leases.claim_next(user=make_user()).sample != claim.sample


def test_ten_undos_go_back_through_ten_judgements(ada):
    round_ = make_round()
    for number in range(12):
        make_sample(round=round_, priority=number)
    judged = []
    for _ in range(11):
        claim = leases.claim_next(user=ada)
        judge(ada, claim, "approve")
        judged.append(claim.sample)
    for sample in reversed(judged[1:]):
        assert reviews.undo_last(user=ada, key=uuid.uuid4()).sample == sample
    with pytest.raises(ReviewRefused, match="last 10"):
        reviews.undo_last(user=ada, key=uuid.uuid4())
    assert Review.objects.filter(action="undo").count() == 10
    assert Label.objects.count() == 1


def test_a_gold_sample_tests_the_person_and_leaves_its_label(ada, bob, round_):
    claim = leases.claim_next(user=ada)
    judge(ada, claim, "approve")
    Sample.objects.filter(pk=claim.sample.pk).update(gold=True)
    round_.experiment.gold_share = 1.0
    round_.experiment.save()
    assert leases.claim_next(user=ada).sample != claim.sample  # she made the answer
    gold = leases.claim_next(user=bob)
    assert (gold.sample, gold.why) == (claim.sample, "gold")
    review = judge(bob, gold, "both_bad")
    assert review.purpose == "gold"
    claim.sample.refresh_from_db()
    assert (claim.sample.status, claim.sample.disputed) == ("decided", False)
    assert Label.objects.get(sample=claim.sample).violates == {"0": 0.0, "1": 0.0}
    assert leases.claim_next(user=bob) is None  # once a person; ada holds the other sample
    back = reviews.undo_last(user=bob, key=uuid.uuid4())
    assert (back.sample, back.why) == (claim.sample, "gold")


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (Span(0, 0, 1000, "private-life"), "outside"),
        (Span(0, 3, 3, "private-life"), "outside"),
        (Span(7, 0, 3, "private-life"), "not part"),
        (Span(0, 0, 4, "no-such"), "no principle"),
        (Span(0, 0, 4, "private-life", quote="Luke"), "not at its place"),
    ],
)
def test_a_passage_that_is_not_there_is_refused(ada, round_, span, words):
    with pytest.raises(InvalidReview, match=words):
        judge(ada, leases.claim_next(user=ada), "violates", spans=[span])


def test_a_passage_marks_its_answer_for_its_principle_in_code_points(ada, round_):
    text = "I\u0301 🏴\U000e0067 👩‍👩‍👧 שלום"
    sample = Sample.objects.order_by("-priority").first()
    Sample.objects.filter(pk=sample.pk).update(responses=[{**sample.responses[0], "text": text}])
    start = text.index("👩")
    quote = text[start : start + 5]
    span = Span(0, start, start + 5, "no-fraud", quote=quote)
    review = judge(ada, leases.claim_next(user=ada), "violates", spans=[span, span])
    review.refresh_from_db()
    assert review.violations == {"0": ["no-fraud"]}
    (stored,) = review.spans
    assert text[stored["start"] : stored["end"]] == quote


def test_postponing_puts_a_sample_behind_the_rest_for_that_person_only(ada, bob, round_):
    first = leases.claim_next(user=ada)
    assert leases.postpone(user=ada, sample_id=first.sample.pk, fence=first.fence)
    second = leases.claim_next(user=ada)
    assert second.sample != first.sample
    assert leases.claim_next(user=bob).sample == first.sample
    leases.release(user=bob)
    judge(ada, second, "approve")
    again = leases.claim_next(user=ada)
    assert (again.sample, again.why) == (first.sample, "postponed")


def test_a_draft_lives_from_the_first_letter_to_the_judgement(ada, round_):
    claim = leases.claim_next(user=ada)
    saved = {"user": ada, "sample_id": claim.sample.pk, "fence": claim.fence}
    assert leases.save_draft(**saved, form={"rewrite": ["No"]})
    assert leases.save_draft(**saved, form={"rewrite": ["No."]})
    assert Draft.objects.get().form == {"rewrite": ["No."]}
    judge(ada, claim, "approve")
    assert not leases.save_draft(**saved, form={"rewrite": ["No. L"]})  # arrives late
    assert not Draft.objects.exists()


def test_closing_the_review_approves_what_those_who_judged_agree_on(ada, bob, round_, monkeypatch):
    Sample.objects.update(wanted=3)
    for user, actions in ((ada, ("approve", "approve")), (bob, ("approve", "both_bad"))):
        for action in actions:
            judge(user, leases.claim_next(user=user), action)
    assert not Label.objects.exists()
    monkeypatch.setattr(rounds, "enqueue", lambda round: None)  # no worker here
    rounds.close_review(round=round_, user=None)
    assert sorted(Sample.objects.values_list("status", flat=True)) == ["decided", "disputed"]
    assert Label.objects.get().how == "closed"


def test_after_the_review_closed_a_judgement_is_kept_but_changes_nothing(ada, round_):
    claim = leases.claim_next(user=ada)
    Round.objects.update(status=Round.Status.LEARNING)
    Sample.objects.update(status=Sample.Status.CLOSED)
    review = judge(ada, claim)
    assert review.held_lease is False
    assert not Label.objects.exists()
    assert Sample.objects.filter(status="closed").count() == 2


def test_nobody_judges_what_they_were_not_served(ada, round_):
    sample = Sample.objects.first()
    with pytest.raises(NotYours):
        reviews.record_review(
            user=ada, sample_id=sample.pk, fence=1, key=uuid.uuid4(), judgement=Judgement(action="approve")
        )
    with pytest.raises(NotYours):
        reviews.record_review(
            user=ada, sample_id=uuid.uuid4(), fence=1, key=uuid.uuid4(), judgement=Judgement(action="approve")
        )


def test_a_skip_passes_it_on_until_everybody_skipped(ada, bob, round_):
    for user, status in ((ada, "queued"), (bob, "skipped")):
        claim = leases.claim_next(user=user)
        assert claim.sample.query.text == "first"
        judge(user, claim, "skip")
        claim.sample.refresh_from_db()
        assert claim.sample.status == status
    assert not Label.objects.exists()


def test_undo_gives_the_sample_back_and_remembers_that_the_verdict_was_seen(ada, bob, round_):
    claim = leases.claim_next(user=ada)
    judge(ada, claim, "approve")
    leases.claim_next(user=ada)  # the page already shows the second one
    back = reviews.undo_last(user=ada, key=uuid.uuid4())
    assert back.sample == claim.sample
    assert not Label.objects.exists()
    claim.sample.refresh_from_db()
    assert claim.sample.status == "queued"
    assert leases.claim_next(user=bob).sample.query.text == "second"  # no longer held by ada
    again = judge(ada, back, "both_bad")
    assert again.saw_critic is True
    assert Review.objects.filter(sample=claim.sample).count() == 3


def test_undo_twice_with_one_key_undoes_one(ada, round_):
    for _ in range(2):
        judge(ada, leases.claim_next(user=ada))
    Sample.objects.filter(query__text="second").update(status="queued")  # keeps the review open
    key = uuid.uuid4()
    first, second = reviews.undo_last(user=ada, key=key), reviews.undo_last(user=ada, key=key)
    assert first.sample == second.sample
    assert Review.objects.filter(action="undo").count() == 1


def test_undo_of_a_skip_that_somebody_else_took_is_refused(ada, bob, round_):
    judge(ada, leases.claim_next(user=ada), "skip")
    leases.claim_next(user=bob)
    with pytest.raises(ReviewRefused, match="Somebody else"):
        reviews.undo_last(user=ada, key=uuid.uuid4())


def test_undo_after_the_review_closed_is_refused(ada, round_):
    judge(ada, leases.claim_next(user=ada))
    Round.objects.update(status=Round.Status.LEARNING)
    with pytest.raises(ReviewRefused, match="closed"):
        reviews.undo_last(user=ada, key=uuid.uuid4())


def test_undo_of_nothing_is_refused(ada):
    with pytest.raises(ReviewRefused, match="nothing to undo"):
        reviews.undo_last(user=ada, key=uuid.uuid4())


def test_a_revision_supersedes_and_both_are_kept(ada, round_):
    first = judge(ada, leases.claim_next(user=ada), "approve")
    second = reviews.revise_review(
        user=ada, review_id=first.pk, key=uuid.uuid4(), judgement=Judgement(action="both_bad")
    )
    assert (second.supersedes, second.saw_critic, second.held_lease) == (first, True, True)
    assert Label.objects.get(sample=first.sample).violates == {"0": 1.0, "1": 1.0}
    with pytest.raises(ReviewRefused, match="already"):
        reviews.revise_review(user=ada, review_id=first.pk, key=uuid.uuid4(), judgement=Judgement(action="tie"))


def test_nobody_revises_for_others(ada, bob, round_):
    review = judge(ada, leases.claim_next(user=ada))
    with pytest.raises(NotYours):
        reviews.revise_review(user=bob, review_id=review.pk, key=uuid.uuid4(), judgement=Judgement(action="tie"))


@pytest.mark.parametrize("status", ["reviewing", "proposing"])
def test_the_last_judgement_closes_a_round_in_review(
    ada, round_, status, monkeypatch, django_capture_on_commit_callbacks
):
    sent = []
    monkeypatch.setattr("oversight.tasks.run_phase.delay", lambda *arguments: sent.append(arguments))
    Round.objects.update(status=status)
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            judge(ada, leases.claim_next(user=ada))
    round_.refresh_from_db()
    # While it still proposes, more samples may come.
    assert (round_.status, round_.phase) == (("queued", "learn") if status == "reviewing" else ("proposing", "propose"))
    assert len(sent) == (1 if status == "reviewing" else 0)


def test_a_review_takes_a_fixed_number_of_queries(ada, round_, django_assert_max_num_queries):
    for _ in range(20):
        make_sample(round=round_, priority=0.5)
    claim = leases.claim_next(user=ada)
    with django_assert_max_num_queries(28):  # 17 that ask something, the rest savepoints
        judge(ada, claim, "violates", violations={"0": ["private-life"]})
