"""What a person wants to see and when to rest."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from oversight.models import Role, User
from oversight.permissions import require_role
from oversight.selectors.categories import list_categories
from oversight.services import preferences as service
from oversight.services.preferences import BadPreference
from oversight.views import workbench


@never_cache
@require_http_methods(["GET", "POST"])
@require_role(Role.REVIEWER)
def preferences(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)
    known = list_categories(user)
    error = ""
    if request.method == "POST":
        try:
            service.save_preferences(
                user=user,
                opted_out=request.POST.getlist("opted_out"),
                blurred=request.POST.getlist("blurred"),
                break_minutes=_read_minutes(request.POST.get("break_minutes", "")),
                known=known,
            )
        except BadPreference as bad:
            error = str(bad)
        else:
            messages.success(request, "Saved. It holds from the next sample on.")
            return redirect("review-preferences")
    rows = [{"name": name, "out": name in user.opted_out, "blurred": name in user.blurred} for name in known]
    context = {"rows": rows, "error": error, "longest": service.LONGEST_BREAK}
    return render(request, "oversight/preferences.html", context, status=422 if error else 200)


def _read_minutes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6):
        raise BadPreference(f"{text[:20]!r} is not a number of minutes; 0 means never.")
    return int(text)


@require_POST
@require_role(Role.REVIEWER)
def opt_out(request: HttpRequest) -> HttpResponse:
    """From the strip after a skip: this category never comes again."""
    assert isinstance(request.user, User)
    category = request.POST.get("category", "")
    try:
        if category not in list_categories(request.user):
            raise BadPreference(f"There is no category {category[:40]}; choose in your preferences.")
        service.opt_out(user=request.user, category=category)
    except BadPreference as error:
        return workbench.show_next(request, notice=str(error), status=422)
    return workbench.show_next(request, notice=f"{category} does not come to you any more; your preferences undo that.")
