"""services.continuous: rounds that launch the next one, exactly once, within a budget, until a rule stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from oversight import tasks, watch, workers
from oversight.models import AuditEvent, Checkpoint, ContinuousRun, Experiment, Label, MetricPoint, Round, Seed, User
from oversight.selectors.continuous import read_continuous, read_spent
from oversight.services import continuous, following, launching, rounds
from oversight.services.round_rows import RoundRefused
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
Status, State = Round.Status, ContinuousRun.State
For = Callable[..., Client]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    messages: list[tuple[str, int]] = []
    monkeypatch.setattr(tasks.run_phase, "delay", lambda round_id, attempt: messages.append((round_id, attempt)))
    monkeypatch.setattr(workers, "listening", lambda queue: ["gpu@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    return messages


@pytest.fixture
def mia() -> User:
    return make_user("researcher", username="mia")


def add_seed(experiment: Experiment) -> Experiment:
    Seed.objects.create(
        experiment=experiment, key="s1", category="privacy", principle="private-life", style="question", unsafe="x"
    )
    return experiment


@pytest.fixture
def experiment() -> Experiment:
    return add_seed(make_experiment())


def start(experiment: Experiment, user: User, **limits: Any) -> ContinuousRun:
    run = continuous.start_continuous(
        experiment=experiment, user=user, **{"rounds": 3, "reviews": 100, "minutes": 60, **limits}
    )
    run.refresh_from_db()
    return run


def finish(round: Round, *, accepted: bool = True, seconds: float = 60.0, **values: float) -> None:
    """The round's end as the runner leaves it, two samples judged."""
    Round.objects.filter(pk=round.pk).update(
        status=Status.LEARNING, phase="learn", stage_seconds={"respond": seconds}, heartbeat_at=None
    )
    for _ in range(2):
        sample = make_sample(round=round, status="decided")
        Label.objects.create(sample=sample, violates={"0": 1.0})
        make_review(sample=sample, reviewer=make_user(), action="violates")
    verdict = "accepted" if accepted else "rolled back"
    Checkpoint.objects.create(
        experiment=round.experiment, round=round, role="learner", path="x", sha256="a", verdict=verdict
    )
    for name, value in values.items():
        MetricPoint.objects.create(round=round, name=name, value=value, n=60, model="new")
    assert following.finish_learn(round.pk, round.attempt)


