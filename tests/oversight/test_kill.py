"""Kill -9 of every process while a round runs: the round says what happened, and nothing is lost.

Real processes, the real tiny model. The product takes a phase for dead after 40 s of silence, these
tests after LOST_AFTER.
"""

from __future__ import annotations

import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.oversight.stack import LOST_AFTER, Stack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
CHILD = "-m alignment"
WAITING = "SELECT count(*) AS n FROM oversight_sample WHERE status = 'queued'"
REVIEWS = "SELECT count(*) AS n, count(DISTINCT reviewer_id) AS people FROM oversight_review"
HELD = "SELECT count(*) AS n, sum(ahead) AS ahead FROM oversight_lease WHERE holder_id IS NOT NULL"
AT_WORK = ("respond", "critique", "select")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A round that proposes for a while: long enough to be killed in the middle."""
    with Stack(tmp_path, attacks=300, chunk=4, max_new_tokens=24) as running:
        yield running


def test_child(stack: Stack) -> None:
    stack.wait_for_stage(*AT_WORK)
    stack.kill(CHILD)
    row = stack.wait_for_status("failed", seconds=10)
    assert "the process was ended by SIGKILL" in row["reason"]
    assert "Retry resumes from the last whole stage" in row["reason"]
    samples = stack.row("SELECT count(*) AS n FROM oversight_sample")["n"]
    stack.sign_in()
    stack.post(f"/rounds/{uuid.UUID(row['id'])}/retry/")
    wait_for(lambda: stack.row("SELECT count(*) AS n FROM oversight_sample")["n"] > samples, 40, stack.log)
    assert stack.row()["status"] == "proposing"
    assert stack.row("SELECT count(*) AS n, count(DISTINCT id) AS d FROM oversight_sample") != {}


def test_worker(stack: Stack) -> None:
    """The worker, its pool process and the phase die together; the watch finds the silent round."""
    stack.wait_for_stage(*AT_WORK)
    child = stack.find(CHILD)
    assert child is not None
    stack.kill("-Q gpu")
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
    row = stack.wait_for_status("failed", seconds=LOST_AFTER + 20)
    assert re.search(r"stopped answering during stage \w+ of the propose phase; retry resumes", row["reason"])
    stack.sign_in()
    stack.post(f"/rounds/{uuid.UUID(row['id'])}/retry/")
    stack.wait_for_stage(*AT_WORK)


def test_both_workers(stack: Stack) -> None:
    """The watch itself comes back with its worker."""
    stack.wait_for_stage(*AT_WORK)
    stack.kill("-Q default")
    stack.kill("-Q gpu")
    stack.wait_for_status("failed", seconds=LOST_AFTER + 25)


def test_broker_under_a_running_phase(stack: Stack) -> None:
    """A running phase needs no broker, and the queues work again afterwards."""
    stack.wait_for_stage(*AT_WORK)
    before = stack.row("SELECT count(*) AS n FROM oversight_sample")["n"]
    stack.kill("valkey-server")
    wait_for(lambda: stack.row("SELECT count(*) AS n FROM oversight_sample")["n"] > before + 8, 30, stack.log)
    assert stack.row()["status"] == "proposing"
    stack.sign_in()
    stack.post(f"/rounds/{uuid.UUID(stack.row()['id'])}/cancel/")
    stack.wait_for_status("cancelled", seconds=10)
    wait_for(lambda: stack.browser.get("/health/ready").status_code == 200, 30)
    stack.post(f"/rounds/{uuid.UUID(stack.row()['id'])}/retry/")
    stack.wait_for_status("proposing", seconds=30)


def test_broker_with_a_message_in_it(stack: Stack) -> None:
    """The message is lost with the broker; the round is found in the database and its message sent again."""
    stack.wait_for_stage(*AT_WORK)
    stack.sign_in()
    stack.post(f"/rounds/{uuid.UUID(stack.row()['id'])}/cancel/")
    stack.wait_for_status("cancelled", seconds=10)
    worker = stack.find("-Q gpu")
    assert worker is not None
    worker.send_signal(signal.SIGSTOP)
    # A worker that was already waiting for a message would have it in its socket, and nothing would be lost: the
    # broker answers such a wait, empty, after a second.
    time.sleep(2)
    stack.post(f"/rounds/{uuid.UUID(stack.row()['id'])}/retry/")
    stack.wait_for_status("queued", seconds=5)
    stack.kill("valkey-server")
    wait_for(lambda: stack.output().count("broker was ended") == 1, 10, stack.output)
    worker.send_signal(signal.SIGCONT)
    stack.wait_for_status("proposing", seconds=55)
    assert "message was lost" in stack.log()


def test_cancel_within_ten_seconds(stack: Stack) -> None:
    stack.wait_for_stage(*AT_WORK)
    stack.sign_in()
    began = time.monotonic()
    stack.post(f"/rounds/{uuid.UUID(stack.row()['id'])}/cancel/")
    stack.wait_for_status("cancelled", seconds=10)
    assert time.monotonic() - began < 10
    assert stack.find(CHILD) is None


def test_an_acknowledged_review_survives_the_web_server(stack: Stack) -> None:
    wait_for(lambda: stack.row(WAITING)["n"], 40, stack.log)
    stack.sign_in()
    page = stack.browser.get("/review/")
    fields = {name: re.findall(f'name="{name}" value="([^"]*)"', page.text)[0] for name in ("token", "key")}
    stack.post("/review/submit/", page=page, action="approve", seconds="2", **fields)
    stack.kill("uvicorn")
    kept = stack.row("SELECT action, reviewer_id FROM oversight_review")
    assert kept["action"] == "approve"
    wait_for(lambda: "web was ended by SIGKILL" in stack.output(), 10)
    wait_for(lambda: answers(stack), 20)
    # The browser, which never knew, sends it once more: still one review.
    stack.post("/review/submit/", action="approve", seconds="2", **fields)
    assert stack.row("SELECT count(*) AS n FROM oversight_review")["n"] == 1


WEB, BROKER = "uvicorn", "valkey-server"


def test_nothing_of_the_workbench_is_lost_with_a_process(stack: Stack) -> None:
    """Web process, broker, both workers: each killed between an acknowledged judgement and the next request.

    One sample is shown and one fetched ahead all the while, as in a browser, and a draft is typed.
    """
    wait_for(lambda: stack.row(WAITING)["n"] > 8, 60, stack.log)
    stack.sign_in()
    shown = read_form(stack.browser.get("/review/"))
    ahead = read_form(stack.browser.get("/review/ahead/"))
    victims_in_turn = ((WEB,), (BROKER,), ("-Q default", "-Q gpu"), (WEB, BROKER))
    for judged, victims in enumerate(victims_in_turn, start=1):
        wait_for(lambda victims=victims: all(map(stack.find, victims)), 30, stack.output)  # since the time before
        answer = judge(stack, shown, ahead)
        kept = stack.row(f"SELECT holder_id, ahead FROM oversight_lease WHERE sample_id = '{ahead['sample']}'")  # noqa: S608
        assert kept["holder_id"] and not kept["ahead"]
        for victim in victims:
            stack.kill(victim)
        assert stack.row(REVIEWS) == {"n": judged, "people": 1}
        wait_for(lambda: answers(stack), 20, stack.output)
        # The browser, which may not have heard, sends it once more: the same judgement, and the same one ahead.
        again = judge(stack, shown, ahead)
        assert stack.row(REVIEWS) == {"n": judged, "people": 1}
        shown, ahead = ahead, read_form(again)
        assert ahead["sample"] == read_form(answer)["sample"]
        assert stack.row(HELD) == {"n": 2, "ahead": 1}
        assert read_form(stack.browser.get("/review/"))["sample"] == shown["sample"]
        ahead = read_form(stack.browser.get("/review/ahead/"))  # a page that was loaded anew asks for its own
        assert ahead["sample"] != shown["sample"]

    stack.post("/review/draft/", token=shown["token"], note="half a thought")
    stack.kill(WEB)
    wait_for(lambda: answers(stack), 20, stack.output)
    stack.browser.cookies.clear()  # another browser of the same person
    name = stack.row("SELECT username FROM oversight_user ORDER BY id LIMIT 1")["username"]
    link = stack.manage("invite", name, "--role", "operator", "--base-url", f"http://localhost:{stack.port}").split()[
        -1
    ]
    stack.post(link.split(str(stack.port))[-1], page=stack.browser.get(link))
    assert 'value="half a thought"' in stack.browser.get(f"/review/{uuid.UUID(shown['sample'])}/").text
    broken = "from oversight.services.audit import find_break; print(find_break())"
    assert stack.manage("shell", "-v", "0", "-c", broken).split()[-1] == "None"


def read_form(answer: httpx.Response) -> dict[str, str]:
    """The sample of a page, or the one that an answer brings ahead."""
    fields = {name: re.findall(f'name="{name}" value="([^"]*)"', answer.text)[0] for name in ("token", "key")}
    return fields | {"sample": uuid.UUID(re.findall(r'data-sample="([^"]*)"', answer.text)[0]).hex}


def judge(stack: Stack, shown: dict[str, str], ahead: dict[str, str]) -> httpx.Response:
    """As the page does in the background, where the sample that was ahead shows already."""
    sent = {"token": shown["token"], "key": shown["key"], "shown": ahead["token"]}
    return stack.post("/review/submit/", action="approve", seconds="2", **sent)


def answers(stack: Stack) -> bool:
    try:
        return stack.browser.get("/health/live").status_code == 200
    except Exception:  # noqa: BLE001 - it is just starting
        return False


def test_a_second_start_takes_an_interrupted_round_up(stack: Stack) -> None:
    stack.wait_for_stage(*AT_WORK)
    child = stack.find(CHILD)
    stack.stop()
    assert child is not None and not child.is_running()
    assert stack.row()["status"] == "proposing"
    samples = stack.row("SELECT count(*) AS n FROM oversight_sample")["n"]
    stack.start()
    wait_for(lambda: "goes on with its propose phase" in stack.output(), 30, stack.output)
    wait_for(lambda: stack.row("SELECT count(*) AS n FROM oversight_sample")["n"] > samples, 40, stack.log)
    assert "Oversight was stopped during stage" in stack.log()
    assert stack.row()["attempt"] == 2
