"""Everything that can happen between a lease and a label, in any order, against a second bookkeeping.

Hypothesis makes up histories: several people, late submits, the same submit twice, expired leases, undo,
revision, withdrawal, adjudication, a crash before or after the commit. After each step the database must say
what `Books` says, which knows nothing of the services but their promises.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from oversight.models import Label, Lease, Review, Role, Round, Sample, User
from oversight.services import adjudication, audit, leases, reviews, withdrawals
from oversight.services.judgements import Judgement
from oversight.services.leases import Claim, NotFree
from oversight.services.reviews import ReviewRefused
from oversight.services.withdrawals import Wanted
from tests.factories import make_round, make_sample, make_user

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
PEOPLE, SAMPLES = 3, 4
VERDICTS = {"approve": {0: False, 1: False}, "both_bad": {0: True, 1: True}, "prefer_a": {}}
people = strategies.integers(0, PEOPLE - 1)
actions = strategies.sampled_from([*VERDICTS, "skip"])
any_index = strategies.integers(0, 10_000)


class Crash(Exception):
    """The process ends here."""


@dataclass
class Entry:
    """A row of Review as the books have it."""

    reviewer: int
    sample: uuid.UUID
    action: str
    counts: bool  # made under the lease
    adjudication: bool = False
    gone: bool = False  # corrected, taken back or withdrawn


@dataclass
class Books:
    """What must be so, by the promises alone."""

    wanted: dict[uuid.UUID, int] = field(default_factory=dict)
    entries: dict[uuid.UUID, Entry] = field(default_factory=dict)  # by key
    holder: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict)  # sample -> (user, fence)
    highest: dict[uuid.UUID, int] = field(default_factory=dict)  # sample -> the highest fence ever given

    def standing(self, sample: uuid.UUID) -> list[Entry]:
        return [e for e in self.entries.values() if e.sample == sample and not e.gone and e.action in VERDICTS]

    def standing_or_skip(self, sample: uuid.UUID) -> list[Entry]:
        said = [e for e in self.entries.values() if e.sample == sample and not e.gone and not e.adjudication]
        return [e for e in said if e.action in VERDICTS or e.action == "skip"]

    def label(self, sample: uuid.UUID) -> dict[str, float] | None:
        """What the label says of each answer, or None where there must be none."""
        standing = self.standing(sample)
        decisions = [e for e in standing if e.adjudication]
        counted = decisions[-1:] or [e for e in standing if e.counts]
        if not counted or (not decisions and len(counted) < self.wanted[sample]):
            return None
        said: dict[int, set[bool]] = {}
        for entry in counted:
            for answer, verdict in VERDICTS[entry.action].items():
                said.setdefault(answer, set()).add(verdict)
        if any(len(votes) > 1 for votes in said.values()):
            return None
        return {str(answer): float(next(iter(votes))) for answer, votes in said.items()}


class ReviewMachine(RuleBasedStateMachine):
    @initialize(wanted=strategies.lists(strategies.integers(1, 3), min_size=SAMPLES, max_size=SAMPLES))
    def open_the_round(self, wanted: list[int]) -> None:
        self.round = make_round()
        self.people = [make_user() for _ in range(PEOPLE)]
        self.lead = make_user(Role.LEAD)
        self.books = Books()
        for number, people in enumerate(wanted):
            sample = make_sample(round=self.round, priority=number / SAMPLES, wanted=people)
            self.books.wanted[sample.pk] = people
        self.claims: list[tuple[User, Claim]] = []  # every page that was ever shown; any may still be open
        self.submitted: list[tuple[User, Claim, uuid.UUID, str]] = []
        self.frozen: dict[uuid.UUID, dict[str, Any]] = {}
        for person in range(PEOPLE):  # so that every history has open pages from its start
            self.claim(person, ahead=False)

    def teardown(self) -> None:
        if hasattr(self, "round"):
            Round.objects.filter(pk=self.round.pk).update(status=Round.Status.CANCELLED)
            Lease.objects.filter(sample__round=self.round).update(holder=None)

    # --- What people do -------------------------------------------------------------------------------

    @rule(person=people, ahead=strategies.booleans())
    def claim(self, person: int, ahead: bool) -> None:
        user = self.people[person]
        claim = (leases.claim_ahead if ahead else leases.claim_next)(user=user)
        if claim is None:
            return
        held = self.books.holder.get(claim.sample.pk)
        assert held is None or held[0] == user.pk, "somebody else holds it"
        assert claim.sample.round_id == self.round.pk and self.is_open(claim.sample.pk)
        answered = [e for e in self.books.entries.values() if e.reviewer == user.pk and not e.gone]
        assert claim.sample.pk not in {e.sample for e in answered if not e.adjudication}, "served twice"
        self.note_claim(user, claim)

    @rule(person=people, number=strategies.integers(0, SAMPLES - 1))
    def open_link(self, person: int, number: int) -> None:
        user, sample = self.people[person], list(self.books.wanted)[number]
        holder = self.books.holder.get(sample, (user.pk,))[0]
        answered = any(e.reviewer == user.pk for e in self.books.standing_or_skip(sample))
        try:
            claim = leases.claim_sample(user=user, sample_id=sample)
        except NotFree:
            return
        assert holder == user.pk and not answered and self.is_open(sample)
        self.drop_leases(user.pk)
        self.note_claim(user, claim)

    @precondition(lambda self: self.books.holder)
    @rule(person=people)
    def release(self, person: int) -> None:
        leases.release(user=self.people[person])
        self.drop_leases(self.people[person].pk)

    @precondition(lambda self: self.books.holder)
    @rule(index=any_index, taker=people)
    def lapse(self, index: int, taker: int) -> None:
        """Time passes for one lease, and somebody comes for the next sample."""
        sample = [pk for pk in self.books.wanted if pk in self.books.holder][index % len(self.books.holder)]
        Lease.objects.filter(sample=sample).update(expires_at=timezone.now() - timedelta(seconds=1))
        del self.books.holder[sample]
        self.claim(taker, ahead=False)

    @precondition(lambda self: len(self.books.holder) < SAMPLES)
    @rule(number=strategies.integers(0, SAMPLES - 1))
    def contradict(self, number: int) -> None:
        """Two people say opposite things of one sample, where they may."""
        sample = list(self.books.wanted)[number]
        for person, action in ((0, "approve"), (1, "both_bad")):
            before = len(self.claims)
            self.open_link(person, number)
            if len(self.claims) > before and self.claims[-1][1].sample.pk == sample:
                self.submit(before, action)

    @rule(index=any_index)
    def postpone(self, index: int) -> None:
        user, claim = self.claims[index % len(self.claims)]
        row = Lease.objects.get(sample=claim.sample)
        done = leases.postpone(user=user, sample_id=claim.sample.pk, fence=claim.fence)
        assert done == (row.holder_id == user.pk and row.fence == claim.fence)
        if done:
            self.books.holder.pop(claim.sample.pk, None)

    @rule(index=any_index, action=actions)
    def submit(self, index: int, action: str) -> None:
        """From any page that was ever shown, however old."""
        user, claim = self.claims[index % len(self.claims)]
        key = uuid.uuid4()
        expected = self.expect_held(user, claim)
        review = self.send(user, claim, key, action)
        self.note_review(review, user, claim, action, expected)
        self.submitted.append((user, claim, key, action))

    @precondition(lambda self: self.submitted)
    @rule(index=any_index)
    def submit_again(self, index: int) -> None:
        """The answer was lost on its way, or the key was pressed twice."""
        user, claim, key, action = self.submitted[index % len(self.submitted)]
        before = Review.objects.filter(sample__round=self.round).count()
        assert self.send(user, claim, key, action).key == key
        assert Review.objects.filter(sample__round=self.round).count() == before

    @rule(index=any_index, action=actions)
    def crash_in_a_submit(self, index: int, action: str) -> None:
        """The process ends after the last write and before the commit: as if nothing had been sent."""
        user, claim = self.claims[index % len(self.claims)]
        with crashing():
            self.send(user, claim, uuid.uuid4(), action)

    @rule(person=people)
    def undo(self, person: int) -> None:
        user = self.people[person]
        key = uuid.uuid4()
        try:
            claim = reviews.undo_last(user=user, key=key)
        except ReviewRefused:
            return
        assert self.books.holder.get(claim.sample.pk, (user.pk,))[0] == user.pk, "taken from somebody else"
        undone = Review.objects.get(key=key).supersedes
        assert undone.reviewer_id == user.pk
        self.books.entries[undone.key].gone = True
        self.books.entries[key] = Entry(user.pk, claim.sample.pk, "undo", counts=False, gone=True)
        self.drop_leases(user.pk)
        self.note_claim(user, claim)

    @precondition(lambda self: self.list_standing(adjudication=False))
    @rule(index=any_index, action=strategies.sampled_from([*VERDICTS]))
    def revise(self, index: int, action: str) -> None:
        mine = self.list_standing(adjudication=False)
        earlier = mine[index % len(mine)]
        key = uuid.uuid4()
        review = reviews.revise_review(
            user=earlier.reviewer, review_id=earlier.pk, key=key, judgement=Judgement(action=action)
        )
        old = self.books.entries[earlier.key]
        old.gone = True
        self.books.entries[key] = Entry(old.reviewer, old.sample, action, counts=old.counts)
        assert review.saw_critic
        self.drop_lease_on(old.reviewer, old.sample)

    # --- What leads do --------------------------------------------------------------------------------

    @precondition(lambda self: self.list_standing())
    @rule(index=any_index)
    def withdraw(self, index: int) -> None:
        standing = self.list_standing()
        taken = standing[index % len(standing)]
        wanted = Wanted(reviewer=taken.reviewer, experiment=self.round.experiment, review=taken)
        withdrawals.withdraw(user=self.lead, wanted=wanted, reason="by mistake", key=uuid.uuid4())
        self.books.entries[taken.key].gone = True
        row = Review.objects.get(supersedes=taken)
        self.books.entries[row.key] = Entry(self.lead.pk, taken.sample_id, "withdraw", counts=False, gone=True)

    @precondition(lambda self: self.list_disputed())
    @rule(index=any_index, action=strategies.sampled_from([*VERDICTS]))
    def adjudicate(self, index: int, action: str) -> None:
        disputed = self.list_disputed()
        sample = disputed[index % len(disputed)]
        seen = [review.pk for review in reviews.list_reviews(sample)]
        key = uuid.uuid4()
        adjudication.decide(user=self.lead, sample_id=sample.pk, seen=seen, key=key, judgement=Judgement(action=action))
        self.books.entries[key] = Entry(self.lead.pk, sample.pk, action, counts=False, adjudication=True)

    # --- What must hold after every step --------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_nothing_changes(self) -> None:
        rows = {row["key"]: row for row in Review.objects.filter(sample__round=self.round).values()}
        assert set(rows) == set(self.books.entries)
        for key, row in self.frozen.items():
            assert rows[key] == row, "a review was changed"
        self.frozen = rows

    @invariant()
    def one_holder_and_a_rising_fence(self) -> None:
        now = timezone.now()
        held = Lease.objects.filter(sample__round=self.round, holder__isnull=False, expires_at__gt=now)
        assert {row.sample_id: (row.holder_id, row.fence) for row in held} == self.books.holder

    @invariant()
    def everybody_counts_once(self) -> None:
        for sample in self.books.wanted:
            standing = self.books.standing(sample)
            assert len({(e.reviewer, e.adjudication) for e in standing}) == len(standing)

    @invariant()
    def labels_are_what_the_judgements_make(self) -> None:
        labels = {label.sample_id: label for label in Label.objects.filter(sample__round=self.round)}
        for sample in self.books.wanted:
            expected = self.books.label(sample)
            assert (labels[sample].violates if sample in labels else None) == expected
            if sample in labels:
                evidence = Review.objects.filter(pk__in=labels[sample].evidence)
                assert len({row.reviewer_id for row in evidence}) == len(labels[sample].evidence)

    @invariant()
    def the_status_says_so(self) -> None:
        labelled = set(Label.objects.filter(sample__round=self.round).values_list("sample_id", flat=True))
        for sample, status in Sample.objects.filter(round=self.round).values_list("pk", "status"):
            assert (status == "decided") == (sample in labelled), status
            if status == "disputed":
                assert len([e for e in self.books.standing(sample) if e.counts]) >= self.books.wanted[sample]

    @invariant()
    def the_audit_chain_holds(self) -> None:
        assert audit.find_break() is None

    # --- Parts ----------------------------------------------------------------------------------------

    def send(self, user: User, claim: Claim, key: uuid.UUID, action: str) -> Review:
        return reviews.record_review(
            user=user, sample_id=claim.sample.pk, fence=claim.fence, key=key, judgement=Judgement(action=action)
        )

    def is_open(self, sample: uuid.UUID) -> bool:
        return Sample.objects.get(pk=sample).status == "queued"

    def expect_held(self, user: User, claim: Claim) -> bool:
        """A judgement counts under the lease, under an ended one that nobody took, or as a correction of one."""
        own = [e for e in self.books.standing_or_skip(claim.sample.pk) if e.reviewer == user.pk]
        if own:
            return own[-1].counts
        row = Lease.objects.get(sample=claim.sample)
        if row.holder_id == user.pk and row.fence == claim.fence:
            return True
        taken = claim.sample.pk in self.books.holder
        return not taken and self.is_open(claim.sample.pk)

    def note_claim(self, user: User, claim: Claim) -> None:
        known = self.books.highest.get(claim.sample.pk, 0)
        mine = self.books.holder.get(claim.sample.pk, (None,))[0] == user.pk
        lapsed = any(u == user and c.sample == claim.sample and c.fence == claim.fence for u, c in self.claims)
        assert claim.fence > known or mine or lapsed, "a fence was given twice"
        self.books.highest[claim.sample.pk] = max(known, claim.fence)
        self.books.holder[claim.sample.pk] = (user.pk, claim.fence)
        self.claims.append((user, claim))

    def note_review(self, review: Review, user: User, claim: Claim, action: str, counts: bool) -> None:
        assert review.held_lease == counts
        for entry in self.books.standing_or_skip(claim.sample.pk):
            if entry.reviewer == user.pk:
                entry.gone = True
        self.books.entries[review.key] = Entry(user.pk, claim.sample.pk, action, counts=counts)
        self.drop_lease_on(user.pk, claim.sample.pk)

    def drop_lease_on(self, user: int, sample: uuid.UUID) -> None:
        if self.books.holder.get(sample, (None,))[0] == user:
            del self.books.holder[sample]

    def drop_leases(self, user: int) -> None:
        self.books.holder = {k: v for k, v in self.books.holder.items() if v[0] != user}

    def list_disputed(self) -> list[Sample]:
        return list(Sample.objects.filter(round=self.round, status="disputed").order_by("priority"))

    def list_standing(self, *, adjudication: bool = True) -> list[Review]:
        keys = [k for k, e in self.books.entries.items() if not e.gone and e.action in VERDICTS]
        keys = [k for k in keys if adjudication or not self.books.entries[k].adjudication]
        return list(Review.objects.filter(key__in=keys).select_related("reviewer").order_by("created_at"))


@contextmanager
def crashing() -> Iterator[None]:
    """The audit event is the last write of a submit."""
    with mock.patch.object(audit.AuditEvent, "save", side_effect=Crash), pytest.raises(Crash), transaction.atomic():
        yield


def test_any_history_keeps_the_rules() -> None:
    run_state_machine_as_test(
        ReviewMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            phases=[Phase.generate],  # shrinking a history takes longer than reading its steps
        ),
    )
