"""Labels that the critic doubts: taken in, listed for leads, asked about, kept, decided."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from alignment import records
from alignment.rundir import RunDir, read_rows, write_rows
from oversight import ingest
from oversight.models import AuditEvent, Label, Review, Sample, SecondLook, User
from oversight.services import adjudication, leases, reviews, second_looks
from oversight.services.adjudication import AdjudicationRefused
from oversight.services.judgements import Judgement
from tests.factories import make_review, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
VIOLATES: dict[str, Any] = {"action": "violates", "violations": {"0": ["private-life"]}}


@pytest.fixture
def ada() -> User:
    return make_user(username="ada")


@pytest.fixture
def bob() -> User:
    return make_user(username="bob")


@pytest.fixture
def lea() -> User:
    return make_user("lead", username="lea")


@pytest.fixture
def sample(ada: User) -> Sample:
    """Of a round that has learnt; Ada said that A violates."""
    sample = make_sample(round=make_round(status="done", phase="learn"), status="decided")
    review = make_review(sample=sample, reviewer=ada, **VIOLATES)
    Label.objects.create(sample=sample, violates={"0": 1.0, "1": 0.0}, evidence=[str(review.pk)])
    SecondLook.objects.create(
        sample=sample, response_index=0, label=1.0, predicted=0.04, margin=0.92, words="a critic says 0.04"
    )
    return sample


def state_of(sample: Sample) -> str:
    return SecondLook.objects.get(sample=sample).state


def row_of(sample: Sample, index: int, *, predicted: float = 0.1) -> records.SecondLook:
    response = sample.responses[index]["id"]
    return records.SecondLook(str(sample.pk), response, 1.0, predicted, 1 - 2 * predicted, "why")


def test_taken_in_twice_it_keeps_what_a_lead_did(sample: Sample, tmp_path: Path) -> None:
    other = make_sample(round=sample.round, status="decided")
    folder = RunDir(tmp_path)
    folder.learn.mkdir()
    path = folder.learn / "second_look.jsonl"
    write_rows(path, [row_of(sample, 0), row_of(other, 1), records.SecondLook(str(uuid.uuid4()), "gone", 1, 0, 1, "w")])
    SecondLook.objects.filter(sample=sample).update(state="closed")
    for _ in range(2):
        ingest.save_second_looks(sample.round, read_rows(path, records.SecondLook))
    assert set(SecondLook.objects.values_list("sample", "response_index", "state", "predicted")) == {
        (sample.pk, 0, "closed", 0.1),
        (other.pk, 1, "open", 0.1),
    }


def test_one_more_person_is_asked_blind_and_the_label_stands(sample: Sample, ada: User, bob: User, lea: User) -> None:
    second_looks.ask(user=lea, sample_id=sample.pk)
    assert (state_of(sample), AuditEvent.objects.last().action) == ("asked", "second_look.ask")  # type: ignore[union-attr]
    assert leases.claim_next(user=lea) is None  # she has seen the label
    assert leases.claim_next(user=ada) is None  # it is hers
    claim = leases.claim_next(user=bob)
    assert claim is not None
    assert (claim.sample, claim.why) == (sample, "opinion")
    assert leases.claim_next(user=make_user()) is None  # Bob holds it
    again = leases.claim_next(user=bob)  # a page that is loaded again shows the same
    assert again is not None
    assert again.fence == claim.fence
    review = reviews.record_review(
        user=bob, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    assert (review.purpose, review.saw_critic, review.held_lease) == ("review", False, False)
    sample.refresh_from_db()
    assert (sample.status, sample.label.violates, state_of(sample)) == ("decided", {"0": 1.0, "1": 0.0}, "answered")
    assert leases.claim_next(user=make_user()) is None


def test_it_comes_before_the_queue_and_after_what_is_assigned(sample: Sample, bob: User, lea: User) -> None:
    waiting = make_sample(round=make_round(experiment=sample.experiment), priority=1)
    second_looks.ask(user=lea, sample_id=sample.pk)
    claim = leases.claim_next(user=bob)
    assert claim is not None
    assert claim.sample == sample
    leases.release(user=bob)
    Sample.objects.filter(pk=waiting.pk).update(assigned_to=bob, rank=Sample.Rank.ASSIGNED)
    claim = leases.claim_next(user=bob)
    assert claim is not None
    assert claim.sample == waiting


def test_a_skip_asks_the_next(sample: Sample, bob: User, lea: User) -> None:
    second_looks.ask(user=lea, sample_id=sample.pk)
    claim = leases.claim_next(user=bob)
    assert claim is not None
    skip = Judgement(action="skip", skip_reason="unclear")
    reviews.record_review(user=bob, sample_id=sample.pk, fence=claim.fence, key=uuid.uuid4(), judgement=skip)
    assert state_of(sample) == "asked"
    assert leases.claim_next(user=bob) is None
    assert leases.claim_next(user=make_user()) is not None


def test_a_decision_or_keeping_it_ends_it(sample: Sample, lea: User) -> None:
    seen = set(Review.objects.values_list("pk", flat=True))
    adjudication.decide(
        user=lea, sample_id=sample.pk, key=uuid.uuid4(), seen=seen, judgement=Judgement(action="approve")
    )
    assert state_of(sample) == "closed"
    assert Label.objects.get(sample=sample).violates == {"0": 0.0, "1": 0.0}
    SecondLook.objects.update(state="asked")
    second_looks.keep(user=lea, sample_id=sample.pk)
    assert state_of(sample) == "closed"
    with pytest.raises(AdjudicationRefused, match="dealt with"):
        second_looks.ask(user=lea, sample_id=sample.pk)


def test_where_nobody_is_left_or_the_label_is_gone(sample: Sample, lea: User) -> None:
    with pytest.raises(AdjudicationRefused, match="Everybody who reviews"):
        second_looks.ask(user=lea, sample_id=sample.pk)
    make_user()
    Sample.objects.update(status="excluded")
    with pytest.raises(AdjudicationRefused, match="excluded by now"):
        second_looks.ask(user=lea, sample_id=sample.pk)


def test_the_list_says_why_and_its_buttons_work(client: Client, sample: Sample, bob: User, lea: User) -> None:
    client.force_login(lea)
    page = client.get("/adjudicate/").content.decode()
    for part in ("Labels worth a second look", "a critic says 0.04", "A: violates", f"/adjudicate/{sample.pk}/"):
        assert part in page
    address = f"/adjudicate/{sample.pk}/second-look/"
    answer = client.post(address, {"act": "ask"}, follow=True)
    assert answer.redirect_chain == [(f"/adjudicate/?experiment={sample.experiment_id}#second-looks", 302)]
    page = answer.content.decode()
    assert "One more person is asked." in page
    assert "Ask one more person" not in page
    assert "There is no action" in client.post(address, {"act": "?"}, follow=True).content.decode()
    page = client.post(address, {"act": "keep"}, follow=True).content.decode()
    assert "The label stays as it is." in page
    assert "No label looks wrong" in page
    assert "dealt with it meanwhile" in client.post(address, {"act": "ask"}, follow=True).content.decode()
    assert "dealt with it meanwhile" not in client.get("/adjudicate/").content.decode()
