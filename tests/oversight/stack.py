"""The real processes of one machine on the tiny profile, each stack in a folder and on a port of its own."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from oversight.startup import free_port

ROOT = Path(__file__).parents[2]
LOST_AFTER = 12  # seconds; the product's own is 40


class Stack:
    """`make run` without the installation. `settings` are RoundConfig fields of the demo experiment."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.var, self.port = folder / "var", free_port()
        kept = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL", "DEBUG")}
        self.env = {
            **kept,
            "OVERSIGHT_VAR": str(self.var),
            "OVERSIGHT_PROFILE": "tiny",
            "OVERSIGHT_LOST_AFTER_SECONDS": str(LOST_AFTER),
            "OMP_NUM_THREADS": "1",
            "PORT": str(self.port),
            "SECRET_KEY": "for-tests-only-" + "x" * 40,
            "DJANGO_SETTINGS_MODULE": "oversight.settings",
        }
        self.out = folder / "out"
        self.process: subprocess.Popen[bytes] | None = None
        self.browser = httpx.Client(base_url=f"http://localhost:{self.port}", follow_redirects=True, timeout=20)
        self.var.mkdir(parents=True)
        if settings:
            code = (
                "from django.core.management import call_command\n"
                "from oversight.models import Experiment\n"
                "call_command('migrate', verbosity=0)\n"
                "call_command('prepare_demo')\n"
                f"Experiment.objects.update(settings={settings!r})"
            )
            self.manage("shell", "-v", "0", "-c", code)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, check=True, capture_output=True, text=True).stdout

    def start(self) -> Stack:
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "oversight.supervisor"], cwd=ROOT, env=self.env, stdout=out, stderr=out
            )
        wait_for(lambda: "sign in as" in self.output() or self.process.poll() is not None, 40)
        assert self.process.poll() is None, self.output()
        return self

    def output(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self.stop()

    # What runs

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, words: str) -> psutil.Process | None:
        """The eldest process of the stack whose command holds `words`."""
        for process in self.family():
            try:
                if words in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def kill(self, words: str) -> psutil.Process:
        process = self.find(words)
        assert process is not None, f"no process {words}"
        process.send_signal(signal.SIGKILL)
        return process

    # What the database holds

    def row(self, query: str = "SELECT * FROM oversight_round ORDER BY number DESC LIMIT 1") -> dict[str, Any]:
        connection = sqlite3.connect(f"file:{self.var / 'oversight.sqlite3'}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            found = connection.execute(query).fetchone()
        finally:
            connection.close()
        return dict(found) if found else {}

    def log(self) -> str:
        return str(self.row("SELECT group_concat(text, char(10)) AS text FROM oversight_logline")["text"])

    def wait_for_status(self, *statuses: str, seconds: float = 40) -> dict[str, Any]:
        wait_for(lambda: self.row().get("status") in statuses, seconds, lambda: f"{self.row()}\n{self.output()}")
        return self.row()

    def wait_for_stage(self, *stages: str, seconds: float = 40) -> dict[str, Any]:
        wait_for(lambda: self.row().get("stage") in stages, seconds, lambda: f"{self.row()}\n{self.output()}")
        return self.row()

    # What people do

    def sign_in(self) -> None:
        link = re.findall(r"http://\S+/sign-in/\S+", self.output())[-1]
        page = self.browser.get(link)
        self.post(link.removeprefix(str(self.browser.base_url).rstrip("/")), page=page)

    def post(self, path: str, *, page: httpx.Response | None = None, **fields: str) -> httpx.Response:
        page = page or self.browser.get("/")
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
        answer = self.browser.post(path, data={"csrfmiddlewaretoken": token, **fields})
        assert answer.status_code < 400, f"{path}: {answer.status_code}"
        return answer


def wait_for(ready: Callable[[], object], seconds: float, words: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds} s: {words()}"
        time.sleep(0.1)
