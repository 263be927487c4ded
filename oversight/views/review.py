"""The workbench: one flagged sample at a time, judged by keyboard, the next one in the same response."""

from __future__ import annotations

import math
import uuid
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oversight.models import Review, Role, User
from oversight.permissions import require_role
from oversight.selectors.review import Marks, Previous, read_empty, read_previous, read_workbench
from oversight.services import leases, reviews
from oversight.services.leases import BadToken, Claim
from oversight.services.reviews import InvalidReview, Judgement, NotYours, ReviewRefused

LONGEST_TEXT = 20_000  # characters of a rewrite or a note


@never_cache
@require_GET
@require_role(Role.REVIEWER)
def review(request: HttpRequest) -> HttpResponse:
    """The sample that the person holds, or the next one. `after` names the judgement just made without JS."""
    assert isinstance(request.user, User)
    previous = _find_previous(request.user, request.GET.get("after", ""))
    return _show_next(request, previous=previous)


@require_POST
@require_role(Role.REVIEWER)
def submit(request: HttpRequest) -> HttpResponse:
    """Stores a judgement and answers with the next sample; without htmx by a redirect to it."""
    user = request.user
    assert isinstance(user, User)
    sample_id = None
    try:
        sample_id, fence = leases.read_token(user=user, token=request.POST.get("token", ""))
        made = reviews.record_review(
            user=user,
            sample_id=sample_id,
            fence=fence,
            key=_key(request.POST),
            judgement=parse_judgement(request.POST),
        )
    except InvalidReview as error:
        return _show_next(request, notice=str(error), typed_for=sample_id, status=422)
    except (BadToken, NotYours) as error:
        return _show_next(request, notice=f"That judgement was not taken. {error}", status=409)
    return _show_after(request, made)


@require_POST
@require_role(Role.REVIEWER)
def undo(request: HttpRequest) -> HttpResponse:
    """Takes the latest own judgement back and shows its sample again."""
    assert isinstance(request.user, User)
    try:
        claim = reviews.undo_last(user=request.user, key=_key(request.POST))
    except ReviewRefused as error:
        return _show_next(request, notice=str(error), status=409)
    except InvalidReview as error:
        return _show_next(request, notice=str(error), status=422)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("review")
    return _show(request, _sample_context(request.user, claim, Marks()) | {"notice": "Taken back. Here it is again."})


@never_cache
@require_http_methods(["GET", "POST"])
@require_role(Role.REVIEWER)
def revise(request: HttpRequest, review_id: UUID) -> HttpResponse:
    """An own judgement again, now with the critic's verdict; saving adds a second judgement."""
    user = request.user
    assert isinstance(user, User)
    earlier = (
        Review.objects.filter(pk=review_id, reviewer=user, superseded_by=None)
        .exclude(action__in=(Review.Action.SKIP, Review.Action.UNDO))
        .select_related("sample__round__experiment", "sample__query__parent__parent")
        .first()
    )
    if earlier is None:
        raise Http404("You have no such judgement, or you took it back.")
    marks, notice, status = Marks(earlier.violations, earlier.rewrite, earlier.note), "", 200
    if request.method == "POST":
        try:
            made = reviews.revise_review(
                user=user, review_id=review_id, key=_key(request.POST), judgement=parse_judgement(request.POST)
            )
            return _show_after(request, made)
        except InvalidReview as error:
            marks, notice, status = _typed(request.POST), str(error), 422
        except ReviewRefused as error:
            return _show_next(request, notice=str(error), status=409)
        except NotYours as error:
            raise Http404(str(error)) from error
    bench = read_workbench(sample=earlier.sample, user=user, marks=marks, show_critic=True)
    context: dict[str, Any] = {"bench": bench, "notice": notice, "earlier": read_previous(review=earlier)}
    context |= {"action_url": reverse("review-revise", args=[review_id]), "key": uuid.uuid4()}
    return _show(request, context, status=status)


