"""What the next round starts from: the last accepted checkpoint, or what somebody chose and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from oversight.models import AuditEvent, Checkpoint, Experiment, Round, Start, User
from oversight.selectors.starts import find_start, read_beginning, read_next_beginning
from oversight.services.round_rows import RoundRefused
from oversight.services.starts import choose_start
from tests.factories import make_experiment, make_round, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]


def make_checkpoint(round: Round, *, role: str = "learner", accepted: bool = True, **fields: Any) -> Checkpoint:
    return Checkpoint.objects.create(
        experiment=round.experiment, round=round, role=role, path=f"{round.pk}/learn/adapter", sha256="0" * 64,
        verdict="accepted" if accepted else "rolled back", **fields,
    )  # fmt: skip


@pytest.fixture
def experiment() -> Experiment:
    return make_experiment()


@pytest.fixture
def made(experiment: Experiment) -> list[Checkpoint]:
    """Rounds 1 accepted, 2 accepted, 3 rolled back."""
    rounds = [make_round(experiment=experiment, status="done", phase="learn") for _ in range(3)]
    return [make_checkpoint(round, accepted=round.number < 3) for round in rounds]


@pytest.fixture
def rosa() -> User:
    return make_user("researcher", username="rosa")


def choose(
    experiment: Experiment, checkpoint: Checkpoint | None, user: User, reason: str = "It refuses less."
) -> Start:
    return choose_start(experiment=experiment, checkpoint=checkpoint, user=user, reason=reason)


def test_without_a_choice_the_last_accepted_one(experiment: Experiment, made: list[Checkpoint]) -> None:
    assert read_next_beginning(experiment).checkpoint == made[1]
    assert read_beginning(experiment.pk, 2).checkpoint == made[0]
    assert read_beginning(experiment.pk, 1).checkpoint is None
    make_checkpoint(made[0].round, role="critic")
    assert read_next_beginning(experiment).checkpoint == made[1]


@pytest.mark.parametrize("index", [0, 2, None])
def test_a_choice_holds_until_a_round_since_is_accepted(
    experiment: Experiment, made: list[Checkpoint], rosa: User, index: int | None
) -> None:
    chosen = None if index is None else made[index]
    choose(experiment, chosen, rosa)
    assert read_next_beginning(experiment).checkpoint == chosen
    fourth = make_round(experiment=experiment, status="done", phase="learn")
    assert find_start(fourth) == chosen
    make_checkpoint(fourth, accepted=False)
    assert read_next_beginning(experiment).checkpoint == chosen, "rolled back: the chosen one again, not what was left"
    fifth = make_round(experiment=experiment, status="done", phase="learn")
    accepted = make_checkpoint(fifth)
    assert read_next_beginning(experiment).checkpoint == accepted
    assert read_next_beginning(experiment).choice is None
    assert find_start(made[2].round) == made[1], "what was is not rewritten"


def test_an_open_round_keeps_its_own_start(experiment: Experiment, made: list[Checkpoint], rosa: User) -> None:
    reviewing = make_round(experiment=experiment)
    assert choose(experiment, made[0], rosa).number == 5
    assert find_start(reviewing) == made[1]
    make_checkpoint(reviewing)  # it trains after the choice
    assert read_next_beginning(experiment).checkpoint == made[0]


def test_choosing_again_is_one_row_and_two_audit_events(
    experiment: Experiment, made: list[Checkpoint], rosa: User
) -> None:
    choose(experiment, None, rosa, "from scratch")
    choose(experiment, made[0], rosa, "no, from round 1")
    start = Start.objects.get()
    assert (start.number, start.checkpoint, start.reason) == (4, made[0], "no, from round 1")
    events = list(AuditEvent.objects.filter(action="experiment.start").order_by("id"))
    assert [event.actor for event in events] == ["rosa", "rosa"]
    assert [event.detail["words"] for event in events] == ["the base model", "round 1's checkpoint"]
    assert events[1].detail["before"] == "the base model" and events[1].detail["reason"] == "no, from round 1"


@pytest.mark.parametrize(("status", "phase"), [("learning", "learn"), ("queued", "learn")])
def test_not_while_a_round_learns(
    experiment: Experiment, made: list[Checkpoint], rosa: User, status: str, phase: str
) -> None:
    make_round(experiment=experiment, status=status, phase=phase)
    with pytest.raises(RoundRefused, match="Round 4 is learning"):
        choose(experiment, made[0], rosa)
    assert not Start.objects.exists() and not AuditEvent.objects.exists()


def test_what_is_refused(experiment: Experiment, made: list[Checkpoint], rosa: User) -> None:
    foreign = make_checkpoint(make_round(status="done"))
    critic = make_checkpoint(made[0].round, role="critic")
    for checkpoint, reason, words in (
        (foreign, "x", "another experiment"), (critic, "x", "critic's"), (made[0], " \n", "Say why"),
        (made[0], "x" * 501, "501 characters"),
    ):  # fmt: skip
        with pytest.raises(RoundRefused, match=words):
            choose(experiment, checkpoint, rosa, reason)
    assert not Start.objects.exists()


def test_nobody_overwrites_what_they_have_not_seen(experiment: Experiment, made: list[Checkpoint], rosa: User) -> None:
    seen = read_next_beginning(experiment).token
    choose(experiment, made[0], rosa)
    for stale in (seen, "4:nonsense"):
        with pytest.raises(RoundRefused, match="meanwhile"):
            choose_start(experiment=experiment, checkpoint=None, user=rosa, reason="x", seen=stale)
    fresh = read_next_beginning(experiment).token
    make_round(experiment=experiment)
    with pytest.raises(RoundRefused, match="meanwhile"):
        choose_start(experiment=experiment, checkpoint=None, user=rosa, reason="x", seen=fresh)
    assert Start.objects.get().checkpoint == made[0]


def test_the_page_asks_and_then_does(
    experiment: Experiment, made: list[Checkpoint], rosa: User, client_for: For
) -> None:
    client = client_for(rosa)
    page = client.get(f"/checkpoints/start/?checkpoint={made[2].pk}").content.decode()
    assert "Start round 4 from round 3&#x27;s checkpoint?" in page and "You overrule it" in page
    seen = page.partition('name="seen" value="')[2].partition('"')[0]
    sent = {"checkpoint": made[2].pk, "reason": "<b>tried</b>", "seen": seen}
    assert client.post("/checkpoints/start/", {**sent, "reason": ""}).status_code == 409
    assert client.post("/checkpoints/start/", sent).status_code == 302
    assert client.post("/checkpoints/start/", sent).status_code == 409, "sent twice"
    for address in (f"/rounds/{made[2].round_id}/", "/", "/rounds/", "/checkpoints/"):
        page = client.get(address).content.decode()
        assert "<b>Round 4 starts from round 3&#x27;s checkpoint</b>, chosen by rosa" in page, address
        assert "&lt;b&gt;tried&lt;/b&gt;" in page
    assert "chosen by rosa" not in client.get(f"/rounds/{made[0].round_id}/").content.decode(), "only the last round"


@pytest.mark.parametrize("target", ["checkpoint=base", "checkpoint=7", "checkpoint=base&experiment=1", ""])
def test_bad_targets_are_not_found(rosa: User, client_for: For, target: str) -> None:
    assert client_for(rosa).get(f"/checkpoints/start/?{target}").status_code == 404


def test_roles(experiment: Experiment, made: list[Checkpoint], client_for: For) -> None:
    for role, status in (("reviewer", 403), ("lead", 403), ("researcher", 200), ("operator", 200)):
        assert client_for(role).get(f"/checkpoints/start/?checkpoint={made[0].pk}").status_code == status
        page = client_for(role).get("/checkpoints/").content.decode()
        assert ("Start from it" in page) == (status == 200)


def test_from_the_admin(experiment: Experiment, made: list[Checkpoint], rosa: User, client_for: For) -> None:
    client = client_for(rosa)
    sent = {"action": "start_next_round", "_selected_action": [str(made[0].pk)]}
    answer = client.post("/admin/oversight/checkpoint/", sent)
    assert answer.headers["Location"] == f"/checkpoints/start/?checkpoint={made[0].pk}"
    sent["_selected_action"].append(str(made[1].pk))
    page = client.post("/admin/oversight/checkpoint/", sent, follow=True).content.decode()
    assert "Choose one checkpoint of a learner" in page
    answer = client.post(
        "/admin/oversight/experiment/", {"action": "start_from_base", "_selected_action": [str(experiment.pk)]}
    )
    assert answer.headers["Location"] == f"/checkpoints/start/?checkpoint=base&experiment={experiment.pk}"
    assert client.get(answer.headers["Location"]).status_code == 200


def test_by_the_api(experiment: Experiment, made: list[Checkpoint], client_for: For) -> None:
    client, address = client_for("researcher"), f"/api/start/?experiment={experiment.pk}"
    now = client.get(address).json()
    assert (now["number"], now["checkpoint"], now["chosen_by"]) == (4, str(made[1].pk), None)
    sent = {"checkpoint": None, "reason": "from scratch", "seen": now["seen"]}
    for role in ("reviewer", "lead"):
        assert client_for(role).get(address).status_code == 200
        assert client_for(role).post(address, sent, content_type="application/json").status_code == 403
    then = client.post(address, sent, content_type="application/json").json()
    assert (then["checkpoint"], then["reason"]) == (None, "from scratch")
    assert client.post(address, sent, content_type="application/json").status_code == 409
    for bad in ({"reason": "x"}, {"checkpoint": str(experiment.pk), "reason": "x"}, {"checkpoint": None, "reason": ""}):
        assert client.post(address, bad, content_type="application/json").status_code == 400


def test_checkpoints_by_the_api(experiment: Experiment, made: list[Checkpoint], client_for: For) -> None:
    make_checkpoint(made[0].round, role="critic")
    client = client_for("reviewer")
    found = client.get(f"/api/checkpoints/?experiment={experiment.pk}&role=learner").json()
    rows = found["results"] if isinstance(found, dict) else found
    assert [(row["round"], row["verdict"]) for row in rows] == [(3, "rolled back"), (2, "accepted"), (1, "accepted")]
    assert client.get(f"/api/checkpoints/{made[0].pk}/").json()["sha256"] == "0" * 64
    assert client.get("/api/checkpoints/?role=owner").status_code == 400
    assert client.get("/api/checkpoints/?path=x").status_code == 400