def test_a_start_launches_and_every_end_launches_the_next_until_the_budget_is_spent(
    experiment: Experiment, mia: User, sent: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        run = start(experiment, mia)
    for number in (1, 2, 3):
        round = experiment.rounds.get(status=Status.QUEUED)
        assert (round.number, round.launched_by, run.state) == (number, mia, State.RUNNING)
        with django_capture_on_commit_callbacks(execute=True):
            finish(round)
    assert experiment.rounds.count() == 3 and len(sent) == 3
    run.refresh_from_db()
    assert (run.state, run.rule) == (State.STOPPED, "rounds")
    assert run.reason == "The budget is spent: 3 of 3 rounds."
    spent = read_spent(run)
    assert (spent.rounds, spent.reviews, spent.minutes) == (3, 6, pytest.approx(3.0))
    assert [e.action for e in AuditEvent.objects.filter(action__startswith="continuous").order_by("id")] == [
        "continuous.start", "continuous.stop"
    ]  # fmt: skip
    line = experiment.rounds.get(number=2).log.first()
    assert line is not None and "continuous mode, which mia started (Round 2 of 3 starts)" in line.text


def test_the_next_round_waits_for_the_one_that_is_open(experiment: Experiment, mia: User) -> None:
    open_round = make_round(experiment=experiment, status=Status.REVIEWING)
    run = start(experiment, mia)
    assert continuous.advance(run.pk) is None and experiment.rounds.count() == 1
    state = read_continuous(experiment)
    assert state is not None
    assert state.next_words == "Round 2 starts when round 1 is done, if the budget holds it."
    assert state.budget_words == "1 of 3 rounds, 0 of 100 reviews, 0 of 60 minutes"
    Round.objects.filter(pk=open_round.pk).update(status=Status.DONE, budget=0)
    assert continuous.advance(run.pk) is not None
    assert continuous.advance(run.pk) is None, "said twice, launched once"
    assert experiment.rounds.count() == 2


def test_the_watch_picks_up_what_a_killed_process_left(experiment: Experiment, mia: User) -> None:
    run = start(experiment, mia)
    # The commit of the round's end came through, what follows it did not.
    Round.objects.update(status=Status.DONE, budget=0)
    watch.watch_rounds()
    assert [r.number for r in experiment.rounds.order_by("number")] == [1, 2]
    run.refresh_from_db()
    assert run.latest == 2


@pytest.mark.parametrize(
    ("limits", "rule", "words"),
    [
        ({"reviews": 13}, "reviews", "The budget is spent: 2 of 13 reviews, and the next round asks for 12."),
        ({"minutes": 1.5}, "minutes", "The budget is spent: 1 of 2 minutes of machine time, and the next round takes"),
        ({"rounds": 1}, "rounds", "The budget is spent: 1 of 1 rounds."),
    ],
)
def test_each_budget_stops(experiment: Experiment, mia: User, limits: Any, rule: str, words: str) -> None:
    run = start(experiment, mia, **limits)
    finish(experiment.rounds.get())
    continuous.advance_all()
    run.refresh_from_db()
    assert (run.state, run.rule, experiment.rounds.count()) == (State.STOPPED, rule, 1)
    assert run.reason.startswith(words)


def test_reviews_count_as_often_as_samples_are_asked(experiment: Experiment, mia: User) -> None:
    Experiment.objects.update(overlap=3)
    experiment.refresh_from_db()
    run = start(experiment, mia, reviews=35)
    assert run.reason == "The budget is spent: 0 of 35 reviews, and the next round asks for 36."
    assert not experiment.rounds.exists()


def test_rollbacks_in_a_row_stop_and_a_resume_counts_anew(experiment: Experiment, mia: User) -> None:
    run = start(experiment, mia, rounds=9)
    for number in (1, 2):
        finish(experiment.rounds.get(number=number), accepted=False)
        continuous.advance_all()
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.STOPPED, "No progress: all of the last 2 rounds were rolled back.")
    assert continuous.resume_continuous(run=run, user=mia).state == State.RUNNING
    assert experiment.rounds.count() == 3
    finish(experiment.rounds.get(number=3), accepted=False)
    continuous.advance_all()
    assert experiment.rounds.count() == 4, "one more rollback is not two"


def test_a_broken_floor_stops(mia: User) -> None:
    experiment = add_seed(make_experiment(settings={"conformity_floor": 0.7}))
    run = start(experiment, mia)
    finish(experiment.rounds.get(), attack_success=0.4)
    continuous.advance_all()
    run.refresh_from_db()
    assert (run.rule, run.reason) == (
        "floor",
        "A floor is broken: after round 1 conformity is 0.600 (1 - attack success, n 60), below its floor of 0.7.",
    )


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_round_that_failed_or_was_cancelled_stops_and_its_retry_goes_on(
    experiment: Experiment, mia: User, end: str, django_capture_on_commit_callbacks: Any
) -> None:
    run = start(experiment, mia)
    round = experiment.rounds.get()
    with django_capture_on_commit_callbacks(execute=True):
        if end == "failed":
            following.fail_round(round.pk, reason="no memory")
        else:
            rounds.cancel_round(round=round, user=mia)
    run.refresh_from_db()
    assert (run.state, run.rule) == (State.STOPPED, end)
    assert run.reason == (
        "Round 1 failed: no memory" if end == "failed" else "Round 1 was cancelled: Cancelled by mia."
    )
    assert experiment.rounds.count() == 1
    with django_capture_on_commit_callbacks(execute=True):
        rounds.retry_round(round=round, user=mia)
    run.refresh_from_db()
    assert run.state == State.RUNNING


