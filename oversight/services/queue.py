"""The order in which samples come to people.

The policy, from first to last: what a person already holds (`leases`); what a lead assigned to them; a label of
an earlier round that a lead wants somebody to look at again; a gold sample at the experiment's share; a sample
about which a lead asked for another opinion; one that others began and that wants more people (of many of these
the first LOOK); the highest priority; the oldest. Rounds are served oldest first. What somebody postponed comes to
them when nothing else is left.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from oversight.models import Lease, Postponement, Review, Round, Sample, SecondLook, User

SERVING = (Round.Status.PROPOSING, Round.Status.REVIEWING)
Action = Review.Action
Why = Lease.Why
WHY_BY_RANK = {
    Sample.Rank.ASSIGNED: Why.ASSIGNED,
    Sample.Rank.OPINION: Why.OPINION,
    Sample.Rank.BEGUN: Why.BEGUN,
    Sample.Rank.PRIORITY: Why.PRIORITY,
}


def pick_next(user: User) -> tuple[UUID, str] | None:
    """The next sample for `user` and why it comes, its row locked; None where nothing waits for them."""
    rounds = list(
        Round.objects.filter(status__in=SERVING)
        .order_by("created_at")
        .values_list("pk", "experiment_id", "experiment__gold_share")
    )
    again = _find_second_look(user)
    if again is not None and not _has_assigned(user, (pk for pk, *_ in rounds)):
        return again, Why.OPINION
    for _, experiment_id, share in rounds:
        if share and random.random() < share:
            gold = _lock_first(_gold(user, experiment_id))
            if gold is not None and not _has_assigned(user, (pk for pk, *_ in rounds)):
                return gold[0], Why.GOLD
    for parts in ((Part.RANKED, Part.FRESH), (Part.ALL,)):
        for round_id, *_ in rounds:
            for part in parts:
                found = _lock_waiting(user, round_id, part)
                if found is not None:
                    return found[0], WHY_BY_RANK[Sample.Rank(found[1])]
    postponed = _lock_first(_postponed(user, [round_id for round_id, *_ in rounds])) if rounds else None
    return (postponed[0], Why.POSTPONED) if postponed else None


class Part(StrEnum):
    """What of a queue is looked through. Whoever judges alone has already answered all that they began: they
    must not look through hundreds of these for each sample, so they meet the rest of them only at the end."""

    RANKED = "ranked"  # the first LOOK of those that come before the priority
    FRESH = "fresh"  # the others
    ALL = "all"


LOOK = 20  # samples


def _lock_waiting(user: User, round_id: UUID, part: Part) -> tuple[UUID, int] | None:
    """The first row of `_queue`, as a statement that is built once: building it takes longer than running it."""
    sql, places = _prepare(connection.vendor, part, tuple(user.categories), tuple(user.opted_out))
    mine = {USER: user.pk, ROUND: round_id, NOW: timezone.now()}
    values = [fields.get_db_prep_value(mine[name], connection) if name else fields for fields, name in places]
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row = cursor.fetchone()
    return None if row is None else (Sample._meta.pk.to_python(row[0]), row[1])


# What stands for the person, the round and the time in the prepared statement.
USER, ROUND, NOW = -1, UUID(int=0), datetime(1, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)
def _prepare(
    vendor: str, part: Part, categories: tuple[str, ...], opted_out: tuple[str, ...]
) -> tuple[str, list[tuple[Any, Any]]]:
    """(SQL, one (field, what stands for the value) or (value, None) a parameter) of the queue of such a person."""
    nobody = User(pk=USER, categories=list(categories), opted_out=list(opted_out))
    samples = _queue(nobody, ROUND, part, now=NOW).select_for_update(of=("self",), skip_locked=True)
    sql, params = samples.values_list("pk", "rank")[:1].query.sql_with_params()
    fields = {USER: User._meta.pk, ROUND: Round._meta.pk, NOW: Lease._meta.get_field("expires_at")}
    known = {field.get_db_prep_value(name, connection): (field, name) for name, field in fields.items()}
    return sql, [known.get(value, (value, None)) for value in params]


def _lock_first(samples: QuerySet[Sample]) -> tuple[UUID, int] | None:
    return samples.select_for_update(of=("self",), skip_locked=True).values_list("pk", "rank").first()


ORDER = ("-rank", "-priority", "created_at", "id")


def _queue(user: User, round_id: UUID, part: Part, *, now: datetime | None = None) -> QuerySet[Sample]:
    """What waits for `user` in the order of the index. A join would cost that order: see the test of the plan."""
    postponed = Postponement.objects.filter(sample=OuterRef("pk"), user=user)
    if part == Part.RANKED:
        # All that an index knows is asked inside only: outside, SQLite would go by it and look for each in the list.
        ranked = Sample.objects.filter(
            _given_to(user), round_id=round_id, status=Sample.Status.QUEUED, rank__gt=Sample.Rank.PRIORITY
        )
        free = _untouched(user, now).filter(pk__in=ranked.order_by(*ORDER).values("pk")[:LOOK])
    else:
        free = free_samples(user, now=now).filter(round_id=round_id)
        if part == Part.FRESH:
            free = free.filter(rank=Sample.Rank.PRIORITY)
    free = free.filter(~Exists(postponed))
    return free.order_by(*ORDER)


def _postponed(user: User, rounds: list[UUID]) -> QuerySet[Sample]:
    mine = free_samples(user).filter(postponed__user=user, round__in=rounds)
    return mine.order_by("postponed__created_at", "id")


def _gold(user: User, experiment_id: UUID) -> QuerySet[Sample]:
    """Gold samples that `user` has never judged, in an order of its own for each person's sake: by id."""
    seen = Review.objects.filter(sample=OuterRef("pk"), reviewer=user)
    gold = Sample.objects.filter(~Exists(_held()), ~Exists(seen), experiment=experiment_id, gold=True)
    return _for_person(gold, user).exclude(status=Sample.Status.EXCLUDED).order_by("id")


