"""What every page's header shows. Lazy: a fragment that has no header asks the database nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from oversight.models import Role, Round, Sample, User
from oversight.permissions import has_role
from oversight.selectors.adjudication import count_disputes
from oversight.selectors.progress import Progress, read_progress

MOST = 999  # counting stops there: nobody needs the exact length of a longer queue in the header


@dataclass(frozen=True)
class Header:
    queued: int  # samples that wait for people in rounds that serve them, up to MOST + 1
    disputed: int  # samples that wait for a lead, up to MOST + 1; 0 for who is none
    role: str
    lead: bool
    admin: bool
    round: Round | None  # the newest round under way
    progress: Progress | None

    @property
    def count(self) -> str:
        return _in_words(self.queued)

    @property
    def disputes(self) -> str:
        return _in_words(self.disputed)


def _in_words(number: int) -> str:
    return "" if not number else f"{MOST}+" if number > MOST else str(number)


def read_header(user: User) -> Header:
    """Two queries, three for leads."""
    lead = has_role(user, Role.LEAD)
    running = Round.objects.filter(status__in=Round.OPEN).first()
    waiting = Sample.objects.filter(
        round__status__in=(Round.Status.PROPOSING, Round.Status.REVIEWING), status=Sample.Status.QUEUED
    )
    return Header(
        queued=waiting.order_by()[: MOST + 1].count(),
        disputed=count_disputes(most=MOST + 1) if lead else 0,
        role=Role(user.role).label,
        lead=lead,
        admin=has_role(user, Role.RESEARCHER),
        round=running,
        progress=read_progress(running) if running else None,
    )


def page_context(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    return {"header": SimpleLazyObject(lambda: read_header(user))}