def test_pause_and_resume(experiment: Experiment, mia: User) -> None:
    run = start(experiment, mia)
    lea = make_user("lead", username="lea")
    assert continuous.pause_continuous(run=run, user=lea).reason == "Paused by lea."
    with pytest.raises(RoundRefused, match="paused; only a running one"):
        continuous.pause_continuous(run=run, user=lea)
    finish(experiment.rounds.get())
    continuous.advance_all()
    assert experiment.rounds.count() == 1
    continuous.resume_continuous(run=run, user=mia)
    assert experiment.rounds.count() == 2
    with pytest.raises(RoundRefused, match="while it does not run"):
        continuous.resume_continuous(run=run, user=mia)


def test_one_at_a_time(experiment: Experiment, mia: User) -> None:
    first = start(experiment, mia)
    with pytest.raises(RoundRefused, match="on already"):
        start(experiment, mia)
    continuous.pause_continuous(run=first, user=mia)
    second = start(experiment, mia)
    first.refresh_from_db()
    assert (first.state, first.rule, second.state) == (State.STOPPED, "replaced", State.RUNNING)
    with pytest.raises(RoundRefused, match="Only the newest"):
        continuous.resume_continuous(run=first, user=mia)
    with pytest.raises(ValueError, match="rounds"):
        start(make_experiment(), mia, rounds=0)


