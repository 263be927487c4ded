"""services.launching, rounds, following: the path of a round's status, and what stands in its way."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from kombu.exceptions import OperationalError

from oversight import tasks, watch, workers
from oversight.models import AuditEvent, Experiment, Label, Round, Sample, Seed
from oversight.services import following, launching, rounds
from oversight.services.round_rows import RoundRefused
from tests.factories import make_experiment, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
Status = Round.Status
Sent = list[tuple[str, int]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was handed to the queue; a worker listens."""
    messages: Sent = []
    monkeypatch.setattr(tasks.run_phase, "delay", lambda round_id, attempt: messages.append((round_id, attempt)))
    monkeypatch.setattr(workers, "listening", lambda queue: ["gpu@here"])
    return messages


@pytest.fixture
def experiment() -> Experiment:
    experiment = make_experiment()
    Seed.objects.create(
        experiment=experiment, key="s1", category="privacy", principle="private-life", style="question", unsafe="x"
    )
    return experiment


def add_label(sample: Sample) -> None:
    Label.objects.create(sample=sample, violates={"0": 1.0})


def test_a_launch_queues_the_round_and_hands_it_over_once(
    sent: Sent, experiment: Experiment, django_capture_on_commit_callbacks: Any
) -> None:
    mia = make_user("researcher", username="mia")
    with django_capture_on_commit_callbacks(execute=True):
        round = launching.launch_round(experiment=experiment, user=mia, overrides={"budget": 7})
        assert sent == [], "a worker must not see the job before the row is committed"
    assert sent == [(str(round.pk), 1)]
    assert (round.status, round.number, round.budget, round.objective) == (Status.QUEUED, 1, 7, "conformity")
    assert round.config["budget"] == 7 and round.config["round_id"] == str(round.pk)
    event = AuditEvent.objects.get(action="round.launch")
    assert (event.actor, event.detail["overrides"]) == ("mia", {"budget": 7})


def test_objectives_alternate(sent: Sent, experiment: Experiment) -> None:
    first = make_round(experiment=experiment, status=Status.DONE, budget=0)
    assert launching.launch_round(experiment=experiment, user=None, overrides={}).objective == "competence"
    assert first.number == 1


def test_the_preflight_names_everything_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    experiment = make_experiment()
    experiment.constitution.principles.all().delete()
    make_round(experiment=experiment, status=Status.DONE)
    make_round(experiment=experiment, status=Status.LEARNING)
    text = " ".join(launching.preflight(experiment))
    for words in ("No worker is listening", "Round 2 is learning", "no seeds", "no principles", "no labels"):
        assert words in text
    with pytest.raises(RoundRefused, match="No worker"):
        launching.launch_round(experiment=experiment, user=None, overrides={})
    assert experiment.rounds.count() == 2


def test_a_broker_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    from redis.exceptions import ConnectionError as Down

    def refuse(queue: str) -> list[str]:
        raise Down("connection refused")

    monkeypatch.setattr(workers, "listening", refuse)
    assert "broker does not answer" in launching.preflight(experiment)[0]


def test_a_bad_override_launches_nothing(sent: Sent, experiment: Experiment) -> None:
    with pytest.raises(ValueError, match="no setting colour"):
        launching.launch_round(experiment=experiment, user=None, overrides={"colour": 1})
    assert not experiment.rounds.exists() and sent == []


