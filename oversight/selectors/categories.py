"""The categories there are: what the constitutions and the seeds name."""

from __future__ import annotations

from oversight.models import Principle, Seed, User

COMPETENCE = "competence"  # the category of every task


def list_categories(user: User) -> list[str]:
    """Sorted; with what was chosen by `user` or for them before, so that no choice is dropped. Three short queries."""
    named = Principle.objects.order_by().values_list("category", flat=True).distinct()
    seeded = Seed.objects.order_by().values_list("category", flat=True).distinct()
    tasks = {COMPETENCE} if Principle.objects.filter(kind=Principle.Kind.COMPETENCE).exists() else set()
    return sorted({*named, *seeded, *tasks, *user.categories, *user.opted_out, *user.blurred} - {""})
