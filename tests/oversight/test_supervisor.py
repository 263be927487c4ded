"""`make run`'s processes: up in seconds, started again when they end, all gone at the end."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.oversight.stack import Stack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    """Even kill -9 of the supervisor: the kernel ends its children."""
    stack = Stack(tmp_path).start()
    wait_for(lambda: "is launched" in stack.output(), 30, stack.output)
    family = stack.family()
    assert len(family) >= 6  # broker, web, two workers, their pool and scheduler processes
    stack.stop(number)
    wait_for(lambda: not any(map(alive, family)), 10, lambda: str([p.cmdline() for p in family if alive(p)]))
    if number != signal.SIGKILL:
        assert "stopped" in stack.output()
        assert not (stack.var / "redis.url").exists()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_first_start_second_start_and_children_that_end(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    began = time.monotonic()
    with stack:
        assert time.monotonic() - began < 40  # 10 on a machine that does nothing else, 25 on a busy slow one
        assert len(re.findall(r"/sign-in/\S+", stack.output())) == 1
        assert stack.row("SELECT name FROM oversight_experiment")["name"] == "Laptop demo"
        for name in ("oversight.sqlite3", "log/web.log"):
            assert (stack.var / name).stat().st_mode & 0o077 == 0, name
        wait_for(lambda: ready(stack) == [], 30, stack.output)
        stack.sign_in()
        assert stack.browser.get("/review/").status_code == 200
        assert "admin" in stack.browser.get("/admin/").text
        assert stack.browser.get("/static/css/oversight.css").status_code == 200
        for words in ("uvicorn", "valkey-server", "-Q gpu", "-Q default"):
            killed = stack.kill(words)
            wait_for(lambda killed=killed, words=words: other(stack, words, killed), 15, stack.output)
        wait_for(lambda: ready(stack) == [], 40, stack.output)
        assert "was ended by SIGKILL; started again" in stack.output()
    began = time.monotonic()
    with stack:
        assert time.monotonic() - began < 12
        assert stack.row("SELECT count(*) AS n FROM oversight_round")["n"] == 1


def other(stack: Stack, words: str, killed: psutil.Process) -> bool:
    found = stack.find(words)
    return found is not None and found.pid != killed.pid


def ready(stack: Stack) -> list[str] | None:
    """What /health/ready misses; None where no page answers."""
    try:
        return list(httpx.get(f"http://localhost:{stack.port}/health/ready", timeout=10).json()["missing"])
    except httpx.HTTPError:
        return None
