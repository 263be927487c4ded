"""The whole of a text that is too long for a page."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET

from oversight.models import Role, Sample
from oversight.permissions import require_role

# Whatever a browser takes it for, it runs nothing, loads nothing and reaches nothing of ours.
SEALED = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline; filename=text.txt",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}


@require_GET
@require_role(Role.REVIEWER)
def plain(request: HttpRequest, sample_id: UUID, part: str) -> HttpResponse:
    """`part` is "prompt", "turns" (those before it) or the index of an answer. Nobody's verdict is shown, as on the
    sample page."""
    sample = get_object_or_404(Sample.objects.select_related("query"), pk=sample_id)
    if part == "prompt":
        text = sample.query.text
    elif part == "turns" and sample.query.history:
        text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in sample.query.history)
    elif part.isascii() and part.isdecimal() and len(part) < 3 and int(part) < len(sample.responses):
        text = sample.responses[int(part)]["text"]
    else:
        raise Http404(f"This sample has no text {part!r}; ask for prompt, turns, or an answer from 0 on.")
    return HttpResponse(text.encode("utf-8", "replace"), content_type="text/plain; charset=utf-8", headers=SEALED)
