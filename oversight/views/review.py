"""The workbench: one flagged sample at a time, judged by keyboard, the next one in the same response."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oversight.models import Review, Role, Sample, User
from oversight.permissions import require_role
from oversight.selectors.history import find_own_review, is_revisable
from oversight.selectors.verdicts import Previous, read_previous
from oversight.selectors.workbench import Marks, read_workbench
from oversight.services import leases, queue, reviews
from oversight.services.judgements import InvalidReview
from oversight.services.leases import BadToken, NotFree
from oversight.services.reviews import NotYours, ReviewRefused
from oversight.views import workbench
from oversight.views.review_input import parse_judgement, read_key, read_typed

POSTPONED = "Postponed: it comes to you again after the rest, unless others take it."


@never_cache
@require_GET
@require_role(Role.REVIEWER)
def review(request: HttpRequest) -> HttpResponse:
    """The sample that the person holds, or the next one. `after` names what was just done without JavaScript."""
    after = request.GET.get("after", "")
    notice = POSTPONED if after == "postponed" else ""
    return workbench.show_next(request, previous=_find_previous(_user(request), after), notice=notice)


@never_cache
@require_GET
@require_role(Role.REVIEWER)
def open_sample(request: HttpRequest, sample_id: UUID) -> HttpResponse:
    """Exactly the sample that the address names; where it can't be had, a page that says why."""
    user = _user(request)
    try:
        claim = leases.claim_sample(user=user, sample_id=sample_id)
    except NotFree as error:
        sample = Sample.objects.filter(pk=sample_id).first()
        own = find_own_review(user, sample_id) if sample is not None else None
        context = {"refused": str(error), "sample": sample, "own": own, "revisable": own and is_revisable(own)}
        return workbench.render_workbench(request, context, status=404 if sample is None else 409)
    return workbench.show_claim(request, claim, {})


@require_POST
@require_role(Role.REVIEWER)
def submit(request: HttpRequest) -> HttpResponse:
    """Stores a judgement and answers with the next sample; without htmx by a redirect to it."""
    user = _user(request)
    sample_id = None
    try:
        sample_id, fence = leases.read_token(user=user, token=request.POST.get("token", ""))
        made = reviews.record_review(
            user=user,
            sample_id=sample_id,
            fence=fence,
            key=read_key(request.POST),
            judgement=parse_judgement(request.POST),
            may_close=False,
        )
    except InvalidReview as error:
        return workbench.refuse(request, str(error), status=422, typed_for=sample_id)
    except (BadToken, NotYours) as error:
        return workbench.refuse(request, f"That judgement was not taken. {error}", status=409)
    return workbench.show_after(request, made)


@require_POST
@require_role(Role.REVIEWER)
def postpone(request: HttpRequest) -> HttpResponse:
    """Gives the sample back for now; what is typed stays as its draft."""
    user = _user(request)
    try:
        sample_id, fence = leases.read_token(user=user, token=request.POST.get("token", ""))
    except BadToken as error:
        return workbench.refuse(request, str(error), status=409)
    if not leases.postpone(user=user, sample_id=sample_id, fence=fence):
        return workbench.refuse(request, "Somebody else has this sample by now, so it needs no postponing.", status=409)
    if workbench.is_background(request):
        return workbench.show_ahead(request, queue.load_sample(sample_id), {"notice": POSTPONED})
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(f"{reverse('review')}?after=postponed")
    return workbench.show_next(request, notice=POSTPONED)


@require_POST
@require_role(Role.REVIEWER)
def undo(request: HttpRequest) -> HttpResponse:
    """Takes the latest own judgement back and shows its sample again, with what was marked and typed."""
    user = _user(request)
    try:
        key = read_key(request.POST)
        claim = reviews.undo_last(user=user, key=key)
    except ReviewRefused as error:
        return workbench.show_next(request, notice=str(error), status=409)
    except InvalidReview as error:
        return workbench.show_next(request, notice=str(error), status=422)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("review")
    undone = Review.objects.select_related("supersedes").get(key=key).supersedes
    marks = read_judged(undone) if undone else Marks()
    return workbench.show_claim(request, claim, {"notice": "Taken back. Here it is again."}, marks=marks)


@never_cache
@require_http_methods(["GET", "POST"])
@require_role(Role.REVIEWER)
def revise(request: HttpRequest, review_id: UUID) -> HttpResponse:
    """An own judgement again, now with the critic's verdict; saving adds a second judgement."""
    user = _user(request)
    earlier = (
        Review.objects.filter(pk=review_id, reviewer=user, superseded_by=None)
        .exclude(action__in=(Review.Action.SKIP, Review.Action.UNDO, Review.Action.WITHDRAW))
        .exclude(purpose=Review.Purpose.ADJUDICATION)
        .select_related("sample__round__experiment", "sample__query__parent__parent")
        .first()
    )
    if earlier is None:
        raise Http404("You have no such judgement, or you took it back.")
    marks, notice, status = read_judged(earlier), "", 200
    if request.method == "POST":
        try:
            made = reviews.revise_review(
                user=user, review_id=review_id, key=read_key(request.POST), judgement=parse_judgement(request.POST)
            )
            return workbench.show_after(request, made)
        except InvalidReview as error:
            marks, notice, status = read_typed(request.POST), str(error), 422
        except ReviewRefused as error:
            return workbench.show_next(request, notice=str(error), status=409)
        except NotYours as error:
            raise Http404(str(error)) from error
    bench = read_workbench(
        sample=earlier.sample, user=user, marks=marks, show_critic=True, reveal="reveal" in request.GET
    )
    context: dict[str, Any] = {"bench": bench, "notice": notice, "earlier": read_previous(review=earlier)}
    url = reverse("review-revise", args=[review_id])
    context |= {"counts": bench.counts, "action_url": url, "sample_url": url, "key": uuid.uuid4()}
    return workbench.render_workbench(request, context, status=status)


def read_judged(review: Review) -> Marks:
    """A judgement as the form that made it."""
    return Marks(review.violations, review.rewrite, review.note, review.rewrite_of, review.spans)


def _find_previous(user: User, identifier: str) -> Previous | None:
    try:
        found = Review.objects.filter(pk=UUID(identifier), reviewer=user).select_related("sample__round").first()
    except ValueError:
        return None
    return read_previous(review=found) if found else None


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
