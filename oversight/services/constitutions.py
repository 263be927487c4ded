"""Versions of a constitution: one that a round was judged by never changes, so a change makes the next."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Max

from oversight.models import Constitution, Principle, Round, User
from oversight.services import audit


def is_used(constitution: Constitution) -> bool:
    """True once a round of an experiment with this constitution exists: its labels rest on these words."""
    return Round.objects.filter(experiment__constitution=constitution).exists()


@transaction.atomic
def make_next_version(*, constitution: Constitution, user: User) -> Constitution:
    """A copy with the next free version number, to be edited before an experiment takes it up."""
    versions = Constitution.objects.select_for_update().filter(name=constitution.name)
    list(versions)  # locks them: an aggregate alone does not
    last = versions.aggregate(last=Max("version"))["last"]
    copy = Constitution.objects.create(name=constitution.name, version=last + 1)
    principles = list(constitution.principles.all())
    names = ("key", "position", "kind", "category", "title", "text", "guidance", "fine", "safe_answers")
    Principle.objects.bulk_create(
        Principle(constitution=copy, **{name: getattr(principle, name) for name in names}) for principle in principles
    )
    audit.record(user.get_username(), "constitution.copy", f"constitution:{copy.pk}", of=str(constitution))
    return copy
