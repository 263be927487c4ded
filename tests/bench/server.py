"""The product as `make run` starts it, on a filled database of its own: SQLite in its folder, or PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import psutil

from oversight.startup import free_port

ROOT = Path(__file__).parents[2]
KEY = "for-the-benchmark-only-" + "x" * 40
LONGEST_START = 90  # seconds
RAISED = re.compile(r"[\w.]+(Error|Exception|Warning): ")
POSTGRES = os.environ.get("BENCH_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")


class Server:
    """A database of `samples` samples, and the processes that serve it while the `with` block lasts."""

    def __init__(self, folder: Path, database: str, samples: int) -> None:
        self.database, self.samples, self.port = database, samples, free_port()
        self.folder = folder / f"{database}-{samples}"
        self.process: subprocess.Popen[bytes] | None = None
        self.read_to = 0  # of the web process's log
        self.filled: dict[str, Any] = {}
        self.sessions: dict[str, str] = {}  # user name -> session key
        dropped = ("DATABASE_URL", "REDIS_URL", "DEBUG", "OVERSIGHT_TEST_VAR")
        self.env = {key: value for key, value in os.environ.items() if key not in dropped} | {
            "OVERSIGHT_VAR": str(self.folder), "OVERSIGHT_PROFILE": "tiny", "PORT": str(self.port), "SECRET_KEY": KEY,
            "DJANGO_SETTINGS_MODULE": "oversight.settings", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        if database == "postgresql":
            self.name = f"oversight_bench_{samples}"
            self.env["DATABASE_URL"] = POSTGRES.rpartition("/")[0] + f"/{self.name}"

    def fill(self) -> dict[str, Any]:
        """Makes the database anew. Minutes for a million samples."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.database == "postgresql":
            recreate_database(self.name)
        else:
            for file in self.folder.glob("oversight.sqlite3*"):
                file.unlink()
        return self.run("tests.bench.fill", str(self.samples))

    def find_filled(self) -> dict[str, Any]:
        """What is known of a database that an earlier run kept."""
        return {"samples": self.samples, "seconds": 0.0, "kept": True}

    def run(self, module: str, *arguments: str, stdin: str = "") -> Any:
        """What a module prints as its last line of JSON, run with this server's settings."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-2000:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def __enter__(self) -> Self:
        out = self.folder / "out"
        with out.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "oversight.supervisor"], cwd=ROOT, env=self.env, stdout=output, stderr=output
            )
        deadline = time.monotonic() + LONGEST_START
        while "ready after" not in out.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the server of {self.folder.name} did not start: {out.read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None

    def count_seconds(self) -> float:
        """Processor seconds that the web processes have used so far: what a busy machine does not stretch."""
        assert self.process is not None
        used = 0.0
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "uvicorn" in " ".join(child.cmdline()):
                times = child.cpu_times()
                used += times.user + times.system
        return used

    def read_errors(self) -> list[str]:
        """What the web process logged since the last call: lines of level ERROR, and the ends of tracebacks."""
        path = self.folder / "log" / "web.log"
        with path.open(errors="replace") as log:
            log.seek(self.read_to)
            lines = log.read().splitlines()
            self.read_to = log.tell()
        return [line for line in lines if " ERROR " in line or RAISED.match(line)]

    def drop(self) -> None:
        if self.database == "postgresql":
            recreate_database(self.name, only_drop=True)


def postgres_answers() -> bool:
    import psycopg

    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.Error:
        return False
    return True


def recreate_database(name: str, *, only_drop: bool = False) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        if not only_drop:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
