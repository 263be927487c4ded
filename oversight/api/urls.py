from django.urls import include, path
from rest_framework.routers import SimpleRouter

from oversight.api.continuous import ContinuousViewSet
from oversight.api.views import DocsView, LabelExport, MetricViewSet, RoundViewSet, SampleViewSet, SchemaView

router = SimpleRouter(use_regex_path=False)
router.register("rounds", RoundViewSet, basename="api-round")
router.register("continuous", ContinuousViewSet, basename="api-continuous")
router.register("samples", SampleViewSet, basename="api-sample")
router.register("metrics", MetricViewSet, basename="api-metric")

urlpatterns = [
    path("labels.jsonl", LabelExport.as_view(), name="api-labels"),
    path("schema/", SchemaView.as_view(), name="api-schema"),
    path("docs/", DocsView.as_view(), name="api-docs"),
    path("", include(router.urls)),
]
