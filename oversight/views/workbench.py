"""How the workbench is answered with: the page, its node #workbench, or what follows a judgement in the background."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone

from oversight.models import Review, Sample, User
from oversight.selectors.empty import read_empty
from oversight.selectors.round_counts import count_reviews, find_served_round
from oversight.selectors.verdicts import Previous, read_previous
from oversight.selectors.workbench import Marks, read_workbench
from oversight.services import leases, rounds
from oversight.services.leases import BadToken, Claim
from oversight.views.review_input import read_typed


def is_background(request: HttpRequest) -> bool:
    """The page shows the next sample already; `shown` is the token of it."""
    return "shown" in request.POST


def show_after(request: HttpRequest, made: Review) -> HttpResponse:
    """The answer to a stored judgement."""
    previous = read_previous(review=made)
    if is_background(request):
        return show_ahead(request, made.sample, {"previous": previous})
    if not request.htmx:  # type: ignore[attr-defined]
        rounds.close_if_spent(made.sample.round)
        return redirect(f"{reverse('review')}?after={made.pk}")
    return show_next(request, previous=previous)


def refuse(request: HttpRequest, words: str, *, status: int, typed_for: UUID | None = None) -> HttpResponse:
    """What was sent is not taken; in the background the page brings it back itself."""
    if is_background(request):
        return JsonResponse({"error": words}, status=status)
    return show_next(request, notice=words, typed_for=typed_for, status=status)


def show_next(
    request: HttpRequest,
    *,
    previous: Previous | None = None,
    notice: str = "",
    typed_for: UUID | None = None,
    status: int = 200,
) -> HttpResponse:
    """`typed_for` is the sample whose form was sent: what stands in it is kept if the sample is still held."""
    user = request.user
    assert isinstance(user, User)
    claim = leases.claim_next(user=user)
    if previous is not None:
        _close_behind(previous.review.sample, claim)
    context: dict[str, Any] = {"previous": previous, "notice": notice}
    if claim is None:
        return render_workbench(request, context | {"empty": read_empty(user)}, status=status)
    typed = read_typed(request.POST) if claim.sample.pk == typed_for else None
    return show_claim(request, claim, context, marks=typed, status=status)


def show_claim(
    request: HttpRequest, claim: Claim, context: dict[str, Any], *, marks: Marks | None = None, status: int = 200
) -> HttpResponse:
    return render_workbench(request, context | _read_sample(request, claim, marks=marks), status=status)


def show_ahead(request: HttpRequest, judged: Sample, context: dict[str, Any]) -> HttpResponse:
    """After a judgement in the background: what is said of it, how far the round is, and one more sample ahead.

    `judged` comes with its round.
    """
    user = request.user
    assert isinstance(user, User)
    with transaction.atomic():  # one commit for both leases
        lost = not _keep_shown(request)
        claim = leases.claim_ahead(user=user)
    _close_behind(judged, claim)
    until = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    context |= {"lost": lost, "until": until, "counts": count_reviews(find_served_round(judged), user)}
    if claim is not None:
        context |= _read_sample(request, claim, ahead=True)
    return render(request, "oversight/review_after.html", context)


def render_ahead(request: HttpRequest, claim: Claim) -> HttpResponse:
    """The node #sample of what the page fetches before it is needed."""
    return render(request, "oversight/review_sample.html", _read_sample(request, claim, ahead=True))


def render_workbench(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """The node #workbench alone for htmx, else the whole page around it."""
    name = "review_workbench" if request.htmx else "review"  # type: ignore[attr-defined]
    return render(request, f"oversight/{name}.html", {**context, "undo_key": uuid.uuid4()}, status=status)


def _read_sample(
    request: HttpRequest, claim: Claim, *, marks: Marks | None = None, ahead: bool = False
) -> dict[str, Any]:
    """What review_sample.html needs; of one that is fetched ahead without what would be old when it shows."""
    user = request.user
    assert isinstance(user, User)
    bench = read_workbench(sample=claim.sample, user=user, marks=marks, count=not ahead, reveal="reveal" in request.GET)
    context = {
        "bench": bench,
        "token": claim.token(user),
        "action_url": reverse("review-submit"),
        "sample_url": reverse("review-sample", args=[claim.sample.pk]),
        "key": uuid.uuid4(),
    }
    return context if ahead else context | {"counts": bench.counts, "expires_at": claim.expires_at}


def _keep_shown(request: HttpRequest) -> bool:
    """The sample that the page shows now gets its full time; one that ended and that nobody took, too."""
    user = request.user
    assert isinstance(user, User)
    try:
        sample_id, fence = leases.read_token(user=user, token=request.POST.get("shown", ""))
    except BadToken:
        return False
    if leases.show_ahead(user=user, sample_id=sample_id, fence=fence):
        return True
    revived = leases.heartbeat(user=user, sample_id=sample_id, fence=fence) is not None
    return revived and leases.show_ahead(user=user, sample_id=sample_id, fence=fence)


def _close_behind(judged: Sample, claim: Claim | None) -> None:
    """The round of the judged sample may be spent; it is not where its next sample has just been served."""
    if claim is None or claim.sample.round_id != judged.round_id:
        rounds.close_if_spent(judged.round)