def test_without_a_worker_it_waits_and_says_so(
    experiment: Experiment, mia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    start(experiment, mia)
    state = read_continuous(experiment)
    assert state is not None and "The next round waits: No worker is listening" in state.next_words
    monkeypatch.setattr(workers, "listening", lambda queue: ["gpu@here"])
    continuous.advance_all()
    assert experiment.rounds.count() == 1


def test_settings_that_no_round_can_have_stop_it(mia: User) -> None:
    experiment = add_seed(make_experiment(settings={"schedule": "random"}))
    run = start(experiment, mia)
    assert (run.state, run.rule) == (State.STOPPED, "settings") and "schedule 'random'" in run.reason


def test_one_that_fails_does_not_hold_the_others_up(
    experiment: Experiment, mia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = add_seed(make_experiment())
    runs = [start(experiment, mia), start(other, mia)]
    Round.objects.update(status=Status.DONE, budget=0)
    real = launching.prepare_round

    def broken(wanted: Experiment) -> Any:
        if wanted.pk == experiment.pk:
            raise RuntimeError("a bug")
        return real(wanted)

    monkeypatch.setattr(launching, "prepare_round", broken)
    continuous.advance_all()
    assert (experiment.rounds.count(), other.rounds.count()) == (1, 2)
    assert all(run.state == State.RUNNING for run in runs)


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_see_the_same_end_launch_one_round(mia: User, sent: list[Any]) -> None:
    experiment = add_seed(make_experiment())
    run = start(experiment, mia)
    Round.objects.update(status=Status.DONE, budget=0)
    gate, launched, errors = threading.Barrier(4), [], []

    def worker() -> None:
        gate.wait()
        try:
            launched.append(continuous.advance(run.pk))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [r.number for r in launched if r is not None] == [2]
    assert experiment.rounds.count() == 2 and len(sent) == 2


# --- Who may, and what the pages say ------------------------------------------------------------------

LIMITS = {"rounds": 2, "reviews": 50, "minutes": 60, "patience": 2, "window": 3, "least_gain": 0.005}


@pytest.mark.parametrize(
    ("role", "may_start", "may_pause"),
    [("outsider", 302, 302), ("reviewer", 403, 403), ("lead", 403, 302), ("researcher", 302, 302)],
)
def test_who_may_switch_it(
    client: Client, client_for: For, experiment: Experiment, mia: User, role: str, may_start: int, may_pause: int
) -> None:
    someone = client if role == "outsider" else client_for(role)
    answer = someone.post("/continuous/start/", {"experiment": str(experiment.pk), **LIMITS})
    assert answer.status_code == may_start
    assert ContinuousRun.objects.exists() is (role == "researcher")
    run = ContinuousRun.objects.first() or start(experiment, mia)
    assert someone.post(f"/continuous/{run.pk}/pause/").status_code == may_pause
    run.refresh_from_db()
    assert (run.state == State.PAUSED) is (role in ("lead", "researcher"))
    assert someone.post(f"/continuous/{run.pk}/resume/").status_code == may_start
    assert someone.get(f"/continuous/{run.pk}/resume/").status_code in (405, 302, 403)
    api = [
        someone.post(f"/api/continuous/{path}", {}, "application/json").status_code
        for path in ("", f"{run.pk}/resume/")
    ]
    assert (api[0] == 403) is (role != "researcher") and (api[1] == 403) is (role != "researcher")


def test_a_bad_budget_is_said(client_for: For, experiment: Experiment) -> None:
    client = client_for("researcher")
    page = client.post("/continuous/start/", {"experiment": str(experiment.pk), **LIMITS, "rounds": 0}, follow=True)
    assert "Continuous mode was not started. Rounds: " in page.content.decode()
    assert client.post("/continuous/start/", {"experiment": "nonsense", **LIMITS}).status_code == 404
    assert not ContinuousRun.objects.exists()


def test_the_pages_say_what_happens_next(client_for: For, experiment: Experiment, mia: User) -> None:
    run = start(experiment, mia)
    round = experiment.rounds.get()
    for role in ("reviewer", "lead", "researcher"):
        for address in (f"/?experiment={experiment.pk}", f"/rounds/{round.pk}/"):
            page = client_for(role).get(address).content.decode()
            assert "Round 2 starts when round 1 is done" in page and "1 of 3 rounds, 0 of 100 reviews" in page
            assert ('id="continuous-pause"' in page) is (role != "reviewer"), (role, address)
    run.state, run.reason = State.STOPPED, "<script>alert(1)</script>"
    run.save()
    page = client_for("researcher").get("/").content.decode()
    assert "Stopped. &lt;script&gt;" in page and 'id="continuous-resume"' in page
    make_round(experiment=experiment, status=Status.DONE)
    assert 'id="continuous-resume"' not in client_for("researcher").get("/").content.decode(), "old news"


def test_the_admin_starts_pauses_and_resumes(client_for: For, experiment: Experiment) -> None:
    client = client_for("researcher")
    sent_form = {"experiment": str(experiment.pk), **LIMITS}
    assert client.post("/admin/oversight/continuousrun/add/", sent_form).status_code == 302
    run = ContinuousRun.objects.get()
    assert (run.state, run.rounds, experiment.rounds.count()) == (State.RUNNING, 2, 1)
    again = client.post("/admin/oversight/continuousrun/add/", sent_form)
    assert b"on already" in again.content and ContinuousRun.objects.count() == 1
    for action, state in (("pause_runs", State.PAUSED), ("resume_runs", State.RUNNING)):
        client.post("/admin/oversight/continuousrun/", {"action": action, "_selected_action": [str(run.pk)]})
        run.refresh_from_db()
        assert run.state == state
    page = client.get(f"/admin/oversight/continuousrun/{run.pk}/change/")
    assert page.status_code == 200 and b'name="_save"' not in page.content, "shown, never edited"


def test_the_api_starts_lists_and_refuses(client_for: For, experiment: Experiment) -> None:
    client = client_for("researcher")
    address = f"/api/continuous/?experiment={experiment.pk}"
    lacking = client.post(address, {"rounds": 2}, "application/json")
    assert lacking.status_code == 400 and lacking.json()["reviews"] == "A budget has to be stated."
    made = client.post(address, LIMITS, "application/json")
    assert made.status_code == 201 and made.json()["state"] == "running"
    assert client.post(address, LIMITS, "application/json").status_code == 409
    listed = client_for("reviewer").get(address).json()["results"]
    assert [row["id"] for row in listed] == [made.json()["id"]]
    assert client.post(f"/api/continuous/{made.json()['id']}/pause/").json()["state"] == "paused"
    assert client.get("/api/continuous/?colour=red").status_code == 400
