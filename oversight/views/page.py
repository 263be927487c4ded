"""The header's live line, fetched anew when a round or the queue changes."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from oversight.models import Role
from oversight.permissions import require_role


@require_role(Role.REVIEWER)
def header(request: HttpRequest) -> HttpResponse:
    return render(request, "oversight/_live.html", {"swap_count": True})