def test_a_broker_that_dies_at_launch_fails_the_round_in_words(
    monkeypatch: pytest.MonkeyPatch, sent: Sent, experiment: Experiment, django_capture_on_commit_callbacks: Any
) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(tasks.run_phase, "delay", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        round = launching.launch_round(experiment=experiment, user=None, overrides={})
    round.refresh_from_db()
    assert round.status == Status.FAILED and "broker" in round.reason


def test_the_whole_path(sent: Sent, experiment: Experiment, django_capture_on_commit_callbacks: Any) -> None:
    leo = make_user("lead")
    with django_capture_on_commit_callbacks(execute=True):
        round = launching.launch_round(experiment=experiment, user=None, overrides={})
    assert following.start_phase(round.pk, 2) is None, "an attempt that was never queued claims nothing"
    started = following.start_phase(round.pk, 1)
    assert started is not None and started.status == Status.PROPOSING
    assert following.start_phase(round.pk, 1) is None, "a second worker with the same message finds it taken"
    judged, waiting = make_sample(round=round, status="decided"), make_sample(round=round)
    add_label(judged)
    with django_capture_on_commit_callbacks(execute=True):
        assert following.finish_propose(round.pk, 1)
    round.refresh_from_db()
    assert round.status == Status.REVIEWING, "one sample still waits"
    with django_capture_on_commit_callbacks(execute=True):
        rounds.close_review(round=round, user=leo)
    waiting.refresh_from_db()
    round.refresh_from_db()
    assert (round.status, round.phase, round.attempt, waiting.status) == (Status.QUEUED, "learn", 2, "closed")
    assert sent == [(str(round.pk), 1), (str(round.pk), 2)]
    assert following.start_phase(round.pk, 1) is None
    learning = following.start_phase(round.pk, 2)
    assert learning is not None and learning.status == Status.LEARNING
    assert not following.finish_learn(round.pk, 1), "an attempt that was taken for dead ends nothing"
    assert following.finish_learn(round.pk, 2)
    round.refresh_from_db()
    assert round.status == Status.DONE and round.finished_at


def test_the_review_closes_itself_when_all_is_decided(sent: Sent, django_capture_on_commit_callbacks: Any) -> None:
    round = make_round(attempt=1)
    sample = make_sample(round=round)
    make_sample(round=round, status="unflagged")
    add_label(sample)
    with django_capture_on_commit_callbacks(execute=True):
        rounds.close_if_spent(round)
    round.refresh_from_db()
    assert round.status == Status.REVIEWING
    Sample.objects.filter(pk=sample.pk).update(status="decided")
    with django_capture_on_commit_callbacks(execute=True):
        rounds.close_if_spent(round)
        rounds.close_if_spent(round)
    round.refresh_from_db()
    assert (round.status, round.attempt) == (Status.QUEUED, 2)
    assert sent == [(str(round.pk), 2)], "two last reviewers close it once"


def test_a_review_that_everybody_skipped_waits_for_a_lead(sent: Sent, django_capture_on_commit_callbacks: Any) -> None:
    round = make_round()
    make_sample(round=round, status="skipped")
    with django_capture_on_commit_callbacks(execute=True):
        rounds.close_if_spent(round)
    round.refresh_from_db()
    assert round.status == Status.REVIEWING and sent == []
    with pytest.raises(RoundRefused, match="nothing to learn from"):
        rounds.close_review(round=round, user=None)


def test_cancel_at_once_where_nothing_runs(sent: Sent) -> None:
    round = make_round(status=Status.QUEUED, attempt=1)
    sample = make_sample(round=round)
    rounds.cancel_round(round=round, user=make_user("researcher", username="mia"))
    round.refresh_from_db()
    sample.refresh_from_db()
    assert round.status == Status.CANCELLED and "mia" in round.reason and sample.status == "closed"
    assert following.start_phase(round.pk, 1) is None
    with pytest.raises(RoundRefused, match="already cancelled"):
        rounds.cancel_round(round=round, user=None)


def test_cancel_asks_a_live_runner_and_ends_a_dead_one() -> None:
    alive = make_round(status=Status.LEARNING, attempt=3, heartbeat_at=timezone.now())
    assert rounds.cancel_round(round=alive, user=None).cancel_requested
    alive.refresh_from_db()
    assert alive.status == Status.LEARNING
    assert following.finish_cancel(alive.pk, 3)
    alive.refresh_from_db()
    assert alive.status == Status.CANCELLED and not alive.cancel_requested
    dead = make_round(status=Status.LEARNING, heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert rounds.cancel_round(round=dead, user=None).status == Status.CANCELLED


def test_retry_takes_the_phase_up_with_a_new_attempt(sent: Sent, django_capture_on_commit_callbacks: Any) -> None:
    round = make_round(status=Status.FAILED, phase="learn", attempt=2, reason="killed", proposed_at=timezone.now())
    closed = make_sample(round=round, status="closed")
    with django_capture_on_commit_callbacks(execute=True):
        rounds.retry_round(round=round, user=None)
    round.refresh_from_db()
    closed.refresh_from_db()
    assert (round.status, round.phase, round.attempt, round.reason) == (Status.QUEUED, "learn", 3, "")
    assert closed.status == "closed", "what the review left out stays out"
    assert sent == [(str(round.pk), 3)]
    assert not following.fail_round(round.pk, reason="late", attempt=2), "the old runner's failure is no news"


def test_retry_of_a_cancelled_review_opens_it_again(sent: Sent) -> None:
    round = make_round(attempt=1, proposed_at=timezone.now())
    sample = make_sample(round=round)
    rounds.cancel_round(round=round, user=None)
    rounds.retry_round(round=round, user=None)
    round.refresh_from_db()
    sample.refresh_from_db()
    assert (round.status, sample.status, round.attempt) == (Status.REVIEWING, "queued", 1)


def test_only_the_last_round_can_be_retried(sent: Sent, experiment: Experiment) -> None:
    first = make_round(experiment=experiment, status=Status.FAILED)
    make_round(experiment=experiment, status=Status.DONE)
    with pytest.raises(RoundRefused, match="Round 2 came after"):
        rounds.retry_round(round=first, user=None)
    with pytest.raises(RoundRefused, match="only a failed or cancelled"):
        rounds.retry_round(round=make_round(status=Status.DONE), user=None)


def test_a_launch_takes_the_waiting_samples_of_a_failed_round_away(sent: Sent, experiment: Experiment) -> None:
    failed = make_round(experiment=experiment, status=Status.FAILED)
    left = make_sample(round=failed)
    launching.launch_round(experiment=experiment, user=None, overrides={})
    left.refresh_from_db()
    assert left.status == "closed"


def test_the_estimate_scales_the_last_round(experiment: Experiment) -> None:
    before = launching.estimate(experiment, {})
    assert not before.measured and before.samples == 48 + 8 + 10 and before.reviews == 12
    done = make_round(
        experiment=experiment, status=Status.DONE, stage_seconds={"attack": 20, "respond": 40, "train": 120}
    )
    for _ in range(2):
        make_sample(round=done, status="unflagged")
    after = launching.estimate(experiment, {"attacks": 2, "lookalikes": 1, "competence": 1})
    # 60 s for 2 samples before, so 120 s for 4, and 120 s of learning.
    assert after.measured and after.minutes == pytest.approx(4.0)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.DONE, Status.DRAFT])
def test_only_a_review_can_be_closed(status: str) -> None:
    with pytest.raises(RoundRefused, match=f"is {status}"):
        rounds.close_review(round=make_round(status=status), user=None)


def test_an_unknown_round_is_an_error() -> None:
    with pytest.raises(Round.DoesNotExist):
        following.start_phase(uuid.uuid4(), 1)


def test_the_watch_closes_a_review_whose_last_submitter_was_killed(
    sent: Sent, django_capture_on_commit_callbacks: Any
) -> None:
    round = make_round(attempt=1, proposed_at=timezone.now())
    add_label(make_sample(round=round, status="decided"))
    with django_capture_on_commit_callbacks(execute=True):
        watch.close_spent_reviews()
    round.refresh_from_db()
    assert round.status == Status.QUEUED and sent == [(str(round.pk), 2)]
