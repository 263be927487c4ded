from django.urls import include, path
from rest_framework.routers import SimpleRouter

from oversight.api.checkpoints import CheckpointViewSet, StartView
from oversight.api.continuous import ContinuousViewSet
from oversight.api.views import DocsView, LabelExport, MetricViewSet, RoundViewSet, SampleViewSet, SchemaView

router = SimpleRouter(use_regex_path=False)
router.register("rounds", RoundViewSet, basename="api-round")
router.register("continuous", ContinuousViewSet, basename="api-continuous")
router.register("samples", SampleViewSet, basename="api-sample")
router.register("checkpoints", CheckpointViewSet, basename="api-checkpoint")
router.register("metrics", MetricViewSet, basename="api-metric")

urlpatterns = [
    path("start/", StartView.as_view(), name="api-start"),
    path("labels.jsonl", LabelExport.as_view(), name="api-labels"),
    path("schema/", SchemaView.as_view(), name="api-schema"),
    path("docs/", DocsView.as_view(), name="api-docs"),
    path("", include(router.urls)),
]