@require_POST
@require_role(Role.REVIEWER)
def heartbeat(request: HttpRequest) -> HttpResponse:
    """The page is still open: prolongs the lease. 409 where somebody else has the sample by now."""
    assert isinstance(request.user, User)
    try:
        sample_id, fence = leases.read_token(user=request.user, token=request.POST.get("token", ""))
    except BadToken as error:
        return JsonResponse({"error": str(error)}, status=409)
    expires_at = leases.heartbeat(user=request.user, sample_id=sample_id, fence=fence)
    if expires_at is None:
        return JsonResponse({"error": "Your hold on this sample has ended."}, status=409)
    return JsonResponse({"until": timezone.localtime(expires_at).strftime("%H:%M")})


@require_POST
@require_role(Role.REVIEWER)
def release(request: HttpRequest) -> HttpResponse:
    """Stops reviewing: what the person holds goes back to the queue."""
    assert isinstance(request.user, User)
    leases.release(user=request.user)
    return redirect("overview")


# --- Input ------------------------------------------------------------------------------------------


def parse_judgement(data: QueryDict) -> Judgement:
    """The form's fields. Raises InvalidReview for what no page of ours sends."""
    typed = _typed(data)
    try:
        seconds = float(data.get("seconds") or "nan")
        rewrite_of = int(data.get("rewrite_of") or -1)
    except ValueError as error:
        raise InvalidReview(f"{error}; reload the page.") from error
    if len(typed.rewrite) > LONGEST_TEXT or len(typed.note) > LONGEST_TEXT:
        raise InvalidReview(f"The text is too long; {LONGEST_TEXT:,} characters are the limit.")
    return Judgement(
        action=data.get("action", ""),
        violations=typed.violations,
        rewrite=typed.rewrite,
        rewrite_of=None if rewrite_of == -1 else rewrite_of,
        note=typed.note,
        seconds=seconds if math.isfinite(seconds) else None,
    )


def _typed(data: QueryDict) -> Marks:
    """What stands in the form, for storing it or for showing it again."""
    return Marks(
        violations={index[:3]: data.getlist(f"principle-{index}") for index in data.getlist("mark")},
        rewrite=data.get("rewrite", "").replace("\r\n", "\n"),
        note=data.get("note", ""),
    )


def _key(data: QueryDict) -> UUID:
    try:
        return UUID(data.get("key", ""))
    except ValueError as error:
        raise InvalidReview("The form carries no key; reload the page.") from error


# --- Output -----------------------------------------------------------------------------------------


def _find_previous(user: User, identifier: str) -> Previous | None:
    try:
        found = Review.objects.filter(pk=UUID(identifier), reviewer=user).select_related("sample").first()
    except ValueError:
        return None
    return read_previous(review=found) if found else None


def _show_after(request: HttpRequest, made: Review) -> HttpResponse:
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(f"{reverse('review')}?after={made.pk}")
    return _show_next(request, previous=read_previous(review=made))


def _show_next(
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
    context: dict[str, Any]
    if claim is None:
        context = {"empty": read_empty(user)}
    else:
        marks = _typed(request.POST) if claim.sample.pk == typed_for else Marks()
        context = _sample_context(user, claim, marks)
    return _show(request, context | {"previous": previous, "notice": notice}, status=status)


def _sample_context(user: User, claim: Claim, marks: Marks) -> dict[str, Any]:
    return {
        "bench": read_workbench(sample=claim.sample, user=user, marks=marks),
        "token": claim.token(user),
        "expires_at": claim.expires_at,
        "action_url": reverse("review-submit"),
        "key": uuid.uuid4(),
    }


def _show(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """The node #workbench alone for htmx, else the whole page around it."""
    name = "review_workbench" if request.htmx else "review"  # type: ignore[attr-defined]
    return render(request, f"oversight/{name}.html", {**context, "undo_key": uuid.uuid4()}, status=status)
