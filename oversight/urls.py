from django.urls import include, path

from oversight.admin import site
from oversight.views import accounts, gaps, health, overview, page, review, rounds, samples

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("rounds/", rounds.list_page, name="rounds"),
    path("rounds/launch/", rounds.launch, name="round-launch"),
    path("rounds/<uuid:round_id>/", rounds.detail_page, name="round"),
    path("rounds/<uuid:round_id>/cancel/", rounds.cancel, name="round-cancel"),
    path("rounds/<uuid:round_id>/retry/", rounds.retry, name="round-retry"),
    path("rounds/<uuid:round_id>/close/", rounds.close, name="round-close"),
    path("gaps/", gaps.gaps, name="gaps"),
    path("gaps/vega.js", gaps.vega_script, name="gaps-vega"),
    path("gaps/<slug:key>.svg", gaps.chart_svg, name="gap-chart"),
    path("gaps/<slug:key>.json", gaps.chart_spec, name="gap-spec"),
    path("samples/", samples.list_page, name="samples"),
    path("samples/<uuid:sample_id>/", samples.detail_page, name="sample"),
    path("header/", page.header, name="header"),
    path("review/", review.review, name="review"),
    path("review/submit/", review.submit, name="review-submit"),
    path("review/undo/", review.undo, name="review-undo"),
    path("review/heartbeat/", review.heartbeat, name="review-heartbeat"),
    path("review/release/", review.release, name="review-release"),
    path("review/revise/<uuid:review_id>/", review.revise, name="review-revise"),
    path("sign-in/", accounts.sign_in, name="sign-in"),
    path("sign-in/<str:token>/", accounts.sign_in_link, name="sign-in-link"),
    path("sign-out/", accounts.sign_out, name="sign-out"),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("api/", include("oversight.api.urls")),
    path("admin/", site.urls),
]
