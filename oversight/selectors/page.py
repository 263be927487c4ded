"""What every page's header shows. Lazy: a fragment that has no header asks the database nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from oversight.models import Role, Round, Sample, User
from oversight.permissions import has_role
from oversight.selectors.progress import Progress, read_progress

MOST = 999  # counting stops there: nobody needs the exact length of a longer queue in the header


@dataclass(frozen=True)
class Header:
    queued: int  # samples that wait for people in rounds that serve them, up to MOST + 1
    role: str
    admin: bool
    round: Round | None  # the newest round under way
    progress: Progress | None

    @property
    def count(self) -> str:
        return "" if not self.queued else f"{MOST}+" if self.queued > MOST else str(self.queued)


def read_header(user: User) -> Header:
    """Two queries."""
    running = Round.objects.filter(status__in=Round.OPEN).first()
    waiting = Sample.objects.filter(
        round__status__in=(Round.Status.PROPOSING, Round.Status.REVIEWING), status=Sample.Status.QUEUED
    )
    return Header(
        queued=waiting.order_by()[: MOST + 1].count(),
        role=Role(user.role).label,
        admin=has_role(user, Role.RESEARCHER),
        round=running,
        progress=read_progress(running) if running else None,
    )


def page_context(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    return {"header": SimpleLazyObject(lambda: read_header(user))}
