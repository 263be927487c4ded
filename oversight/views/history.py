"""A person's own judgements."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from oversight.models import Role, User
from oversight.permissions import require_role
from oversight.selectors.history import list_own_reviews, list_rounds


@never_cache
@require_GET
@require_role(Role.REVIEWER)
def history(request: HttpRequest) -> HttpResponse:
    """What one judged and skipped, newest first; `round` narrows it, and one that isn't there counts as all."""
    assert isinstance(request.user, User)
    rounds = list_rounds()
    try:
        wanted = UUID(request.GET.get("round", ""))
    except ValueError:
        wanted = None
    round_ = next((found for found in rounds if found.pk == wanted), None)
    after = request.GET.get("after", "")
    page = list_own_reviews(request.user, round_=round_, after=after)
    context = {"page": page, "rounds": rounds, "round": round_, "after": after}
    return render(request, "oversight/history.html", context)
