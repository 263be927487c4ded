"""What leads do with many samples: what changes, what is left alone and why, who may, and two at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from oversight.models import AuditEvent, Checkpoint, Label, Lease, Review, Round, Sample, TrainedOn
from oversight.services import leases, queue, reviews, samples
from oversight.services.judgements import Judgement
from oversight.services.samples import BulkRefused
from tests.factories import make_lease, make_review, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]
Status = Sample.Status


def judge(sample: Sample, user: Any, action: str = "violates") -> Review:
    """Through the queue's front door."""
    claim = leases.claim_sample(user=user, sample_id=sample.pk)
    return reviews.record_review(
        user=user, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(),
        judgement=Judgement(action=action, violations={"0": []} if action == "violates" else {}),
    )  # fmt: skip


def fresh(sample: Sample) -> Sample:
    return Sample.objects.get(pk=sample.pk)


# --- Assign and release -----------------------------------------------------------------------------


def test_an_assigned_sample_comes_first_and_to_nobody_else() -> None:
    lead, ada, bea = make_user("lead"), make_user(), make_user()
    round = make_round()
    make_sample(round=round, priority=0.9)
    low = make_sample(round=round, priority=0.1)
    outcome = samples.assign_samples(user=lead, samples=[low.pk], person=ada)
    assert outcome.done == [low.pk]
    assert queue.pick_next(ada) == (low.pk, "assigned")
    assert queue.pick_next(bea)[0] != low.pk
    samples.assign_samples(user=lead, samples=[low.pk], person=None)
    assert fresh(low).assigned_to is None and fresh(low).rank == Sample.Rank.PRIORITY


def test_assigning_takes_it_from_who_holds_it() -> None:
    lead, ada, bea = make_user("lead"), make_user(), make_user()
    sample = make_sample()
    make_lease(sample=sample, holder=bea)
    samples.assign_samples(user=lead, samples=[sample.pk], person=ada)
    assert Lease.objects.get(sample=sample).holder is None
    assert leases.claim_next(user=ada).sample == sample


def test_what_cannot_be_assigned_is_left_and_named() -> None:
    lead, ada = make_user("lead"), make_user(username="ada", opted_out=["fraud"])
    round = make_round()
    decided = make_sample(round=round, status="decided")
    answered = make_sample(round=round, wanted=2)
    judge(answered, ada)
    kept_away = make_sample(round=round, query={"category": "fraud"})
    chosen = [decided.pk, answered.pk, kept_away.pk, uuid.uuid4()]
    outcome = samples.assign_samples(user=lead, samples=chosen, person=ada)
    assert outcome.done == []
    assert dict(outcome.skipped) == {
        "decided, so nobody is asked": 1,
        "answered by them already": 1,
        "of a category that ada is not asked about": 1,
    }
    assert not AuditEvent.objects.filter(action="samples.assign").exists()


def test_a_closed_account_gets_nothing() -> None:
    gone = make_user(is_active=False, username="gone")
    with pytest.raises(BulkRefused, match="gone is closed"):
        samples.assign_samples(user=make_user("lead"), samples=[make_sample().pk], person=gone)


