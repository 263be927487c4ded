"""Checkpoints: the list, the card of one, its downloads, and what the next round starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from oversight import cards, downloads
from oversight.models import Checkpoint, Experiment, Merge, Role
from oversight.permissions import has_role, require_role
from oversight.selectors.checkpoints import find_merge, list_checkpoints, list_parents
from oversight.selectors.rounds import find_experiment
from oversight.selectors.starts import describe_checkpoint, read_next_beginning
from oversight.selectors.withdrawals import count_withdrawn
from oversight.services import audit, merges
from oversight.services.round_rows import RoundRefused
from oversight.services.starts import LONGEST_REASON, choose_start
from oversight.views.rounds import actor

ADAPTER = ("adapter_model.safetensors", "adapter_config.json")  # what a download holds beside the card


def _checkpoints() -> QuerySet[Checkpoint]:
    return Checkpoint.objects.select_related("round__experiment__constitution", "parent__round")


@require_GET
@require_role(Role.REVIEWER)
def list_page(request: HttpRequest) -> HttpResponse:
    experiment = find_experiment(request.GET.get("experiment", ""))
    context: dict[str, Any] = {"experiment": experiment, "experiments": Experiment.objects.order_by("name")}
    if experiment is not None:
        context["checkpoints"] = list_checkpoints(experiment)
        context["beginning"] = read_next_beginning(experiment)
        context["may_start"] = has_role(request.user, Role.RESEARCHER)
    return render(request, "oversight/checkpoints.html", context)


@require_GET
@require_role(Role.REVIEWER)
def detail_page(request: HttpRequest, checkpoint_id: UUID) -> HttpResponse:
    checkpoint = get_object_or_404(_checkpoints(), pk=checkpoint_id)
    context = _merge_context(request, checkpoint)
    if request.headers.get("HX-Target") == "checkpoint-merge":
        return render(request, "oversight/checkpoint_merge.html", context)
    context |= {
        "card": cards.read_card(checkpoint),
        "measured": cards.list_measured(checkpoint.round),
        "parents": list_parents(checkpoint),
        "withdrawn": count_withdrawn(checkpoint.round),
        "beginning": read_next_beginning(checkpoint.round.experiment),
    }
    return render(request, "oversight/checkpoint.html", context)


def _is_gone(checkpoint: Checkpoint) -> bool:
    """Whether somebody deleted the merged model to make room."""
    return not downloads.list_files(f"merged-{checkpoint.pk}")


def _merge_context(request: HttpRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    merge = find_merge(checkpoint)
    return {
        "checkpoint": checkpoint,
        "round": checkpoint.round,
        "experiment": checkpoint.round.experiment,
        "learner": checkpoint.role == Checkpoint.Role.LEARNER,
        "merge": merge,
        "gone": merge is not None and merge.state == Merge.State.DONE and _is_gone(checkpoint),
        "lost": merge is not None and merges.is_lost(merge),
        "may_download": has_role(request.user, Role.LEAD),
        "may_start": has_role(request.user, Role.RESEARCHER),
    }


@require_role(Role.RESEARCHER)
@require_http_methods(["GET", "POST"])
def start_page(request: HttpRequest) -> HttpResponse:
    """GET says what would change, POST changes it. `checkpoint` is an id, or "base" with the experiment's id."""
    data = request.POST if request.method == "POST" else request.GET
    experiment, checkpoint = _find_target(data.get("experiment", ""), data.get("checkpoint", ""))
    problems: list[str] = []
    if request.method == "POST":
        try:
            start = choose_start(
                experiment=experiment, checkpoint=checkpoint, user=actor(request), reason=data.get("reason", ""),
                seen=data.get("seen", ""),
            )  # fmt: skip
        except RoundRefused as refusal:
            problems = refusal.problems
        else:
            messages.success(request, f"Round {start.number} starts from {describe_checkpoint(checkpoint)}.")
            return redirect(f"/checkpoints/?experiment={experiment.pk}")
    context = {
        "experiment": experiment,
        "checkpoint": checkpoint,
        "words": describe_checkpoint(checkpoint),
        "beginning": read_next_beginning(experiment),
        "open": experiment.rounds.filter(status__in=("queued", "proposing", "reviewing", "learning")).first(),
        "problems": problems,
        "reason": data.get("reason", "")[:LONGEST_REASON],
        "longest": LONGEST_REASON,
    }
    return render(request, "oversight/checkpoint_start.html", context, status=409 if problems else 200)


def _find_target(experiment: str, checkpoint: str) -> tuple[Experiment, Checkpoint | None]:
    try:
        if checkpoint == "base":
            return get_object_or_404(Experiment, pk=UUID(experiment)), None
        found = get_object_or_404(_checkpoints(), pk=UUID(checkpoint), role=Checkpoint.Role.LEARNER)
    except ValueError as error:
        raise Http404("Name a learner's checkpoint, or base and an experiment.") from error
    return found.round.experiment, found


@require_GET
@require_role(Role.LEAD)
def download_adapter(request: HttpRequest, checkpoint_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """The adapter with its model card, as a zip."""
    checkpoint = get_object_or_404(_checkpoints(), pk=checkpoint_id, role=Checkpoint.Role.LEARNER)
    return _send(request, checkpoint, checkpoint.path, ADAPTER, merged=False)


@require_GET
@require_role(Role.LEAD)
def download_merged(request: HttpRequest, checkpoint_id: UUID) -> HttpResponse | StreamingHttpResponse:
    """The merged model with its model card, as a zip; 404 until it is made."""
    checkpoint = get_object_or_404(_checkpoints(), pk=checkpoint_id, role=Checkpoint.Role.LEARNER)
    merge = find_merge(checkpoint)
    if merge is None or merge.state != Merge.State.DONE:
        raise Http404("It is not merged; ask for it on the checkpoint's page.")
    return _send(request, checkpoint, f"merged-{checkpoint.pk}", None, merged=True)


def _send(
    request: HttpRequest, checkpoint: Checkpoint, folder: str, wanted: tuple[str, ...] | None, *, merged: bool
) -> StreamingHttpResponse:
    """The files of `folder` under the runs URL, all or those `wanted`, and the card as it is today."""
    names = [name for name in downloads.list_files(folder) if name != "README.md"]
    names = [name for name in names if wanted is None or name in wanted]
    if not any(name.endswith(".safetensors") for name in names):
        raise Http404("Its files are gone from the runs folder.")
    card = cards.render_readme(checkpoint, merged=merged, withdrawn=count_withdrawn(checkpoint.round))
    kind = "merged" if merged else "adapter"

    def entries() -> Iterator[downloads.Entry]:
        yield "README.md", iter([card.encode()])
        for name in names:
            yield name, downloads.read_file(f"{folder}/{name}")

    audit.record(actor(request).get_username(), "checkpoint.download", f"checkpoint:{checkpoint.pk}", kind=kind)
    response = StreamingHttpResponse(downloads.write_zip(entries()), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="round-{checkpoint.round.number}-{kind}.zip"'
    response["Cache-Control"] = "private, no-store"
    return response


@require_POST
@require_role(Role.RESEARCHER)
def merge(request: HttpRequest, checkpoint_id: UUID) -> HttpResponse:
    checkpoint = get_object_or_404(_checkpoints(), pk=checkpoint_id)
    try:
        merges.ask_merge(checkpoint=checkpoint, user=actor(request), gone=_is_gone(checkpoint))
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    return redirect("checkpoint", checkpoint_id=checkpoint_id)
