"""What the open workbench does in the background: fetches ahead, keeps its leases and drafts, gives back."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from oversight.models import Role, User
from oversight.permissions import require_role
from oversight.services import leases
from oversight.services.judgements import InvalidReview
from oversight.services.leases import BadToken
from oversight.views import workbench
from oversight.views.review_input import read_fields

LOST = "Somebody else has this sample by now."


@never_cache
@require_GET
@require_role(Role.REVIEWER)
def ahead(request: HttpRequest) -> HttpResponse:
    """One more sample than the person holds, as the page's node #sample; 204 where none waits."""
    assert isinstance(request.user, User)
    claim = leases.claim_ahead(user=request.user)
    return HttpResponse(status=204) if claim is None else workbench.render_ahead(request, claim)


@require_POST
@require_role(Role.REVIEWER)
def heartbeat(request: HttpRequest) -> HttpResponse:
    """The page is still open: prolongs the lease, and that of what it fetched ahead (`ahead`, a token too).

    409 where somebody else has the sample by now; "ahead" is false where only the other one is lost.
    """
    assert isinstance(request.user, User)
    try:
        sample_id, fence = leases.read_token(user=request.user, token=request.POST.get("token", ""))
        kept_ahead = _beat_ahead(request.user, request.POST.get("ahead", ""))
    except BadToken as error:
        return JsonResponse({"error": str(error)}, status=409)
    expires_at = leases.heartbeat(user=request.user, sample_id=sample_id, fence=fence)
    if expires_at is None:
        return JsonResponse({"error": LOST, "ahead": kept_ahead}, status=409)
    return JsonResponse({"until": timezone.localtime(expires_at).strftime("%H:%M"), "ahead": kept_ahead})


def _beat_ahead(user: User, token: str) -> bool:
    if not token:
        return False
    sample_id, fence = leases.read_token(user=user, token=token)
    return leases.heartbeat(user=user, sample_id=sample_id, fence=fence) is not None


@require_POST
@require_role(Role.REVIEWER)
def draft(request: HttpRequest) -> HttpResponse:
    """Keeps what stands in the form on the server. 409 where the sample is not the person's any more."""
    assert isinstance(request.user, User)
    try:
        sample_id, fence = leases.read_token(user=request.user, token=request.POST.get("token", ""))
        form = read_fields(request.POST)
    except BadToken as error:
        return JsonResponse({"error": str(error)}, status=409)
    except InvalidReview as error:
        return JsonResponse({"error": str(error)}, status=422)
    if not leases.save_draft(user=request.user, sample_id=sample_id, fence=fence, form=form):
        return JsonResponse({"error": LOST}, status=409)
    return JsonResponse({"saved": timezone.localtime().strftime("%H:%M:%S")})


@require_POST
@require_role(Role.REVIEWER)
def release(request: HttpRequest) -> HttpResponse:
    """Stops reviewing: what the person holds goes back to the queue. With `ahead`, a token, only that sample."""
    assert isinstance(request.user, User)
    token = request.POST.get("ahead", "")
    if not token:
        leases.release(user=request.user)
        return redirect("overview")
    try:
        sample_id, _ = leases.read_token(user=request.user, token=token)
    except BadToken as error:
        return JsonResponse({"error": str(error)}, status=409)
    leases.release(user=request.user, sample_id=sample_id, ahead=True)
    return HttpResponse(status=204)
