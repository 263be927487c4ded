"""Withdrawals for leads: the form with what it would change, one withdrawal, and all of them."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.dateparse import parse_date
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oversight.models import Experiment, Review, Role, User, Withdrawal
from oversight.permissions import require_role
from oversight.selectors.rounds import find_experiment
from oversight.selectors.verdicts import describe_review
from oversight.selectors.withdrawals import foretell_trained, list_withdrawals, read_withdrawal
from oversight.services import withdrawals
from oversight.services.judgements import InvalidReview
from oversight.services.labels import JUDGEMENTS
from oversight.services.withdrawals import Wanted, WithdrawalRefused
from oversight.views.review_input import read_key
from oversight.views.rounds import actor


@require_GET
@require_role(Role.LEAD)
def list_page(request: HttpRequest) -> HttpResponse:
    after = request.GET.get("after", "")
    rows, following = list_withdrawals(after)
    return render(request, "oversight/withdrawals.html", {"rows": rows, "next": following, "after": after})


@never_cache
@require_http_methods(["GET", "POST"])
@require_role(Role.LEAD)
def withdraw(request: HttpRequest) -> HttpResponse:
    """GET shows what would be taken out and what that changes; POST does it."""
    data = request.POST if request.method == "POST" else request.GET
    wanted, notice, status = None, "", 200
    try:
        wanted = _read_wanted(data)
        if request.method == "POST":
            made = withdrawals.withdraw(
                user=actor(request), wanted=_need(wanted), reason=data.get("reason", ""), key=read_key(data)
            )
            return redirect("withdrawal", withdrawal_id=made.pk)
    except (WithdrawalRefused, InvalidReview) as refusal:
        notice, status = str(refusal), 422
    context: dict[str, Any] = {
        "wanted": wanted,
        "notice": notice,
        "reason": data.get("reason", ""),
        "key": uuid.uuid4(),
    }
    if wanted is not None:
        preview = withdrawals.preview(wanted)
        context["preview"] = preview
        if preview.lost is not None and preview.altered is not None:
            context["trained"] = foretell_trained([*preview.lost, *preview.altered])
        if wanted.review is not None:
            context["said"] = describe_review(wanted.review)
    context |= {
        "people": User.objects.order_by("-is_active", "username"),
        "experiments": Experiment.objects.order_by("name"),
        "chosen": {name: data.get(name, "") for name in ("reviewer", "since", "until", "reason")},
        "experiment": wanted.experiment if wanted else find_experiment(data.get("experiment", "")),
    }
    return render(request, "oversight/withdraw.html", context, status=status)


@never_cache
@require_GET
@require_role(Role.LEAD)
def detail_page(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    found = Withdrawal.objects.select_related("by", "reviewer", "experiment", "restored_by")
    withdrawal = get_object_or_404(found, pk=withdrawal_id)
    context = {"shown": read_withdrawal(withdrawal, number=request.GET.get("page", ""))}
    if request.headers.get("HX-Target") == "withdrawal":
        return render(request, "oversight/withdrawal_live.html", context)
    return render(request, "oversight/withdrawal.html", context)


@require_POST
@require_role(Role.LEAD)
def restore(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    get_object_or_404(Withdrawal, pk=withdrawal_id)
    try:
        withdrawals.restore(user=actor(request), withdrawal_id=withdrawal_id)
    except WithdrawalRefused as refusal:
        messages.error(request, str(refusal))
    return redirect("withdrawal", withdrawal_id=withdrawal_id)


@require_POST
@require_role(Role.LEAD)
def resume(request: HttpRequest, withdrawal_id: UUID) -> HttpResponse:
    get_object_or_404(Withdrawal, pk=withdrawal_id)
    if not withdrawals.resume(withdrawal_id=withdrawal_id):
        messages.error(request, "No worker takes tasks at the moment; try again when the broker is up.")
    return redirect("withdrawal", withdrawal_id=withdrawal_id)


# --- Input ------------------------------------------------------------------------------------------


def _need(wanted: Wanted | None) -> Wanted:
    if wanted is None:
        raise WithdrawalRefused("Choose whose judgements to take out.")
    return wanted


def _read_wanted(data: QueryDict) -> Wanted | None:
    """None where nothing is chosen yet. Raises Http404 for a review, WithdrawalRefused for a person who isn't there."""
    if data.get("review"):
        review = _find_review(data.get("review", ""))
        return Wanted(reviewer=review.reviewer, experiment=review.sample.experiment, review=review)
    if not data.get("reviewer"):
        return None
    reviewer = User.objects.filter(username=data.get("reviewer", "")).first()
    if reviewer is None:
        raise WithdrawalRefused(f"There is nobody called {data.get('reviewer', '')[:150]!r}; choose one of the list.")
    experiment = find_experiment(data.get("experiment", ""))
    if experiment is None:
        raise WithdrawalRefused("There is no experiment yet, so there are no judgements.")
    since, until = _read_day(data, "since"), _read_day(data, "until")
    if since and until and until < since:
        raise WithdrawalRefused(f"The last day, {until}, lies before the first, {since}; swap them.")
    return Wanted(reviewer=reviewer, experiment=experiment, since=since, until=until)


def _find_review(identifier: str) -> Review:
    try:
        wanted = UUID(identifier)
    except ValueError as error:
        raise Http404(f"{identifier[:60]!r} is not the id of a judgement.") from error
    judgements = Review.objects.filter(action__in=JUDGEMENTS)
    return get_object_or_404(judgements.select_related("reviewer", "sample__experiment", "sample__query"), pk=wanted)


def _read_day(data: QueryDict, name: str) -> date | None:
    text = data.get(name, "")
    try:
        day = parse_date(text) if text else None
    except ValueError:
        day = None
    if text and day is None:
        raise WithdrawalRefused(f"{text[:40]!r} is not a day; write it as 2026-11-30.")
    return day
