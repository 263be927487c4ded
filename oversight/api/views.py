"""The API: rounds, samples, metrics, and the labels as a file. It obeys the same rules as the pages."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from oversight.api.access import IsLead, IsResearcher, IsReviewer, check_filters, chosen_experiment, person
from oversight.api.serializers import HistoryOut, LaunchIn, MetricOut, RoundOut, SampleOut, SamplePageOut
from oversight.models import MetricPoint, Round, Sample
from oversight.selectors.exports import write_labels
from oversight.selectors.sample_filter import SampleFilter, open_sight
from oversight.selectors.sample_history import read_history
from oversight.selectors.samples import PAGE_SIZE, list_samples
from oversight.services import launching, rounds
from oversight.services.round_rows import RoundRefused


def _filter(name: str, words: str = "") -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=words)


CURSOR = (_filter("cursor", "From the address in `next`."), _filter("limit", "Samples a page."))
MOST_SAMPLES = 500  # a page
EXPERIMENT = _filter("experiment", "Id of the experiment; the newest where none is given.")


class Refused(APIException):
    status_code = status.HTTP_409_CONFLICT


class RoundViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Round]):
    """Rounds, newest first; launch, cancel, retry and close as on the pages."""

    serializer_class = RoundOut
    queryset = Round.objects.select_related("experiment", "launched_by")
    lookup_value_converter = "uuid"

    def get_permissions(self) -> list[BasePermission]:
        needed = {"create": IsResearcher, "cancel": IsResearcher, "retry": IsResearcher, "close": IsLead}
        return [needed.get(self.action, IsReviewer)()]

    @extend_schema(parameters=[EXPERIMENT, _filter("status", ", ".join(Round.Status.values))])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        check_filters(request, ("experiment", "status"))
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Round]:
        found = super().get_queryset()
        if self.action != "list":
            return found
        found = found.filter(experiment=chosen_experiment(self.request)).order_by("-number")
        wanted = self.request.query_params.get("status", "")
        if wanted and wanted not in Round.Status.values:
            raise ValidationError({"status": f"{wanted!r} is not one of {', '.join(Round.Status.values)}."})
        return found.filter(status=wanted) if wanted else found

    @extend_schema(request=LaunchIn, parameters=[EXPERIMENT], responses={201: RoundOut})
    def create(self, request: Request) -> Response:
        """Launches the next round; 409 says what stands in the way."""
        sent = LaunchIn(data=request.data)
        sent.is_valid(raise_exception=True)
        try:
            launched = launching.launch_round(
                experiment=chosen_experiment(request),
                user=person(request),
                overrides=sent.validated_data["overrides"],
            )
        except RoundRefused as refusal:
            raise Refused(refusal.problems) from refusal
        except ValueError as error:
            raise ValidationError({"overrides": str(error)}) from error
        return Response(RoundOut(launched).data, status=status.HTTP_201_CREATED)

    def _act(self, act: Any) -> Response:
        try:
            return Response(RoundOut(act(round=self.get_object(), user=person(self.request))).data)
        except RoundRefused as refusal:
            raise Refused(refusal.problems) from refusal

    @extend_schema(request=None, responses=RoundOut)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self._act(rounds.cancel_round)

    @extend_schema(request=None, responses=RoundOut)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        return self._act(rounds.retry_round)

    @extend_schema(request=None, responses=RoundOut)
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str) -> Response:
        return self._act(rounds.close_review)


SAMPLE_FILTERS = ("experiment", *(field.name for field in dataclasses.fields(SampleFilter)))


class SampleViewSet(GenericViewSet[Sample]):
    """Samples, newest first, with the filters of the page."""

    serializer_class = SampleOut
    permission_classes = [IsReviewer]
    pagination_class = None
    queryset = Sample.objects.select_related("query", "round__experiment")
    lookup_value_converter = "uuid"

    @extend_schema(
        parameters=[EXPERIMENT, *(_filter(name) for name in SAMPLE_FILTERS[1:]), *CURSOR], responses=SamplePageOut
    )
    def list(self, request: Request) -> Response:
        """`next` is the address of the next page. `checked` texts were looked at where a search stopped before its
        page was full: the next page goes on there. What a reviewer may not ask is ignored, as on the page."""
        check_filters(request, SAMPLE_FILTERS)
        experiment = chosen_experiment(request)
        asked = request.query_params
        limit = asked.get("limit", "")
        page = list_samples(
            experiment,
            SampleFilter.from_query(asked),
            sight=open_sight(person(request), experiment),
            after=asked.get("cursor", ""),
            size=min(max(int(limit), 1), MOST_SAMPLES) if limit.isascii() and limit.isdigit() else PAGE_SIZE,
        )
        further = replace_query_param(request.build_absolute_uri(), "cursor", page.next) if page.next else None
        return Response(SamplePageOut({"next": further, "checked": page.checked, "results": page.rows}).data)

    @extend_schema(responses=HistoryOut)
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(HistoryOut(read_history(self.get_object(), user=person(request))).data)


class MetricViewSet(mixins.ListModelMixin, GenericViewSet[MetricPoint]):
    """Every number of the charts, with its interval, its n, or why there is none."""

    serializer_class = MetricOut
    permission_classes = [IsReviewer]
    queryset = MetricPoint.objects.select_related("round")

    @extend_schema(parameters=[EXPERIMENT, _filter("round", "Number of the round."), _filter("name"), _filter("group")])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        check_filters(request, ("experiment", "round", "name", "group"))
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[MetricPoint]:
        found = super().get_queryset().filter(round__experiment=chosen_experiment(self.request))
        asked = self.request.query_params
        if asked.get("round"):
            if not (asked["round"].isascii() and asked["round"].isdigit() and len(asked["round"]) < 7):
                raise ValidationError({"round": f"{asked['round'][:20]!r} is not the number of a round."})
            found = found.filter(round__number=int(asked["round"]))
        for name in ("name", "group"):
            if name in asked:
                found = found.filter(**{name: asked[name].replace("\x00", "")[:60]})
        return found.order_by("round__number", "name", "group", "model")


class LabelExport(APIView):
    """The approved labels as JSON Lines, one answer a line, in the order in which they were made.

    `prompt`, `completion` and `label` (true = fine) are what TRL reads as unpaired preference.
    """

    permission_classes = [IsLead]

    @extend_schema(parameters=[EXPERIMENT], responses={(200, "application/jsonl"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponse | StreamingHttpResponse:
        check_filters(request, ("experiment",))
        response = StreamingHttpResponse(
            write_labels(chosen_experiment(request)), content_type="application/jsonl; charset=utf-8"
        )
        response["Content-Disposition"] = 'attachment; filename="labels.jsonl"'
        return response


class SchemaView(SpectacularAPIView):
    permission_classes = [IsReviewer]


class DocsView(SpectacularSwaggerSplitView):
    permission_classes = [IsReviewer]
    url_name = "api-schema"
