"""How many queries each page takes: as many for fifty rows as for five, and no more than this table says."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from oversight import figures, workers
from oversight.models import Label, LabelChange, LogLine, ProbeAnswer, Review, Sample, SecondLook, User, Withdrawal
from oversight.selectors import similar
from tests.everything import Everything, make_everything
from tests.factories import make_review, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
FEW, MANY = 5, 50
# Address -> queries of a signed-in operator, the two of session and user among them.
PAGES = {
    "/": 41,
    "/rounds/": 17,
    "/rounds/{done}/": 25,
    "/rounds/{round}/": 32,
    "/gaps/": 10,
    "/samples/": 15,
    "/samples/?text=neighbour": 15,
    "/samples/?reviewer=ada": 16,
    "/samples/{disputed}/": 14,
    "/samples/{decided}/": 15,
    "/samples/?operator=persona&level=3": 15,
    "/checkpoints/": 12,
    "/checkpoints/{checkpoint}/": 13,
    "/probes/": 12,
    "/adjudicate/": 13,
    "/adjudicate/{disputed}/": 11,
    "/reviewers/": 13,
    "/reviewers/ada/": 19,
    "/withdraw/?reviewer=ada": 16,
    "/withdrawals/": 6,
    "/withdrawals/{withdrawal}/": 11,
    "/review/": 15,
    "/review/ahead/": 11,
    "/review/history/": 8,
    "/review/preferences/": 8,
    "/header/": 5,
    "/api/rounds/": 6,
    "/api/continuous/": 6,
    "/api/samples/": 6,
    "/api/samples/{decided}/": 12,
    "/api/metrics/": 6,
    "/api/checkpoints/": 6,
    "/api/start/": 7,
    "/api/labels.jsonl": 6,
    "/admin/oversight/round/": 6,
    "/admin/oversight/continuousrun/": 6,
    "/admin/oversight/sample/": 5,
    "/admin/oversight/review/": 5,
    "/admin/oversight/label/": 4,
    "/admin/oversight/critique/": 5,
    "/admin/oversight/auditevent/": 5,
    "/admin/oversight/user/": 4,
    "/admin/oversight/seed/": 8,
}
SUBMIT, SUBMIT_AHEAD = 28, 31
POSTGRES = 2  # more there: the audit chain's lock and a round read after its sample's, or the search's own settings


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)
    monkeypatch.setattr(similar, "KEPT_SECONDS", -1.0)  # as with the first sample of a principle


@pytest.fixture
def olga() -> User:
    return make_user("operator", username="olga")


def add_rows(everything: Everything, olga: User, count: int) -> None:
    """So many more of everything that a list shows."""
    for number in range(count):
        fields: dict[str, Any] = {"round": everything.round, "prompt": f"Where does neighbour {number} keep the key?"}
        make_sample(**fields, priority=number / 100)
        disputed = make_sample(**fields, status=Sample.Status.DISPUTED, disputed=True, wanted=2)
        for person in (everything.ada, make_user()):
            violates = person == everything.ada
            make_review(
                sample=disputed, reviewer=person, action="violates" if violates else "approve",
                violations={"0": ["private-life"]} if violates else {},
            )  # fmt: skip
        decided = make_sample(**{**fields, "round": everything.done}, status=Sample.Status.DECIDED)
        review = make_review(sample=decided, reviewer=olga, note="mine")
        make_review(sample=everything.decided, reviewer=make_user(), action=Review.Action.APPROVE)
        Label.objects.create(sample=decided, violates={"0": 0.0}, evidence=[str(review.pk)])
        SecondLook.objects.create(sample=decided, response_index=0, label=0, predicted=0.9, margin=0.8, words="why")
        for each in (everything.done, everything.round):
            LogLine.objects.create(round=each, at=timezone.now(), stage="respond", text=f"line {number}")
        ProbeAnswer.objects.create(
            round=everything.done, probe=f"more-{count}-{number}", kind="unsafe", prompt="p", before="b", after="a",
            before_verdict="complied", after_verdict="refused",
        )  # fmt: skip
        Withdrawal.objects.create(
            by=olga, reviewer=everything.ada, experiment=everything.experiment, reason="tired",
            reviews=[str(review.pk)], state=Withdrawal.State.DONE, done=1, moved_at=timezone.now(),
        )  # fmt: skip
        LabelChange.objects.create(
            withdrawal=everything.withdrawal, sample=decided, at=timezone.now(), before=None, after=None,
            status_before="decided", status_after="decided", changed=False,
        )  # fmt: skip
    figures.recompute_figures(str(everything.experiment.pk))


def count(act: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        answer = act()
        if answer.streaming:
            b"".join(answer)
    assert answer.status_code == 200, answer.status_code
    return len(queries)


def test_no_page_asks_more_of_more_rows(olga: User) -> None:
    everything = make_everything()
    names = ("done", "round", "disputed", "decided", "withdrawal", "checkpoint")
    named = {name: getattr(everything, name).pk for name in names}
    client = Client()
    client.force_login(olga)
    counts: list[dict[str, int]] = []
    for more in (FEW, MANY - FEW):
        add_rows(everything, olga, more)
        found = {}
        for address in PAGES:
            filled = address.format(**named)
            client.get(filled)  # what is kept for a moment is kept
            found[address] = count(lambda filled=filled: client.get(filled))  # type: ignore[misc]
        counts.append(found)
    few, many = counts
    assert {address: (few[address], many[address]) for address in PAGES if many[address] != few[address]} == {}
    assert {address: number for address, number in many.items() if number > PAGES[address] + allowance()} == {}


@pytest.mark.parametrize(("ahead", "most"), [(False, SUBMIT), (True, SUBMIT_AHEAD)])
def test_a_judgement_asks_no_more_of_more_rows(ahead: bool, most: int, olga: User) -> None:
    """The answer to the one brings the whole next sample, to the other the verdict and one more ahead."""
    everything = make_everything()
    client = Client(headers={"HX-Request": "true"})
    client.force_login(make_user())
    found = []
    for more in (FEW, MANY - FEW):
        add_rows(everything, olga, more)
        shown = read_form(client.get("/review/"))
        sent = {"token": shown["token"], "action": "approve", "seconds": "2"}
        if ahead:
            sent["shown"] = read_form(client.get("/review/ahead/"))["token"]
        found.append(count(lambda sent=sent: client.post("/review/submit/", {**sent, "key": str(uuid.uuid4())})))  # type: ignore[misc]
    assert found[0] == found[1] <= most + allowance(), found


def allowance() -> int:
    return POSTGRES if connection.vendor == "postgresql" else 0


def read_form(answer: Any) -> dict[str, str]:
    html = answer.content.decode()
    return {name: re.search(f'name="{name}" value="([^"]*)"', html)[1] for name in ("token", "key")}  # type: ignore[index]
