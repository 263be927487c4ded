"""/gaps/: the page, its pictures and their caching."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight.models import Experiment, MetricPoint
from tests.factories import make_experiment, make_round

pytestmark = pytest.mark.django_db
For = Callable[..., Client]


@pytest.fixture
def experiment() -> Experiment:
    experiment = make_experiment()
    for _ in range(2):
        round = make_round(experiment=experiment, status="done")
        MetricPoint.objects.create(round=round, name="attack_success", value=0.4, ci_low=0.3, ci_high=0.5, n=60)
    return experiment


ADDRESSES = ["/gaps/", "/gaps/attack-success.svg", "/gaps/attack-success.json", "/gaps/vega.js"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_outsider_is_sent_to_sign_in(client: Client, experiment: Experiment, address: str) -> None:
    assert client.get(address).headers["Location"].startswith("/sign-in/")


def test_the_page_has_pictures_tables_and_reasons(client_for: For, experiment: Experiment) -> None:
    page = client_for("reviewer").get("/gaps/").content.decode()
    assert "30% to 50%" in page and 'alt="Attack success and over-refusal. Attack success, judge' in page
    assert page.count("<source media=") == 3, "one chart of ten can be drawn: its dark and its narrow pictures"
    assert page.count("Not computable") == 9


def test_a_picture_is_cached_under_its_token_only(client_for: For, experiment: Experiment) -> None:
    client = client_for("reviewer")
    page = client.get("/gaps/").content.decode()
    source = page.split('<img src="')[1].split('"')[0].replace("&amp;", "&")
    picture = client.get(source)
    assert picture.headers["Content-Type"] == "image/svg+xml" and picture.content.startswith(b"<svg")
    assert "immutable" in picture.headers["Cache-Control"] and "private" in picture.headers["Cache-Control"]
    stale = client.get(source.replace("v=", "v=0"))
    assert stale.status_code == 200 and stale.headers["Cache-Control"] == "no-store"
    dark = client.get(source + "&theme=dark")
    assert dark.content != picture.content


def test_the_spec_carries_its_data_and_loads_nothing(client_for: For, experiment: Experiment) -> None:
    spec: dict[str, Any] = client_for("reviewer").get("/gaps/attack-success.json").json()
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert '"url"' not in json.dumps(spec)


@pytest.mark.parametrize("address", ["/gaps/nothing.svg", "/gaps/effort.svg", "/gaps/../settings.svg"])
def test_what_can_not_be_drawn_is_not_found(client_for: For, experiment: Experiment, address: str) -> None:
    assert client_for("reviewer").get(address).status_code == 404


def test_the_bundle_needs_no_eval_and_is_kept(client_for: For) -> None:
    script = client_for("reviewer").get("/gaps/vega.js")
    assert script.headers["Content-Type"] == "text/javascript" and b"vegaEmbed" in script.content
    assert "unsafe-eval" not in script.headers["Content-Security-Policy"]
    assert "immutable" in script.headers["Cache-Control"]


def test_as_many_queries_for_many_points_as_for_few(
    client_for: For, experiment: Experiment, django_assert_max_num_queries: Any
) -> None:
    client, counts = client_for("reviewer"), []
    for groups in (1, 30):
        round = make_round(experiment=experiment, status="done")
        for group in range(groups):
            MetricPoint.objects.create(round=round, name="attack_success", group=f"g{group}", value=0.4, n=6)
        with django_assert_max_num_queries(10) as captured:
            client.get("/gaps/")
        counts.append(len(captured))
    assert counts[0] == counts[1]
