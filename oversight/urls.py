from django.contrib import admin
from django.urls import path

from oversight.views import overview, rounds, samples

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("rounds/", rounds.list_page, name="rounds"),
    path("rounds/launch/", rounds.launch, name="round-launch"),
    path("rounds/<uuid:round_id>/", rounds.detail_page, name="round"),
    path("rounds/<uuid:round_id>/cancel/", rounds.cancel, name="round-cancel"),
    path("rounds/<uuid:round_id>/retry/", rounds.retry, name="round-retry"),
    path("rounds/<uuid:round_id>/close/", rounds.close, name="round-close"),
    path("samples/", samples.list_page, name="samples"),
    path("samples/<uuid:sample_id>/", samples.detail_page, name="sample"),
    path("admin/", admin.site.urls),
]