def _find_second_look(user: User) -> UUID | None:
    """A decided sample about which a lead asked one more person, its row locked; none that `user` knows."""
    looks = SecondLook.objects.filter(state=SecondLook.State.ASKED)
    asked = list(looks.exclude(asked_by=user).values_list("sample_id", flat=True)[:LOOK])
    if not asked:
        return None
    seen = Review.objects.filter(sample=OuterRef("pk"), reviewer=user)
    free = Sample.objects.filter(~Exists(_held()), ~Exists(seen), pk__in=asked, status=Sample.Status.DECIDED)
    found = _lock_first(_for_person(free, user).order_by("id"))
    return found[0] if found else None


def _has_assigned(user: User, rounds: Iterable[UUID]) -> bool:
    """Assigned samples come before gold ones; asked only where a gold one was drawn."""
    return free_samples(user).filter(round__in=list(rounds), rank=Sample.Rank.ASSIGNED).exists()


def _held(now: datetime | None = None) -> QuerySet[Lease]:
    return Lease.objects.filter(sample=OuterRef("pk"), holder__isnull=False, expires_at__gt=now or timezone.now())


def free_samples(user: User, *, now: datetime | None = None) -> QuerySet[Sample]:
    """Samples that wait, that nobody holds, that `user` has neither judged nor skipped, and of their categories."""
    return _untouched(user, now).filter(_given_to(user), status=Sample.Status.QUEUED)


def _given_to(user: User) -> Q:
    return Q(assigned_to=None) | Q(assigned_to=user)


def _untouched(user: User, now: datetime | None) -> QuerySet[Sample]:
    answered = list_answers().filter(sample=OuterRef("pk"), reviewer=user)
    return _for_person(Sample.objects.filter(~Exists(_held(now)), ~Exists(answered)), user)


def list_answers() -> QuerySet[Review]:
    """What people said and did not take back or correct. What a lead withdrew is not asked of them again."""
    # Not by `superseded_by`: with statistics SQLite reads all reviews for that join.
    later = Review.objects.filter(supersedes=OuterRef("pk")).exclude(action=Action.WITHDRAW)
    said = Review.objects.filter(~Exists(later))
    return said.exclude(action__in=(Action.UNDO, Action.WITHDRAW))


def _for_person(samples: QuerySet[Sample], user: User) -> QuerySet[Sample]:
    if user.categories:
        samples = samples.filter(category__in=user.categories)
    return samples.exclude(category__in=user.opted_out) if user.opted_out else samples


# What the workbench and its rules ask of a round; the rest (its configuration, its times) is read where needed.
ROUND_FIELDS = (
    "experiment", "number", "status", "phase", "budget", "created_at",
    "experiment__constitution", "experiment__gold_share", "experiment__name",
)  # fmt: skip


def load_sample(sample_id: UUID) -> Sample:
    """A sample with all that the workbench shows of it."""
    return Sample.objects.select_related("round__experiment", "query__parent__parent").get(pk=sample_id)


def is_served(sample: Sample, *, gold: bool = False) -> bool:
    """Whether people may be asked about it now; `sample` comes with its round."""
    if gold:
        return sample.gold and sample.status != Sample.Status.EXCLUDED
    if sample.status == Sample.Status.QUEUED:
        return sample.round.status in SERVING
    return SecondLook.objects.filter(sample=sample, state=SecondLook.State.ASKED).exists()


def why_not_free(sample: Sample, user: User) -> str:
    """Why `user` can't open this sample by its link, as a sentence; "" where they can. Leases are not looked at."""
    if list_answers().filter(sample=sample, reviewer=user).exists():
        return "You have already answered this sample; your history has it, and revises it."
    if sample.status != Sample.Status.QUEUED:
        return f"This sample is {sample.get_status_display().lower()} and waits for nobody."
    if sample.round.status not in SERVING:
        return f"The review of round {sample.round.number} is not open."
    if sample.assigned_to_id not in (None, user.pk):
        return "This sample is assigned to somebody else."
    return ""
