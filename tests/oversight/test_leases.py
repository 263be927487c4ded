"""Leases: never two holders, nothing lost, and as fast with a million samples as with ten."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from oversight.models import Lease, Round, Sample
from oversight.services import leases, queue, reviews
from oversight.services.judgements import Judgement
from tests.factories import make_lease, make_review, make_round, make_sample, make_user


@pytest.mark.django_db
def test_the_most_urgent_free_sample_comes_first_and_stays_held():
    round_ = make_round()
    make_sample(round=round_, priority=0.2)
    urgent = make_sample(round=round_, priority=0.9)
    ada, bob = make_user(), make_user()
    claim = leases.claim_next(user=ada)
    assert claim.sample == urgent
    assert leases.claim_next(user=ada).fence == claim.fence  # a reload shows the same one
    assert leases.claim_next(user=bob).sample != urgent
    assert leases.claim_next(user=make_user()) is None  # the rest is held


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["draft", "queued", "learning", "done", "failed", "cancelled"])
def test_only_rounds_that_propose_or_review_serve_samples(status):
    make_sample(round=make_round(status=status))
    assert leases.claim_next(user=make_user()) is None


@pytest.mark.django_db
def test_samples_arrive_while_the_round_still_proposes():
    sample = make_sample(round=make_round(status=Round.Status.PROPOSING))
    assert leases.claim_next(user=make_user()).sample == sample


@pytest.mark.django_db
def test_nobody_is_served_what_they_judged_or_skipped():
    ada = make_user()
    for action in ("skip", "approve"):
        make_review(sample=make_sample(round=make_round()), reviewer=ada, action=action)
    assert leases.claim_next(user=ada) is None
    assert leases.claim_next(user=make_user()) is not None


@pytest.mark.django_db
def test_an_expired_lease_goes_to_the_next_person_under_a_new_fence():
    ada, bob = make_user(), make_user()
    sample = make_sample()
    first = leases.claim_next(user=ada)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert leases.heartbeat(user=ada, sample_id=sample.pk, fence=first.fence)  # nobody took it meanwhile
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    second = leases.claim_next(user=bob)
    assert (second.sample, second.fence) == (sample, first.fence + 1)
    assert leases.heartbeat(user=ada, sample_id=sample.pk, fence=first.fence) is None


@pytest.mark.django_db
def test_release_gives_it_to_others_at_once():
    ada, bob = make_user(), make_user()
    sample = make_sample()
    leases.claim_next(user=ada)
    assert leases.claim_next(user=bob) is None
    assert leases.release(user=ada, sample_id=uuid.uuid4()) == 0
    assert leases.release(user=ada) == 1
    assert leases.claim_next(user=bob).sample == sample


@pytest.mark.django_db
def test_a_token_is_good_for_its_owner_only():
    ada, bob = make_user(), make_user()
    make_sample()
    claim = leases.claim_next(user=ada)
    token = claim.token(ada)
    assert leases.read_token(user=ada, token=token) == (claim.sample.pk, claim.fence)
    for user, text in ((bob, token), (ada, token + "x"), (ada, ""), (ada, "a:b:c")):
        with pytest.raises(leases.BadToken):
            leases.read_token(user=user, token=text)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_reviewers_at_once_never_hold_the_same_sample():
    """Eight people take and give back until all is judged; each taking is checked against all open ones."""
    people = [make_user() for _ in range(8)]
    round_ = make_round()
    samples = [make_sample(round=round_, priority=number / 40) for number in range(40)]
    guard, held, taken, errors = threading.Lock(), {}, [], []
    barrier = threading.Barrier(len(people))

    def work(user):
        try:
            barrier.wait()
            while (claim := leases.claim_next(user=user)) is not None:
                with guard:
                    if claim.sample.pk in held:
                        errors.append((claim.sample.pk, held[claim.sample.pk], user.pk))
                    held[claim.sample.pk] = user.pk
                    taken.append(claim.sample.pk)
                    if len(taken) % 3 == 0:
                        # Inside the guard: from the release on somebody else may rightly hold it.
                        del held[claim.sample.pk]
                        leases.release(user=user)
                        continue
                reviews.record_review(
                    user=user,
                    sample_id=claim.sample.pk,
                    fence=claim.fence,
                    key=uuid.uuid4(),
                    judgement=Judgement(action="approve"),
                )
        except Exception as error:  # noqa: BLE001 - a thread's error must fail the test
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(user,)) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Sample.objects.filter(status="decided").count() == len(samples)
    # Every sample was judged once, under the lease of the one who judged it.
    for sample in samples:
        (review,) = sample.reviews.all()
        assert review.held_lease


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_one_sample_and_many_hands():
    people = [make_user() for _ in range(8)]
    make_sample()
    barrier, claims = threading.Barrier(len(people)), []

    def work(user):
        try:
            barrier.wait()
            claims.append(leases.claim_next(user=user))
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(user,)) for user in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == len(people)
    assert sum(claim is not None for claim in claims) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("waiting", [1, 30])
def test_claiming_takes_a_fixed_number_of_queries(waiting, django_assert_num_queries):
    round_ = make_round()
    for number in range(waiting):
        sample = make_sample(round=round_, priority=number)
        if number % 2:
            make_lease(sample=sample, holder=make_user())
    user = make_user()
    with django_assert_num_queries(7 + 2):  # and the savepoint of the transaction
        assert leases.claim_next(user=user) is not None


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize("part", queue.Part)
def test_the_next_sample_comes_from_the_index(part):
    make_sample()
    user = make_user()
    waiting = queue._queue(user, Round.objects.get().pk, part).values_list("pk", flat=True)[:1]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
    plan = waiting.explain()
    assert "sample_queue" in plan
    if part != queue.Part.RANKED:  # a few rows, already found, may be sorted again
        assert "TEMP B-TREE" not in plan
        assert "Sort" not in plan


@pytest.mark.django_db
def test_what_a_person_began_alone_is_not_looked_through_each_time(monkeypatch):
    """Behind the first LOOK that they answered come the fresh ones, and what others began at the very end."""
    monkeypatch.setattr(queue, "LOOK", 2)
    queue._prepare.cache_clear()
    ada, round_ = make_user(), make_round()
    begun = [make_sample(round=round_, rank=1, wanted=2, priority=number / 10) for number in (9, 8, 7)]
    fresh = make_sample(round=round_)
    for sample in begun[:2]:
        make_review(sample=sample, reviewer=ada)
    first = leases.claim_next(user=ada)
    assert (first.sample, first.why) == (fresh, "priority")
    reviews.record_review(
        user=ada, sample_id=fresh.pk, fence=first.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    last = leases.claim_next(user=ada)
    assert (last.sample, last.why) == (begun[2], "begun")
    queue._prepare.cache_clear()
