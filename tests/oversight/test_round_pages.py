"""/rounds/ and its buttons, by role."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from oversight import tasks, workers
from oversight.models import Checkpoint, Experiment, Label, LogLine, ProbeAnswer, Round, Seed
from oversight.selectors.progress import read_progress, read_timeline
from oversight.selectors.rounds import list_rounds
from tests.factories import make_experiment, make_round, make_sample

pytestmark = pytest.mark.django_db
For = Callable[..., Client]
ROLES = ("reviewer", "lead", "researcher", "operator")


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


@pytest.fixture
def experiment() -> Experiment:
    experiment = make_experiment()
    Seed.objects.create(experiment=experiment, key="s", category="c", principle="p", style="q", unsafe="x")
    return experiment


@pytest.mark.parametrize("address", ["/rounds/", "/rounds/{id}/", "/rounds/launch/"])
def test_an_outsider_is_sent_to_sign_in(client: Client, address: str) -> None:
    answer = client.get(address.format(id=make_round().pk))
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/sign-in/")


@pytest.mark.parametrize("role", ROLES)
def test_everybody_signed_in_reads_rounds(client_for: For, role: str) -> None:
    client, round = client_for(role), make_round()
    assert client.get("/rounds/").status_code == client.get(f"/rounds/{round.pk}/").status_code == 200
    assert client.get(f"/rounds/{uuid.uuid4()}/").status_code == 404
    assert client.get("/rounds/1/").status_code == 404


@pytest.mark.parametrize(
    ("button", "least"),
    [("cancel", "researcher"), ("retry", "researcher"), ("close", "lead"), ("launch", "researcher")],
)
@pytest.mark.parametrize("role", ["outsider", *ROLES])
def test_who_may_press_what(client: Client, client_for: For, role: str, button: str, least: str) -> None:
    round = make_round(status="failed" if button == "retry" else "reviewing", attempt=1)
    Label.objects.create(sample=make_sample(round=round), violates={"0": 1.0})
    address = "/rounds/launch/" if button == "launch" else f"/rounds/{round.pk}/{button}/"
    someone = client if role == "outsider" else client_for(role)
    answer = someone.post(address, {"experiment": str(round.experiment_id)})
    round.refresh_from_db()
    if role == "outsider":
        assert answer.status_code == 302 and "/sign-in/" in answer.headers["Location"]
    elif ROLES.index(role) < ROLES.index(least):
        assert answer.status_code == 403
    elif button == "launch":
        assert answer.status_code == 409, "the round that is open stands in the way"
    else:
        assert answer.headers["Location"] == f"/rounds/{round.pk}/"
        assert round.status == {"cancel": "cancelled", "retry": "queued", "close": "queued"}[button]
        return
    assert round.status in ("reviewing", "failed")


@pytest.mark.parametrize("button", ["cancel", "retry", "close"])
def test_buttons_are_posts(client_for: For, button: str) -> None:
    assert client_for("operator").get(f"/rounds/{make_round().pk}/{button}/").status_code == 405


def test_a_form_from_another_site_is_refused() -> None:
    from tests.factories import make_user

    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("operator"))
    assert client.post(f"/rounds/{make_round().pk}/cancel/").status_code == 403


def test_launch_from_the_form(client_for: For, experiment: Experiment) -> None:
    answer = client_for("researcher").post("/rounds/launch/", {"experiment": str(experiment.pk), "budget": 5})
    round = experiment.rounds.get()
    assert answer.headers["Location"] == f"/rounds/{round.pk}/"
    assert (round.status, round.budget) == ("queued", 5)


def test_what_stands_in_the_way_is_named_before_and_after(client_for: For, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    experiment = make_experiment()
    client = client_for("researcher")
    page = client.get("/rounds/launch/").content
    assert b"No worker is listening" in page and b"no seeds" in page and b"disabled>Launch round 1" in page
    answer = client.post("/rounds/launch/", {"experiment": str(experiment.pk)})
    assert answer.status_code == 409 and b"No worker is listening" in answer.content
    assert not experiment.rounds.exists()


def test_a_bad_number_is_said_at_its_field(client_for: For, experiment: Experiment) -> None:
    answer = client_for("researcher").post("/rounds/launch/", {"experiment": str(experiment.pk), "budget": "-3"})
    assert answer.status_code == 422 and b"greater than or equal to 0" in answer.content
    assert not experiment.rounds.exists()


def test_the_cost_follows_what_is_typed(client_for: For, experiment: Experiment) -> None:
    headers = {"HX-Request": "true", "HX-Target": "round-cost"}
    query = {"experiment": str(experiment.pk), "attacks": 100, "lookalikes": 0, "competence": 0}
    page = client_for("researcher").get("/rounds/launch/", query, headers=headers).content.decode()
    assert page.lstrip().startswith('<div id="round-cost"') and "<dd>100</dd>" in page


def test_the_page_shows_log_gate_and_configuration_escaped(client_for: For) -> None:
    evil = "<script>alert(1)</script>"
    round = make_round(status="done", phase="learn", config={"learner": evil}, reason=evil)
    LogLine.objects.create(round=round, at=timezone.now(), stage="train", text=evil)
    Checkpoint.objects.create(
        experiment=round.experiment, round=round, role="learner", path="x", sha256="a", verdict="rolled back",
        reasons=[evil],
    )  # fmt: skip
    ProbeAnswer.objects.create(
        round=round, probe="p", kind="unsafe", category=evil[:40], prompt=evil, before=evil, after=evil,
        before_verdict="violates", after_verdict="fine",
    )  # fmt: skip
    page = client_for("reviewer").get(f"/rounds/{round.pk}/").content.decode()
    assert evil not in page and page.count("&lt;script&gt;") >= 6
    assert "rolled back" in page


def test_probes_by_kind_and_change(client_for: For) -> None:
    round = make_round(status="done")
    for name, kind, after in (("a", "unsafe", "fine"), ("b", "unsafe", "violates"), ("c", "harmless", "refused")):
        ProbeAnswer.objects.create(
            round=round, probe=name, kind=kind, prompt=f"prompt {name}", before="x", after="y",
            before_verdict="violates" if kind == "unsafe" else "fine", after_verdict=after,
        )  # fmt: skip
    client = client_for("reviewer")

    def shown(query: str) -> str:
        page = client.get(f"/rounds/{round.pk}/{query}", headers={"HX-Target": "round-probes"}).content.decode()
        return "".join(name for name in "abc" if f"prompt {name}" in page)

    assert shown("") == "ac", "only what changed"
    assert shown("?all=1") == "abc"
    assert shown("?kind=harmless") == "c"
    assert shown("?kind=reviewer__password") == "ac"
    page = client.get(f"/rounds/{round.pk}/").content.decode()
    assert "1 better" in page and "1 worse" in page, "refusing a harmless probe is worse"


def test_buttons_follow_role_and_state(client_for: For) -> None:
    round = make_round()
    address = f"/rounds/{round.pk}/"
    for role, close, cancel in (("reviewer", False, False), ("lead", True, False), ("researcher", True, True)):
        page = client_for(role).get(address).content
        assert (b"Close review</button>" in page, b"Cancel</button>" in page) == (close, cancel), role


def test_progress_of_repeating_stages() -> None:
    round = make_round(
        status="proposing", stage="critique", stage_done=32, stage_total=92, heartbeat_at=timezone.now(),
        stage_seconds={"load": 5, "attack": 10, "respond": 18, "critique": 4}, stage_started_at=timezone.now(),
    )  # fmt: skip
    progress = read_progress(round)
    assert progress is not None
    assert progress.rate == pytest.approx(1.0), "32 queries in 10 + 18 + 4 seconds, over all chunks"
    assert progress.seconds_left == pytest.approx(60.0)
    assert progress.share is not None and 0.3 < progress.share < 0.5
    states = {row.name: row.state for row in read_timeline(round)[0][1]}
    assert states == {"load": "done", "attack": "part", "respond": "part", "critique": "now", "select": "waiting"}


def test_progress_before_the_first_event() -> None:
    progress = read_progress(make_round(status="learning", phase="learn"))
    assert progress is not None and (progress.share, progress.rate, progress.seconds_left) == (None, None, None)


def test_a_silent_runner_is_said(client_for: For) -> None:
    silent = timezone.now() - timedelta(seconds=30)
    round = make_round(status="learning", phase="learn", stage="train", heartbeat_at=silent)
    assert b"Nothing heard from the runner for 30 s" in client_for("reviewer").get(f"/rounds/{round.pk}/").content


def test_a_failed_stage_is_marked() -> None:
    round = make_round(status="failed", phase="learn", stage="train")
    states = {row.name: row.state for row in read_timeline(round)[1][1]}
    assert (states["pairs"], states["train"], states["gate"]) == ("done", "failed", "waiting")


def test_as_many_queries_for_many_rounds_as_for_one(client_for: For, django_assert_max_num_queries: Any) -> None:
    experiment, counts = make_experiment(), []
    client = client_for("researcher")
    for size in (1, 8):
        for _ in range(size):
            make_sample(round=make_round(experiment=experiment, status=Round.Status.DONE))
        with django_assert_max_num_queries(17) as captured:
            client.get("/rounds/")
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_counts_of_samples_and_labels() -> None:
    experiment = make_experiment()
    first, second = make_round(experiment=experiment, status="done"), make_round(experiment=experiment)
    Label.objects.create(sample=make_sample(round=first, status="decided"), violates={"0": 1.0})
    for status in ("queued", "queued", "skipped", "unflagged"):
        make_sample(round=second, status=status)
    Label.objects.create(sample=make_sample(round=second, status="decided"), violates={"0": 1.0})
    rows = list_rounds(experiment)
    assert [(row.flagged, row.waiting, row.decided, row.labels) for row in rows] == [(4, 2, 2, 1), (1, 0, 1, 1)]
