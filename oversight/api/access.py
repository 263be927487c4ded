"""Who may ask, and which filters a link may carry."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import Http404
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from oversight.models import Experiment, Role, User
from oversight.permissions import has_role
from oversight.selectors.rounds import find_experiment

PAGING = {"limit", "offset", "cursor", "format"}


class IsReviewer(BasePermission):
    role = Role.REVIEWER

    def has_permission(self, request: Request, view: APIView) -> bool:
        return has_role(request.user, self.role)


class IsLead(IsReviewer):
    role = Role.LEAD


class IsResearcher(IsReviewer):
    role = Role.RESEARCHER


def check_filters(request: Request, allowed: Iterable[str]) -> None:
    """400 for a filter that does not exist: ignored, it would look as if it had been applied."""
    unknown = sorted(set(request.query_params) - set(allowed) - PAGING)
    if unknown:
        raise ValidationError({name: f"There is no such filter; use {', '.join(sorted(allowed))}." for name in unknown})


def chosen_experiment(request: Request) -> Experiment:
    """The experiment that `?experiment=` names, else the newest."""
    identifier = request.query_params.get("experiment", "")
    experiment = find_experiment(identifier)
    if experiment is None or (identifier and str(experiment.pk) != identifier.lower()):
        raise Http404
    return experiment


def person(request: Request) -> User:
    assert isinstance(request.user, User)  # the permission classes let nobody else in
    return request.user
