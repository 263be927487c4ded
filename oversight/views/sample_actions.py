"""What leads do with the samples they chose. The outcome is shown once, on the page that they come back to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from oversight.models import Role, User
from oversight.permissions import require_role
from oversight.services import samples
from oversight.services.samples import BulkRefused, Outcome
from oversight.views.rounds import actor

DONE = {
    "assign": "assigned to {person}", "unassign": "given back to everybody", "release": "released",
    "requeue": "put back", "exclude": "excluded", "gold": "marked as gold", "not-gold": "no longer gold",
}  # fmt: skip
UNDO = {"assign": "unassign", "exclude": "requeue", "gold": "not-gold", "not-gold": "gold"}


@require_role(Role.LEAD)
@require_POST
def act(request: HttpRequest, act: str) -> HttpResponse:
    if act not in DONE:
        return HttpResponse(f"There is no action {act[:20]!r}.", status=404, content_type="text/plain")
    person = request.POST.get("person", "").replace("\x00", "")
    try:
        outcome = _do(request, act, person)
        result = _describe(act, outcome, person)
    except BulkRefused as refusal:
        result = {"words": str(refusal), "tone": "bad"}
    request.session["samples_result"] = result
    return HttpResponseRedirect(_way_back(request))


def _do(request: HttpRequest, act: str, person: str) -> Outcome:
    user, chosen = actor(request), _read_ids(request.POST.getlist("sample"))
    match act:
        case "assign":
            return samples.assign_samples(user=user, samples=chosen, person=_find_person(person))
        case "unassign":
            return samples.assign_samples(user=user, samples=chosen, person=None)
        case "release":
            return samples.release_samples(user=user, samples=chosen)
        case "requeue":
            return samples.requeue_samples(user=user, samples=chosen)
        case "exclude":
            return samples.exclude_samples(user=user, samples=chosen, reason=request.POST.get("reason", ""))
    return samples.mark_gold(user=user, samples=chosen, gold=act == "gold")


def _find_person(name: str) -> User:
    person = User.objects.filter(username=name).first()
    if person is None:
        raise BulkRefused("Choose the person to assign to." if not name else f"Nobody is called {name[:60]!r}.")
    return person


def _read_ids(texts: list[str]) -> list[UUID]:
    """What is no id names no sample."""
    ids = []
    for text in texts:
        try:
            ids.append(UUID(text))
        except ValueError:
            continue
    return ids


def _describe(act: str, outcome: Outcome, person: str) -> dict[str, Any]:
    count = len(outcome.done)
    words = [f"{count} sample{'' if count == 1 else 's'} {DONE[act].format(person=person)}."]
    if outcome.skipped:
        reasons = ", ".join(f"{number} {why}" for why, number in sorted(outcome.skipped.items()))
        words.append(f"Left as they were: {reasons}.")
    if outcome.trained:
        rounds = ", ".join(str(checkpoint.round.number) for checkpoint in outcome.trained)
        words.append(
            f"The learner{'s' if len(outcome.trained) > 1 else ''} of round {rounds} had trained on labels that are "
            "gone now."
        )
    result: dict[str, Any] = {"words": " ".join(words), "tone": "good" if count else "warn"}
    if count and act in UNDO:
        result |= {"undo": UNDO[act], "samples": [str(pk) for pk in outcome.done]}
    return result


def _way_back(request: HttpRequest) -> str:
    """The list or the sample that the form was on, and no other site."""
    address = request.POST.get("next", "")
    fine = url_has_allowed_host_and_scheme(address, allowed_hosts=None)
    return address if fine and address.startswith("/samples/") else reverse("samples")
