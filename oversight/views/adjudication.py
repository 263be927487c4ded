"""Disputes for leads: the list, and one after the other to be decided."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import push_url

from oversight.models import Experiment, Review, Role, Sample, User
from oversight.permissions import require_role
from oversight.selectors.adjudication import (
    DisputeFilter,
    find_next,
    list_disputes,
    read_adjudication,
    read_choices,
)
from oversight.selectors.rounds import find_experiment
from oversight.selectors.second_looks import list_doubts
from oversight.selectors.verdicts import describe_review
from oversight.selectors.workbench import Marks
from oversight.services import adjudication, samples, second_looks
from oversight.services.adjudication import AdjudicationRefused
from oversight.services.judgements import InvalidReview
from oversight.services.reviews import NotYours
from oversight.services.samples import BulkRefused
from oversight.views.review_input import parse_judgement, read_key, read_typed
from oversight.views.rounds import actor

LONGEST_NOTE = 2_000  # characters


@require_GET
@require_role(Role.LEAD)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    context: dict[str, Any] = {"experiment": experiment}
    if experiment is None:
        return render(request, "oversight/adjudications.html", context)
    wanted = DisputeFilter.from_query(request.GET)
    after = request.GET.get("after", "")
    context |= {
        "wanted": wanted,
        "link": wanted.link(),
        "after": after,
        "page": list_disputes(experiment, wanted, after=after),
    }
    if request.headers.get("HX-Target") == "disputes":
        return render(request, "oversight/adjudications_list.html", context)
    context |= {"choices": read_choices(experiment), "experiments": Experiment.objects.order_by("name")}
    context |= {"doubts": list_doubts(experiment), "second_look_notice": request.session.pop("second_look", None)}
    return render(request, "oversight/adjudications.html", context)


@require_role(Role.LEAD)
@require_POST
def second_look(request: HttpRequest, sample_id: UUID) -> HttpResponse:
    """Asks one more person about a label that looks wrong, or keeps it; back to the list, which says what was done."""
    sample, user = _find_sample(sample_id), actor(request)
    act = request.POST.get("act", "")
    notice = {"words": "One more person is asked.", "tone": "good"}
    try:
        if act == "ask":
            second_looks.ask(user=user, sample_id=sample.pk)
        elif act == "keep":
            second_looks.keep(user=user, sample_id=sample.pk)
            notice["words"] = "The label stays as it is."
        else:
            notice = {"words": f"There is no action {act[:20]!r}; nothing was done.", "tone": "warn"}
    except AdjudicationRefused as error:
        notice = {"words": str(error), "tone": "warn"}
    request.session["second_look"] = notice
    return redirect(f"{reverse('adjudication')}?experiment={sample.experiment_id}#second-looks")


@never_cache
@require_http_methods(["GET", "POST"])
@require_role(Role.LEAD)
def decide(request: HttpRequest, sample_id: UUID) -> HttpResponse:
    """One dispute. A POST does what its button says, and answers with the next dispute."""
    if request.method == "GET":
        sample = _find_sample(sample_id)
        done = _find_done(actor(request), request.GET.get("done", ""))
        return _show(request, sample, DisputeFilter.from_query(request.GET), done=done)
    user = actor(request)
    wanted = DisputeFilter.from_query(request.POST)
    try:
        done = _act(user, sample_id, request.POST)
    except (InvalidReview, BulkRefused) as error:
        return _show(request, _find_sample(sample_id), wanted, notice=str(error), status=422, typed=True)
    except AdjudicationRefused as error:
        return _show(request, _find_sample(sample_id), wanted, notice=str(error), status=409)
    except NotYours as error:
        raise Http404(str(error)) from error
    sample = _find_sample(sample_id)
    # What was taken back is shown again; everything else makes room for the next dispute.
    after = sample if "undo" in request.POST else find_next(sample, wanted)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect(_address(after, wanted, done))
    response = _show(request, after, wanted, done=done, experiment=sample.experiment)
    return push_url(response, _address(after, wanted, None))


def _act(user: User, sample_id: UUID, data: QueryDict) -> Review | Sample:
    """Does what the pressed button says. Raises InvalidReview for what no page of ours sends."""
    if "ask" in data:
        return adjudication.ask_another(user=user, sample_id=sample_id, seen=_read_seen(data))
    if "exclude" in data:
        samples.exclude_samples(user=user, samples=[sample_id], reason=data.get("note", ""))
        return Sample.objects.get(pk=sample_id)
    key = read_key(data)
    if "undo" in data:
        return adjudication.undo_decision(user=user, review_id=_read_id(data.get("undo", "")), key=key)
    if "approve" in data:
        return adjudication.approve_judgement(
            user=user,
            sample_id=sample_id,
            key=key,
            seen=_read_seen(data),
            review_id=_read_id(data.get("approve", "")),
            note=data.get("note", "")[:LONGEST_NOTE],
        )
    judgement = parse_judgement(data)
    return adjudication.decide(user=user, sample_id=sample_id, key=key, seen=_read_seen(data), judgement=judgement)


def _read_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidReview("The button names no judgement; reload the page.") from error


def _read_seen(data: QueryDict) -> frozenset[UUID]:
    try:
        return frozenset(map(UUID, data.get("seen", "").split()))
    except ValueError as error:
        raise InvalidReview("The form does not say which judgements it showed; reload the page.") from error


def _find_sample(sample_id: UUID) -> Sample:
    found = Sample.objects.select_related("query", "round__experiment", "experiment")
    return get_object_or_404(found, pk=sample_id)


def _find_done(user: User, identifier: str) -> Review | Sample | None:
    """What the request before did, for a page without JavaScript."""
    try:
        wanted = UUID(identifier)
    except ValueError:
        return None
    own = Review.objects.filter(pk=wanted, reviewer=user, purpose=Review.Purpose.ADJUDICATION)
    return own.select_related("sample").first() or Sample.objects.filter(pk=wanted).first()


def _address(sample: Sample | None, wanted: DisputeFilter, done: Review | Sample | None) -> str:
    address = reverse("adjudicate", args=[sample.pk]) if sample else reverse("adjudication")
    query = "&".join(filter(None, [wanted.link(), f"done={done.pk}" if done and sample else ""]))
    return f"{address}?{query}" if query else address


def _describe_done(done: Review | Sample | None) -> dict[str, Any]:
    """What the strip above the next dispute says, and the decision that it can take back."""
    if isinstance(done, Sample):
        excluded = done.status == Sample.Status.EXCLUDED
        return {"words": "Excluded" if excluded else "One more person is asked", "sample": done}
    if done is None:
        return {}
    if done.action == Review.Action.UNDO:
        return {"words": "Your decision is taken back", "sample": done.sample}
    return {"words": f"You decided: {describe_review(done)}", "sample": done.sample, "undo": done}


def _show(
    request: HttpRequest,
    sample: Sample | None,
    wanted: DisputeFilter,
    *,
    experiment: Experiment | None = None,
    done: Review | Sample | None = None,
    notice: str = "",
    typed: bool = False,
    status: int = 200,
) -> HttpResponse:
    """The node #adjudication alone for htmx, else the whole page. `typed` keeps what stands in the form."""
    user = actor(request)
    marks = read_typed(request.POST) if typed else Marks()
    context: dict[str, Any] = {"wanted": wanted, "notice": notice, "done": _describe_done(done), "marks": marks}
    context |= {"key": uuid.uuid4(), "undo_key": uuid.uuid4(), "experiment": experiment}
    if sample is not None:
        context |= {
            "experiment": sample.experiment,
            "case": read_adjudication(sample, user=user, marks=marks),
            "next": find_next(sample, wanted),
            "link": wanted.link(),
        }
    name = "adjudicate_case" if request.htmx else "adjudicate"  # type: ignore[attr-defined]
    return render(request, f"oversight/{name}.html", context, status=status)
