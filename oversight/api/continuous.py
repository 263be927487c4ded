"""Continuous mode over the API: the runs, and who may start, pause and resume one."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from oversight.api.access import IsLead, IsResearcher, IsReviewer, check_filters, chosen_experiment, person
from oversight.api.serializers import ContinuousIn, ContinuousOut
from oversight.api.views import EXPERIMENT, Refused
from oversight.models import ContinuousRun
from oversight.services import continuous
from oversight.services.round_rows import RoundRefused


class ContinuousViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[ContinuousRun]):
    """Runs of continuous mode, newest first; start, pause and resume as on the pages."""

    serializer_class = ContinuousOut
    queryset = ContinuousRun.objects.select_related("experiment", "started_by")
    lookup_value_converter = "uuid"

    def get_permissions(self) -> list[BasePermission]:
        needed = {"create": IsResearcher, "resume": IsResearcher, "pause": IsLead}
        return [needed.get(self.action, IsReviewer)()]

    @extend_schema(parameters=[EXPERIMENT])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        check_filters(request, ("experiment",))
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[ContinuousRun]:
        found = super().get_queryset()
        return found.filter(experiment=chosen_experiment(self.request)) if self.action == "list" else found

    @extend_schema(request=ContinuousIn, parameters=[EXPERIMENT], responses={201: ContinuousOut})
    def create(self, request: Request) -> Response:
        """Starts continuous mode; 409 where it is on already."""
        sent = ContinuousIn(data=request.data)
        sent.is_valid(raise_exception=True)
        missing = {"rounds", "reviews", "minutes"} - set(sent.validated_data)
        if missing:
            raise ValidationError(dict.fromkeys(sorted(missing), "A budget has to be stated."))
        try:
            run = continuous.start_continuous(
                experiment=chosen_experiment(request), user=person(request), **sent.validated_data
            )
        except RoundRefused as refusal:
            raise Refused(refusal.problems) from refusal
        except ValueError as error:
            raise ValidationError(str(error)) from error
        run.refresh_from_db()
        return Response(ContinuousOut(run).data, status=status.HTTP_201_CREATED)

    def _act(self, act: Any) -> Response:
        try:
            return Response(ContinuousOut(act(run=self.get_object(), user=person(self.request))).data)
        except RoundRefused as refusal:
            raise Refused(refusal.problems) from refusal

    @extend_schema(request=None, responses=ContinuousOut)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._act(continuous.pause_continuous)

    @extend_schema(request=None, responses=ContinuousOut)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._act(continuous.resume_continuous)
