"""The API: checkpoints, and what the next round starts from. It obeys the same rules as the pages."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from oversight.api.access import IsResearcher, IsReviewer, check_filters, chosen_experiment, person
from oversight.api.serializers import CheckpointOut, StartIn, StartOut
from oversight.api.views import EXPERIMENT, Refused
from oversight.models import Checkpoint
from oversight.selectors.starts import read_next_beginning
from oversight.services.round_rows import RoundRefused
from oversight.services.starts import choose_start

ROLE = OpenApiParameter("role", OpenApiTypes.STR, description=", ".join(Checkpoint.Role.values))


class CheckpointViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Checkpoint]):
    """Checkpoints, newest first, each with its card."""

    serializer_class = CheckpointOut
    permission_classes = [IsReviewer]
    queryset = Checkpoint.objects.select_related("round")
    lookup_value_converter = "uuid"

    @extend_schema(parameters=[EXPERIMENT, ROLE])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        check_filters(request, ("experiment", "role"))
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Checkpoint]:
        found = super().get_queryset()
        if self.action != "list":
            return found
        found = found.filter(experiment=chosen_experiment(self.request)).order_by("-round__number", "role")
        wanted = self.request.query_params.get("role", "")
        if wanted and wanted not in Checkpoint.Role.values:
            raise ValidationError({"role": f"{wanted[:20]!r} is not one of {', '.join(Checkpoint.Role.values)}."})
        return found.filter(role=wanted) if wanted else found


class StartView(APIView):
    """What the next round of an experiment starts from; POST chooses it, with a reason."""

    def get_permissions(self) -> list[BasePermission]:
        return [IsResearcher() if self.request.method == "POST" else IsReviewer()]

    @extend_schema(parameters=[EXPERIMENT], responses=StartOut)
    def get(self, request: Request) -> Response:
        check_filters(request, ("experiment",))
        return Response(StartOut(read_next_beginning(chosen_experiment(request))).data)

    @extend_schema(parameters=[EXPERIMENT], request=StartIn, responses=StartOut)
    def post(self, request: Request) -> Response:
        """409 says what stands in the way."""
        experiment = chosen_experiment(request)
        sent = StartIn(data=request.data)
        sent.is_valid(raise_exception=True)
        identifier = sent.validated_data["checkpoint"]
        checkpoint = None if identifier is None else Checkpoint.objects.filter(pk=identifier).first()
        if identifier is not None and checkpoint is None:
            raise ValidationError({"checkpoint": f"There is no checkpoint {identifier}."})
        try:
            choose_start(
                experiment=experiment, checkpoint=checkpoint, user=person(request),
                reason=sent.validated_data["reason"], seen=sent.validated_data["seen"],
            )  # fmt: skip
        except RoundRefused as refusal:
            raise Refused(refusal.problems) from refusal
        return Response(StartOut(read_next_beginning(experiment)).data)
