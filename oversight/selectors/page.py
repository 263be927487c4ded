"""What every page's header shows. Lazy: a fragment that has no header asks the database nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from oversight.models import Role, Round, Sample, User
from oversight.permissions import has_role


@dataclass(frozen=True)
class Header:
    queued: int  # samples that wait for people in rounds that serve them
    role: str
    admin: bool
    round: Round | None  # the newest round under way
    stage: str
    moving: bool

    @property
    def round_url(self) -> str:
        return f"/rounds/{self.round.id}/" if self.round else "/rounds/"


def read_header(user: User) -> Header:
    running = Round.objects.filter(status__in=Round.OPEN).only(
        "number", "status", "stage", "stage_done", "stage_total"
    ).first()  # fmt: skip
    return Header(
        queued=Sample.objects.filter(
            round__status__in=(Round.Status.PROPOSING, Round.Status.REVIEWING), status=Sample.Status.QUEUED
        ).count(),
        role=Role(user.role).label,
        admin=has_role(user, Role.RESEARCHER),
        round=running,
        stage=(running.stage if running and running.status != Round.Status.REVIEWING else "")
        or (running.status if running else ""),
        moving=bool(running and running.status in Round.RUNNING),
    )


def page_context(request: HttpRequest) -> dict[str, Any]:
    user = getattr(request, "user", None)
    if not isinstance(user, User):
        return {}
    return {"header": SimpleLazyObject(lambda: read_header(user))}
