"""What a person keeps away from, sees only after a key, and when they are reminded of a break."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from oversight.events import publish
from oversight.models import Lease, User
from oversight.services import audit

LONGEST_BREAK = 480  # minutes of active reviewing


class BadPreference(ValueError):
    """A value that can't be kept: a sentence made for people."""


@transaction.atomic
def save_preferences(
    *, user: User, opted_out: Iterable[str], blurred: Iterable[str], break_minutes: int, known: Iterable[str]
) -> None:
    """Keeps the choices and gives back what `user` holds of a category that they opted out of.

    `known` are the categories there are. Raises BadPreference.
    """
    known = set(known)
    unknown = sorted({*opted_out, *blurred} - known)
    if unknown:
        raise BadPreference(f"There is no category {', '.join(unknown)}; reload the page.")
    if not 0 <= break_minutes <= LONGEST_BREAK:
        raise BadPreference(f"{break_minutes} minutes can't be; choose 0 (never) to {LONGEST_BREAK}.")
    _store(user, sorted(set(opted_out)), sorted(set(blurred)), break_minutes)


@transaction.atomic
def opt_out(*, user: User, category: str) -> None:
    """One more category that never comes to `user`. Raises BadPreference for none."""
    if not category:
        raise BadPreference("This sample has no category to keep away from; use Skip.")
    kept = User.objects.select_for_update().get(pk=user.pk)
    _store(user, sorted({*kept.opted_out, category}), kept.blurred, kept.break_minutes)


def _store(user: User, opted_out: list[str], blurred: list[str], break_minutes: int) -> None:
    user.opted_out, user.blurred, user.break_minutes = opted_out, blurred, break_minutes
    user.save(update_fields=["opted_out", "blurred", "break_minutes"])
    if Lease.objects.filter(holder=user, sample__category__in=opted_out).update(holder=None):
        publish("queue")
    audit.record(
        user.get_username(), "account.preferences", f"user:{user.get_username()}",
        opted_out=opted_out, blurred=blurred, break_minutes=break_minutes,
    )  # fmt: skip