def test_release_lets_another_take_it_and_keeps_what_comes_late() -> None:
    lead, ada, bea = make_user("lead"), make_user(), make_user()
    sample, other = make_sample(), make_sample()
    claim = leases.claim_sample(user=ada, sample_id=sample.pk)
    outcome = samples.release_samples(user=lead, samples=[sample.pk, other.pk])
    assert outcome.done == [sample.pk] and dict(outcome.skipped) == {"held by nobody": 1}
    leases.claim_sample(user=bea, sample_id=sample.pk)
    late = reviews.record_review(
        user=ada, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    assert not late.held_lease and fresh(sample).status == Status.QUEUED


# --- Exclude and put back ---------------------------------------------------------------------------


def test_excluding_and_putting_back_are_inverses() -> None:
    lead, ada = make_user("lead"), make_user()
    round = make_round()
    waiting, decided = make_sample(round=round), make_sample(round=round)
    make_sample(round=round)  # keeps the round open
    judge(decided, ada)
    before = Label.objects.get(sample=decided).evidence
    claim = leases.claim_sample(user=make_user(), sample_id=waiting.pk)
    outcome = samples.exclude_samples(user=lead, samples=[waiting.pk, decided.pk], reason=" a test\x00 prompt ")
    assert sorted(outcome.done) == sorted([waiting.pk, decided.pk])
    assert {fresh(s).status for s in (waiting, decided)} == {Status.EXCLUDED}
    assert fresh(waiting).excluded_reason == "a test prompt"
    assert not Label.objects.exists()
    assert Lease.objects.get(sample=waiting).holder is None
    assert claim.sample.pk != getattr(leases.claim_next(user=ada), "sample", Sample()).pk
    samples.requeue_samples(user=lead, samples=[waiting.pk, decided.pk])
    assert fresh(waiting).status == Status.QUEUED and fresh(waiting).excluded_reason == ""
    assert fresh(decided).status == Status.DECIDED
    assert Label.objects.get(sample=decided).evidence == before


def test_an_excluded_sample_of_an_ended_round_comes_back_with_its_label() -> None:
    lead, sample = make_user("lead"), make_sample(wanted=2)
    judge(sample, make_user())
    Round.objects.filter(pk=sample.round_id).update(status="done")
    Sample.objects.filter(pk=sample.pk).update(status="decided")
    samples.exclude_samples(user=lead, samples=[sample.pk], reason="x")
    samples.requeue_samples(user=lead, samples=[sample.pk])
    assert fresh(sample).status == Status.DECIDED
    assert Label.objects.get(sample=sample).how == "closed"


def test_an_unflagged_sample_comes_back_unflagged() -> None:
    lead, sample = make_user("lead"), make_sample(status="unflagged", flag_reason="")
    samples.exclude_samples(user=lead, samples=[sample.pk], reason="x")
    samples.requeue_samples(user=lead, samples=[sample.pk])
    assert fresh(sample).status == Status.UNFLAGGED


def test_excluding_says_which_models_trained_on_it() -> None:
    lead, sample = make_user("lead"), make_sample(status="decided")
    Label.objects.create(sample=sample, violates={"0": 1.0})
    later = make_round(experiment=sample.experiment, status="done")
    TrainedOn.objects.create(round=later, sample=sample)
    learner = Checkpoint.objects.create(
        experiment=sample.experiment, round=later, role="learner", path="x", sha256="0" * 64, verdict="accepted"
    )
    outcome = samples.exclude_samples(user=lead, samples=[sample.pk], reason="leaked")
    assert outcome.trained == [learner]
    assert AuditEvent.objects.get(action="samples.exclude").detail["trained"] == [str(learner.pk)]


def test_excluding_needs_a_reason_and_a_choice() -> None:
    lead, sample = make_user("lead"), make_sample()
    with pytest.raises(BulkRefused, match="why"):
        samples.exclude_samples(user=lead, samples=[sample.pk], reason=" \x00 ")
    with pytest.raises(BulkRefused, match="tick"):
        samples.release_samples(user=lead, samples=[])
    with pytest.raises(BulkRefused, match="too many"):
        samples.release_samples(user=lead, samples=[uuid.uuid4() for _ in range(501)])


def test_a_decided_sample_asks_one_more() -> None:
    lead, ada, bea = make_user("lead"), make_user(), make_user()
    round = make_round()
    sample = make_sample(round=round)
    make_sample(round=round)
    judge(sample, ada)
    assert fresh(sample).status == Status.DECIDED
    samples.requeue_samples(user=lead, samples=[sample.pk])
    now = fresh(sample)
    assert (now.status, now.wanted, now.rank) == (Status.QUEUED, 2, Sample.Rank.OPINION)
    assert not Label.objects.filter(sample=sample).exists()
    assert queue.pick_next(ada)[0] != sample.pk
    assert queue.pick_next(bea) == (sample.pk, "opinion")
    judge(sample, bea)
    assert Label.objects.get(sample=sample).how == "agreed"


def test_what_all_skipped_is_asked_again() -> None:
    lead = make_user("lead", is_active=True)
    ada, round = make_user(), make_round()
    sample = make_sample(round=round)
    make_sample(round=round)
    for person in (lead, ada):
        judge(sample, person, "skip")
    assert fresh(sample).status == Status.SKIPPED
    samples.requeue_samples(user=lead, samples=[sample.pk])
    assert fresh(sample).status == Status.QUEUED
    assert leases.claim_sample(user=ada, sample_id=sample.pk).sample == sample


def test_what_cannot_be_put_back_is_left_and_named() -> None:
    ended = make_round(status="done")
    queued, unflagged = make_sample(), make_sample(status="unflagged", flag_reason="")
    disputed, decided = make_sample(status="disputed"), make_sample(round=ended, status="decided")
    adjudicated = make_sample(status="decided")
    make_review(sample=adjudicated, reviewer=make_user("lead"), purpose="adjudication")
    chosen = [s.pk for s in (queued, unflagged, disputed, decided, adjudicated)]
    outcome = samples.requeue_samples(user=make_user("lead"), samples=chosen)
    assert outcome.done == []
    assert set(outcome.skipped) == {
        "queued already", "unflagged", "disputed", "of round 1, whose review has ended",
        "decided by a lead; take that decision back first",
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_excluding_the_last_waiting_sample_closes_the_review(monkeypatch: pytest.MonkeyPatch) -> None:
    from oversight import tasks

    sent: list[str] = []
    monkeypatch.setattr(tasks.run_phase, "delay", lambda round_id, attempt: sent.append(round_id))
    round = make_round()
    last, decided = make_sample(round=round), make_sample(round=round)
    judge(decided, make_user())
    samples.exclude_samples(user=make_user("lead"), samples=[last.pk], reason="x")
    round.refresh_from_db()
    assert (round.status, round.phase) == ("queued", "learn") and sent == [str(round.pk)]


# --- Gold -------------------------------------------------------------------------------------------


def test_only_what_has_a_label_is_gold() -> None:
    lead, labelled, bare = make_user("lead"), make_sample(status="decided"), make_sample()
    Label.objects.create(sample=labelled, violates={"0": 1.0})
    outcome = samples.mark_gold(user=lead, samples=[labelled.pk, bare.pk], gold=True)
    assert outcome.done == [labelled.pk] and dict(outcome.skipped) == {"without an approved label": 1}
    assert fresh(labelled).gold
    samples.mark_gold(user=lead, samples=[labelled.pk], gold=False)
    assert not fresh(labelled).gold


# --- Audit, queries, races --------------------------------------------------------------------------


def test_one_audit_event_names_all() -> None:
    lead = make_user("lead", username="lea")
    made = [make_sample().pk for _ in range(3)]
    samples.exclude_samples(user=lead, samples=made, reason="why")
    event = AuditEvent.objects.get(action="samples.exclude")
    assert event.actor == "lea" and event.detail["samples"] == [str(pk) for pk in sorted(made)]
    assert event.detail["reason"] == "why"


def test_as_many_queries_for_many_as_for_one(django_assert_max_num_queries: Any) -> None:
    lead, ada, round = make_user("lead"), make_user(), make_round()
    calls: list[Callable[[list[uuid.UUID]], Any]] = [
        lambda chosen: samples.assign_samples(user=lead, samples=chosen, person=ada),
        lambda chosen: samples.release_samples(user=lead, samples=chosen),
        lambda chosen: samples.exclude_samples(user=lead, samples=chosen, reason="x"),
        lambda chosen: samples.mark_gold(user=lead, samples=chosen, gold=True),
    ]
    for call in calls:
        counts = []
        for size in (1, 12):
            chosen = [make_sample(round=round).pk for _ in range(size)]
            for pk in chosen:
                Label.objects.create(sample_id=pk, violates={"0": 1.0})
            with django_assert_max_num_queries(20) as captured:
                call(chosen)
            counts.append(len(captured))
        assert counts[0] == counts[1]


def run_together(*calls: Callable[[], Any]) -> list[BaseException]:
    """Each in a thread with a connection of its own, all starting at once; what they raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            call()
        except Exception as error:  # noqa: BLE001 - the test looks at them
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.django_db(transaction=True)
def test_two_leads_at_once_leave_one_result() -> None:
    leads, round = [make_user("lead"), make_user("lead")], make_round()
    made = [make_sample(round=round).pk for _ in range(8)]
    for _ in range(3):
        errors = run_together(
            lambda: samples.exclude_samples(user=leads[0], samples=made, reason="one"),
            lambda: samples.exclude_samples(user=leads[1], samples=made[::-1], reason="two"),
            lambda: samples.assign_samples(user=leads[0], samples=made[::-1], person=leads[1]),
        )
        assert errors == []
        reasons = set(Sample.objects.values_list("excluded_reason", flat=True))
        assert len(reasons) == 1 and reasons <= {"one", "two"}
        assert set(Sample.objects.values_list("status", flat=True)) == {"excluded"}
        samples.requeue_samples(user=leads[0], samples=made)
        assert set(Sample.objects.values_list("status", flat=True)) == {"queued"}
    assert AuditEvent.objects.filter(action="samples.exclude").count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_submit_in_between_is_kept_and_brings_no_label_back() -> None:
    lead, ada, round = make_user("lead"), make_user(), make_round()
    make_sample(round=round)
    for _ in range(4):
        sample = make_sample(round=round)
        claim = leases.claim_sample(user=ada, sample_id=sample.pk)
        errors = run_together(
            lambda sample=sample: samples.exclude_samples(user=lead, samples=[sample.pk], reason="x"),
            lambda sample=sample, claim=claim: reviews.record_review(
                user=ada, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(),
                judgement=Judgement(action="approve"),
            ),
        )  # fmt: skip
        assert errors == []
        assert fresh(sample).status == Status.EXCLUDED and not Label.objects.filter(sample=sample).exists()
        assert Review.objects.filter(sample=sample).count() == 1


# --- The pages --------------------------------------------------------------------------------------

ACTS = ("assign", "unassign", "release", "requeue", "exclude", "gold", "not-gold")


@pytest.mark.parametrize("act", ACTS)
def test_who_may(client_for: For, client: Client, act: str) -> None:
    sample, form = make_sample(), {"reason": "x", "person": make_user(username="ada").username}
    address = f"/samples/act/{act}/"
    form["sample"] = str(sample.pk)
    assert client.post(address, form).headers["Location"].startswith("/sign-in/")
    assert client_for("reviewer").post(address, form).status_code == 403
    assert client_for("lead").get(address).status_code == 405
    assert fresh(sample).status == Status.QUEUED and not AuditEvent.objects.exists()
    answer = client_for("lead").post(address, form)
    assert answer.status_code == 302 and answer.headers["Location"] == "/samples/"
    assert client_for("lead").post("/samples/act/drop/", form).status_code == 404


def test_the_outcome_is_shown_once_and_can_be_undone(client_for: For) -> None:
    client, sample = client_for("lead"), make_sample()
    form = {"sample": [str(sample.pk), "no id"], "reason": "<b>spam</b>", "next": "/samples/?status=queued"}
    page = client.post("/samples/act/exclude/", form, follow=True)
    text = page.content.decode()
    assert page.request["QUERY_STRING"] == "status=queued"
    assert "1 sample excluded." in text and "/samples/act/requeue/" in text
    assert "1 sample excluded." not in client.get("/samples/").content.decode()
    client.post("/samples/act/requeue/", {"sample": str(sample.pk), "next": f"/samples/{sample.pk}/"})
    assert "1 sample put back." in client.get(f"/samples/{sample.pk}/").content.decode()
    assert fresh(sample).status == Status.QUEUED


@pytest.mark.parametrize("address", ["https://evil.example/samples/", "//evil.example", "/admin/", "", "javascript:1"])
def test_the_way_back_stays_here(client_for: For, address: str) -> None:
    answer = client_for("lead").post("/samples/act/release/", {"sample": str(make_sample().pk), "next": address})
    assert answer.headers["Location"] == "/samples/"


def test_hostile_forms(client_for: For) -> None:
    client, sample = client_for("lead"), make_sample()
    for person in ("", "nobody", "a\x00b", "x" * 5000):
        client.post("/samples/act/assign/", {"sample": str(sample.pk), "person": person})
        assert fresh(sample).assigned_to is None
    page = client.post("/samples/act/assign/", {"sample": "1' OR 1=1", "person": "x"}, follow=True)
    assert "notice bad" in page.content.decode()


def test_reviewers_get_no_boxes(client_for: For) -> None:
    sample = make_sample()
    for address in ("/samples/", f"/samples/{sample.pk}/"):
        assert "/samples/act/" in client_for("lead").get(address).content.decode()
        assert "/samples/act/" not in client_for("reviewer").get(address).content.decode()


def test_a_lease_that_ended_is_held_by_nobody() -> None:
    sample = make_sample()
    make_lease(sample=sample, holder=make_user(), seconds=-5)
    outcome = samples.release_samples(user=make_user("lead"), samples=[sample.pk])
    assert outcome.done == [] and Lease.objects.get(sample=sample).expires_at < timezone.now()
