"""Disputes: a lead decides, takes it back or asks one more person; two leads at once; late decisions."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.db import connection

from oversight.models import AuditEvent, Experiment, Label, Lease, Review, Round, Sample
from oversight.selectors.adjudication import DisputeFilter, find_next, list_disputes
from oversight.services import adjudication, leases, reviews
from oversight.services.adjudication import AdjudicationRefused, Outdated
from oversight.services.judgements import InvalidReview, Judgement
from oversight.services.reviews import NotYours
from tests.factories import make_experiment, make_lease, make_review, make_round, make_sample, make_user
from tests.hostile import HOSTILE

HTMX = {"HX-Request": "true"}
SPAN = {"answer": 0, "start": 0, "end": 4, "principle": "no-fraud"}


def make_dispute(round_, ada, bob, **fields):
    """Ada says that A violates, Bob that both are fine; two were wanted, so it waits for a lead."""
    sample = make_sample(round=round_, wanted=2, status="disputed", disputed=True, **fields)
    make_review(
        sample=sample, reviewer=ada, action="violates", violations={"0": ["no-fraud"]}, spans=[SPAN], note="see A"
    )
    make_review(sample=sample, reviewer=bob)
    return sample


@pytest.fixture
def dispute(round_, ada, bob):
    return make_dispute(round_, ada, bob)


def ids(sample):
    return set(sample.reviews.values_list("pk", flat=True))


def decide(user, sample, action="approve", *, key=None, seen=None, **said):
    return adjudication.decide(
        user=user,
        sample_id=sample.pk,
        key=key or uuid.uuid4(),
        seen=ids(sample) if seen is None else seen,
        judgement=Judgement(action=action, **said),
    )


def test_a_decision_alone_makes_the_label(lea, dispute):
    made = decide(lea, dispute, "violates", violations={"1": ["private-life"]}, note=" B names the mat ")
    dispute.refresh_from_db()
    label = dispute.label
    assert (dispute.status, dispute.disputed) == ("decided", True)
    assert (label.violates, label.principles, label.how) == ({"0": 0.0, "1": 1.0}, ["private-life"], "adjudicated")
    assert label.evidence == [str(made.pk)]
    assert (made.purpose, made.saw_critic, made.note) == ("adjudication", True, "B names the mat")
    event = AuditEvent.objects.get(action="review.adjudicate")
    assert (event.actor, event.target, event.detail["approved"]) == ("lea", f"sample:{dispute.pk}", None)


def test_a_judgement_is_approved_as_it_is(lea, ada, dispute):
    said = dispute.reviews.get(reviewer=ada)
    made = adjudication.approve_judgement(
        user=lea, sample_id=dispute.pk, key=uuid.uuid4(), seen=ids(dispute), review_id=said.pk, note="ada is right"
    )
    assert (made.action, made.violations, made.spans) == ("violates", {"0": ["no-fraud"]}, [SPAN])
    assert (made.note, made.reviewer) == ("ada is right", lea)
    assert dispute.label.violates == {"0": 1.0, "1": 0.0}
    assert AuditEvent.objects.get(action="review.adjudicate").detail["approved"] == str(said.pk)


def test_a_rewrite_is_approved_with_the_judgement(lea, round_, ada, bob):
    sample = make_sample(round=round_, wanted=2, status="disputed")
    said = make_review(
        sample=sample, reviewer=ada, action="rewrite", violations={"0": []}, rewrite="Ask them.", rewrite_of=0
    )
    make_review(sample=sample, reviewer=bob)
    adjudication.approve_judgement(
        user=lea, sample_id=sample.pk, key=uuid.uuid4(), seen=ids(sample), review_id=said.pk
    )  # fmt: skip
    assert (sample.label.rewrite, sample.label.rewrite_of) == ("Ask them.", 0)


def test_the_same_key_again_is_the_same_decision(lea, dispute):
    key, seen = uuid.uuid4(), ids(dispute)
    first = decide(lea, dispute, key=key, seen=seen)
    assert decide(lea, dispute, "both_bad", key=key, seen=seen) == first
    assert Review.objects.filter(purpose="adjudication").count() == 1


def test_a_key_of_somebody_else_is_refused(lea, ada, dispute):
    with pytest.raises(NotYours):
        decide(lea, dispute, key=dispute.reviews.get(reviewer=ada).key)


def test_a_decision_on_outdated_judgements_is_refused_with_what_is_new(lea, dispute):
    seen = ids(dispute)
    make_review(sample=dispute, reviewer=make_user(username="cyd"), action="both_bad")
    with pytest.raises(Outdated, match="cyd judged it meanwhile: both violate"):
        decide(lea, dispute, seen=seen)
    assert not Label.objects.exists()


def test_a_skip_or_a_test_of_somebody_changes_nothing_for_the_decision(lea, dispute):
    seen = ids(dispute)
    make_review(sample=dispute, reviewer=make_user(), action="skip")
    make_review(sample=dispute, reviewer=make_user(), purpose="gold")
    decide(lea, dispute, seen=seen)
    assert dispute.label


def test_the_second_lead_is_told_who_decided_what(lea, dispute):
    seen = ids(dispute)
    decide(lea, dispute, "both_bad", seen=seen)
    with pytest.raises(Outdated, match="lea decided it meanwhile: both violate"):
        decide(make_user("lead"), dispute, "approve", seen=seen)
    assert dispute.label.violates == {"0": 1.0, "1": 1.0}


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_two_leads_at_once_make_one_decision():
    dispute = make_dispute(make_round(), make_user(), make_user())
    seen, leads = ids(dispute), [make_user("lead"), make_user("lead")]
    outcomes, barrier = [], threading.Barrier(2)

    def act(lead):
        try:
            barrier.wait()
            decide(lead, dispute, seen=seen)
            outcomes.append("made")
        except Outdated:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=[lead]) for lead in leads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "refused"]
    assert Review.objects.filter(purpose="adjudication").count() == 1


def test_a_later_decision_supersedes_the_earlier_of_whoever(lea, dispute):
    first = decide(lea, dispute, "both_bad")
    second = decide(make_user("lead"), dispute, "approve")
    assert second.supersedes == first
    assert dispute.label.violates == {"0": 0.0, "1": 0.0}
    assert dispute.label.evidence == [str(second.pk)]


def test_an_undone_decision_leaves_the_dispute(lea, dispute):
    made, key = decide(lea, dispute), uuid.uuid4()
    undone = adjudication.undo_decision(user=lea, review_id=made.pk, key=key)
    dispute.refresh_from_db()
    assert dispute.status == "disputed"
    assert not Label.objects.exists()
    assert (undone.action, undone.supersedes, undone.purpose) == ("undo", made, "adjudication")
    assert adjudication.undo_decision(user=lea, review_id=made.pk, key=key) == undone
    with pytest.raises(AdjudicationRefused, match="taken back"):
        adjudication.undo_decision(user=lea, review_id=made.pk, key=uuid.uuid4())


def test_only_the_own_decision_is_undone(lea, ada, dispute):
    made = decide(lea, dispute)
    for user, review_id in ((make_user("lead"), made.pk), (lea, dispute.reviews.get(reviewer=ada).pk)):
        with pytest.raises(NotYours):
            adjudication.undo_decision(user=user, review_id=review_id, key=uuid.uuid4())
    later = decide(make_user("lead"), dispute)
    with pytest.raises(AdjudicationRefused, match="replaced"):
        adjudication.undo_decision(user=lea, review_id=made.pk, key=uuid.uuid4())
    assert dispute.label.evidence == [str(later.pk)]


def test_undo_in_the_workbench_does_not_reach_a_decision(lea, dispute):
    decide(lea, dispute)
    with pytest.raises(reviews.ReviewRefused, match="nothing to undo"):
        reviews.undo_last(user=lea, key=uuid.uuid4())


@pytest.mark.parametrize("status", ["learning", "done"])
def test_after_the_review_a_decision_still_makes_a_label(status, lea, dispute):
    Round.objects.update(status=status, phase="learn")
    made = decide(lea, dispute)
    dispute.refresh_from_db()
    assert (dispute.status, dispute.label.how) == ("decided", "adjudicated")
    adjudication.undo_decision(user=lea, review_id=made.pk, key=uuid.uuid4())
    dispute.refresh_from_db()
    assert dispute.status == "disputed"  # it was when the review closed
    assert Round.objects.get().status == status


def test_the_last_decision_closes_the_review(lea, dispute, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        decide(lea, dispute)
    assert Round.objects.get().phase == "learn"


def test_what_can_not_be_decided_says_why(lea, round_, dispute):
    with pytest.raises(AdjudicationRefused, match="No judgement"):
        decide(lea, make_sample(round=round_))
    with pytest.raises(InvalidReview, match="skip"):
        decide(lea, dispute, "skip")
    with pytest.raises(InvalidReview, match="no-such"):
        decide(lea, dispute, "violates", violations={"0": ["no-such"]})
    Sample.objects.filter(pk=dispute.pk).update(status="excluded", excluded_reason="a test prompt")
    with pytest.raises(AdjudicationRefused, match="a test prompt"):
        decide(lea, dispute)
    with pytest.raises(NotYours):
        decide(lea, Sample(pk=uuid.uuid4()), seen=set())
    assert not Review.objects.filter(purpose="adjudication").exists()


def test_a_judgement_taken_back_meanwhile_is_not_approved(lea, ada, dispute):
    said, seen = dispute.reviews.get(reviewer=ada), ids(dispute)
    make_review(sample=dispute, reviewer=ada, action="undo", supersedes=said)
    with pytest.raises(Outdated, match="taken back"):
        adjudication.approve_judgement(
            user=lea, sample_id=dispute.pk, key=uuid.uuid4(), seen=seen, review_id=said.pk
        )  # fmt: skip
    with pytest.raises(NotYours):
        adjudication.approve_judgement(
            user=lea, sample_id=make_sample().pk, key=uuid.uuid4(), seen=seen, review_id=said.pk
        )


# --- One more person --------------------------------------------------------------------------------


def ask(user, sample):
    return adjudication.ask_another(user=user, sample_id=sample.pk, seen=ids(sample))


def test_one_more_person_is_asked_ahead_of_the_rest_and_the_lead_last(lea, round_, dispute):
    cyd = make_user(username="cyd")
    other = make_sample(round=round_, priority=0.99)
    sample = ask(lea, dispute)
    assert (sample.status, sample.wanted, sample.rank) == ("queued", 3, Sample.Rank.OPINION)
    claim = leases.claim_next(user=cyd)
    assert (claim.sample, claim.why) == (dispute, Lease.Why.OPINION)
    assert leases.claim_next(user=lea).sample == other
    reviews.record_review(
        user=cyd, sample_id=dispute.pk, fence=claim.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    dispute.refresh_from_db()
    assert dispute.status == "disputed"  # no majority makes a label


def test_asking_twice_asks_once(lea, dispute):
    make_user()
    ask(lea, dispute)
    with pytest.raises(AdjudicationRefused, match="queued by now"):
        ask(make_user("lead"), dispute)


def test_nobody_is_asked_after_the_review_or_where_nobody_is_left(lea, dispute):
    with pytest.raises(AdjudicationRefused, match="Everybody"):
        ask(lea, dispute)
    make_user(opted_out=["privacy"])
    make_user(categories=["fraud"])
    make_user(is_active=False)
    with pytest.raises(AdjudicationRefused, match="Everybody"):
        ask(lea, dispute)
    make_user(categories=["privacy"])
    Round.objects.update(status="learning", phase="learn")
    with pytest.raises(AdjudicationRefused, match="has closed"):
        ask(lea, dispute)
    Round.objects.update(status="reviewing", phase="propose")
    ask(lea, dispute)


def test_a_dispute_is_decided_while_the_other_person_has_it_and_their_judgement_is_kept(lea, dispute):
    cyd = make_user()
    ask(lea, dispute)
    claim = leases.claim_next(user=cyd)
    decide(lea, dispute, "both_bad")
    late = reviews.record_review(
        user=cyd, sample_id=dispute.pk, fence=claim.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    dispute.refresh_from_db()
    assert late.pk
    assert (dispute.status, dispute.label.violates) == ("decided", {"0": 1.0, "1": 1.0})


# --- The list ---------------------------------------------------------------------------------------


def test_the_list_has_the_oldest_first_with_what_contradicts(round_, ada, bob):
    first, second = make_dispute(round_, ada, bob), make_dispute(round_, ada, bob, query={"principle": "no-fraud"})
    preferred = make_sample(round=round_, status="disputed", wanted=2)
    make_review(sample=preferred, reviewer=ada, action="prefer_a")
    make_review(sample=preferred, reviewer=bob, action="prefer_b")
    make_review(sample=preferred, reviewer=make_user(), action="prefer_b", purpose="gold")
    make_sample(round=round_)
    make_dispute(make_round(), ada, bob)
    page = list_disputes(round_.experiment, DisputeFilter())
    assert [row.sample for row in page.disputes] == [first, second, preferred]
    assert [row.words for row in page.disputes] == [
        "A: 1 violates, 1 fine", "A: 1 violates, 1 fine", "1 prefers A, 1 prefers B",
    ]  # fmt: skip
    assert [row.people for row in page.disputes] == [2, 2, 2]
    filtered = list_disputes(round_.experiment, DisputeFilter(principle="no-fraud"))
    assert [row.sample for row in filtered.disputes] == [second]
    assert not list_disputes(round_.experiment, DisputeFilter(round=9)).disputes


def test_pages_of_the_list_miss_nobody(round_, ada, bob):
    made = [make_dispute(round_, ada, bob) for _ in range(5)]
    Sample.objects.update(created_at=made[0].created_at)  # the same moment: the id decides
    seen, after = [], ""
    for _ in range(3):
        page = list_disputes(round_.experiment, DisputeFilter(), after=after, size=2)
        seen += [row.sample.pk for row in page.disputes]
        after = page.next
    assert seen == sorted(sample.pk for sample in made)
    assert not after


def test_the_next_dispute_comes_after_this_one_and_then_from_the_start(round_, ada, bob):
    first, second = make_dispute(round_, ada, bob), make_dispute(round_, ada, bob)
    assert find_next(first, DisputeFilter()) == second
    assert find_next(second, DisputeFilter()) == first
    assert find_next(first, DisputeFilter(category="fraud")) is None


# --- The pages --------------------------------------------------------------------------------------


def text(answer):
    return answer.content.decode()


def post(client, sample, **data):
    form = {"key": uuid.uuid4(), "seen": " ".join(map(str, ids(sample))), **data}
    return client.post(f"/adjudicate/{sample.pk}/", form, headers=HTMX)


@pytest.mark.parametrize(("role", "status"), [("reviewer", 403), ("lead", 200), ("researcher", 200), ("operator", 200)])
def test_leads_and_above_see_disputes(role, status, client_for, dispute):
    client = client_for(role)
    for path in ("/adjudicate/", f"/adjudicate/{dispute.pk}/"):
        assert client.get(path).status_code == status
    assert (post(client, dispute, action="approve").status_code == 200) == (status == 200)
    assert Label.objects.exists() == (status == 200)


def test_wrong_methods_ids_and_strangers(client, client_for, dispute):
    lead = client_for("lead")
    assert lead.post("/adjudicate/").status_code == 405
    assert lead.delete(f"/adjudicate/{dispute.pk}/").status_code == 405
    assert lead.get(f"/adjudicate/{uuid.uuid4()}/").status_code == 404
    assert lead.get("/adjudicate/none/").status_code == 404
    assert client.get("/adjudicate/").headers["Location"].startswith("/sign-in/?next=")
    for data in ({"key": "x"}, {"seen": "x"}, {"undo": "x"}, {"approve": "x"}, {"action": "delete"}):
        assert post(lead, dispute, **{"action": "approve", **data}).status_code == 422
    assert post(lead, dispute, approve=uuid.uuid4()).status_code == 404
    assert not Label.objects.exists()


def test_the_page_shows_all_sides_and_the_critic(client_for, lea, dispute, bob):
    make_review(
        sample=dispute, reviewer=make_user(username="cyd"), action="prefer_b", held_lease=False, saw_critic=True,
        seconds=65,
    )  # fmt: skip
    html = text(client_for(lea).get(f"/adjudicate/{dispute.pk}/"))
    for words in (
        "A: 1 violates, 1 fine", "ada", "bob", "cyd", "see A", "late: decides nothing", "1:05 min",
        "It says where to look.", "0.83", "where its steps would work", 'data-approve="3"',
        f"?review={dispute.reviews.get(reviewer=bob).pk}",
    ):  # fmt: skip
        assert words in html, words
    assert "You are one of the judges" not in html
    assert 'class="other"' in html  # the passage that ada marked


def test_a_lead_who_judged_is_told(client_for, ada, dispute):
    ada.role = "lead"
    ada.save()
    assert "You are one of the judges" in text(client_for(ada).get(f"/adjudicate/{dispute.pk}/"))


def test_a_decision_shows_the_next_dispute_with_an_undo(client_for, lea, round_, ada, bob, dispute):
    following = make_dispute(round_, ada, bob, prompt="the second dispute")
    client = client_for(lea)
    answer = post(client, dispute, approve=dispute.reviews.get(reviewer=ada).pk, round=round_.number)
    html = text(answer)
    assert answer.headers["HX-Push-Url"] == f"/adjudicate/{following.pk}/?round={round_.number}"
    assert "<html" not in html
    assert "the second dispute" in html
    assert "You decided: A violates" in html
    made = Review.objects.get(purpose="adjudication")
    html = text(post(client, dispute, undo=made.pk))
    assert "Your decision is taken back" in html
    assert f'action="/adjudicate/{dispute.pk}/"' in html
    post(client, dispute, action="approve")
    html = text(post(client, following, action="approve"))
    assert "Nothing is disputed" in html
    assert "You decided: both are fine" in html


def test_without_scripts_a_decision_redirects_to_the_next(client_for, lea, round_, ada, bob, dispute):
    following = make_dispute(round_, ada, bob)
    client = client_for(lea)
    form = {"key": uuid.uuid4(), "seen": " ".join(map(str, ids(dispute))), "action": "approve"}
    answer = client.post(f"/adjudicate/{dispute.pk}/", form)
    made = Review.objects.get(purpose="adjudication")
    assert answer.headers["Location"] == f"/adjudicate/{following.pk}/?done={made.pk}"
    assert "You decided: both are fine" in text(client.get(answer.headers["Location"]))
    assert "You decided" not in text(client_for("lead").get(answer.headers["Location"]))


def test_a_sample_is_excluded_for_a_reason(client_for, lea, dispute):
    client = client_for(lea)
    assert "Say in a few words why" in text(post(client, dispute, exclude="1"))
    assert "Excluded." in text(post(client, dispute, exclude="1", note="a name that is real"))
    dispute.refresh_from_db()
    assert (dispute.status, dispute.excluded_reason) == ("excluded", "a name that is real")


def test_what_was_typed_is_kept_where_it_is_refused(client_for, lea, dispute):
    answer = post(
        client_for(lea), dispute, action="approve", mark="1", rewrite="Better so.", note="my reason",
        **{"principle-1": "no-fraud"},
    )  # fmt: skip
    html = text(answer)
    assert answer.status_code == 422
    assert "You marked an answer as violating" in html
    assert "Better so." in html
    assert "my reason" in html


def test_an_outdated_page_is_answered_with_what_stands_now(client_for, lea, dispute):
    seen = " ".join(map(str, ids(dispute)))
    decide(make_user("lead", username="leo"), dispute, "both_bad")
    answer = post(client_for(lea), dispute, action="approve", seen=seen)
    assert answer.status_code == 409
    assert "leo decided it meanwhile: both violate" in text(answer)
    assert "Decided by leo" in text(answer)


@pytest.mark.parametrize(("name", "hostile"), [(n, t) for n, t in HOSTILE if len(t) < 10_000], ids=lambda v: v[:20])
def test_hostile_texts_are_shown_and_do_nothing(name, hostile, client_for, lea, round_, ada, bob):
    sample = make_sample(
        round=round_, status="disputed", wanted=2, prompt=hostile, answers=(hostile, "fine"), disputed=True
    )
    make_review(sample=sample, reviewer=ada, action="rewrite", violations={"0": []}, rewrite=hostile, note=hostile)
    make_review(
        sample=sample, reviewer=bob,
        spans=[{"answer": 0, "start": 0, "end": len(hostile), "principle": "private-life"}],
    )  # fmt: skip
    client = client_for(lea)
    for path in ("/adjudicate/", f"/adjudicate/{sample.pk}/"):
        html = text(client.get(path))
        for tag in ("<script>alert", "<img src=x", "<svg onload", "<b>bold", "\"' onmouseover"):
            assert tag not in html, tag


def test_the_number_of_queries_is_fixed(client_for, lea, round_, ada, bob, dispute, django_assert_max_num_queries):
    client = client_for(lea)
    make_dispute(round_, ada, bob)
    counts = []
    for people in (2, 6):
        for _ in range(people - 2):
            make_review(sample=dispute, reviewer=make_user(), spans=[SPAN])
            make_dispute(round_, ada, bob)
        for path in ("/adjudicate/", f"/adjudicate/{dispute.pk}/"):
            with django_assert_max_num_queries(20) as captured:
                client.get(path)
            counts.append(len(captured))
    assert counts[:2] == counts[2:]


def test_leads_see_how_many_are_disputed_and_reviewers_ask_nothing(
    client_for, dispute, django_assert_max_num_queries
):  # fmt: skip
    assert '<span class="num count" id="dispute-count">1</span>' in text(client_for("lead").get("/samples/"))
    with django_assert_max_num_queries(60) as captured:
        assert "dispute-count" not in text(client_for("reviewer").get("/rounds/"))
    assert not [query for query in captured if "'disputed'" in query["sql"] and "LIMIT 1000" in query["sql"]]
    assert 'id="dispute-count" hx-swap-oob="true">1</span>' in text(client_for("lead").get("/header/"))


def test_no_experiment_no_disputes(client_for):
    lead = client_for("lead")
    assert not Experiment.objects.exists()
    assert "No experiment yet" in text(lead.get("/adjudicate/"))
    make_experiment()
    assert "Nothing is disputed" in text(lead.get("/adjudicate/"))


def test_a_second_submit_of_a_lead_corrects_the_judgement_and_not_the_decision(lea, round_, dispute):
    """A lead who decided and judges the sample later has one judgement of it, however often it is sent."""
    decide(lea, dispute)
    lease = make_lease(sample=dispute, holder=lea)
    for action in ("approve", "both_bad"):
        reviews.record_review(
            user=lea, sample_id=dispute.pk, fence=lease.fence, key=uuid.uuid4(), judgement=Judgement(action=action)
        )
    standing = Review.objects.filter(reviewer=lea, superseded_by=None)
    assert sorted(standing.values_list("purpose", "action")) == [("adjudication", "approve"), ("review", "both_bad")]
