"""`make run`: starts every process that Oversight needs on one machine, keeps them up, and stops them all.

Valkey (unless REDIS_URL names a broker), one ASGI server, a worker for the queue `gpu`, one for `default`
with the scheduler. Each writes to var/log/<name>.log. A child that ends is started again with a growing
pause; one that outlives a killed supervisor is ended by the kernel (see processes.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from oversight import startup
from oversight.processes import signal_group, start_tied
from oversight.startup import CannotStart

BASE_DIR = Path(__file__).resolve().parent.parent
GRACE = 4.0  # seconds between SIGTERM and SIGKILL at the end
LONGEST_PAUSE = 30.0  # seconds before a child that keeps ending is started again
STEADY = 60.0  # seconds up after which earlier ends no longer count
CELERY = ("-m", "celery", "-A", "oversight", "worker", "--without-gossip", "--without-mingle", "--loglevel", "INFO")


@dataclass
class Child:
    name: str
    command: list[str]
    log: Path
    ends: int = 0  # in a row, without a steady time between
    started: float = 0.0
    due: float = 0.0  # not started again before this time
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = start_tied(self.command, env=os.environ, output=output, cwd=BASE_DIR)
        self.started = time.monotonic()

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def note_end(self) -> str:
        """Counts an end, clears away what the child left, and says what happened."""
        assert self.process is not None
        signal_group(self.process, signal.SIGKILL)
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self.ends = 1 if time.monotonic() - self.started > STEADY else self.ends + 1
        pause = min(LONGEST_PAUSE, 0.25 * 2 ** (self.ends - 1))
        self.due, self.process = time.monotonic() + pause, None
        return f"{self.name} {how}; started again in {pause:g} s (see {self.log})"

    def last_words(self) -> str:
        try:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except FileNotFoundError:
            return ""
        return lines[-1][:300] if lines else ""


class Supervisor:
    def __init__(self, var: Path, host: str, port: int) -> None:
        self.var, self.host, self.port = var, host, port
        self.children: list[Child] = []
        self.stopping = False

    def add(self, name: str, *command: str) -> Child:
        child = Child(name, list(command), self.var / "log" / f"{name}.log")
        self.children.append(child)
        child.start()
        return child

    def ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def tend(self) -> None:
        """Starts again what has ended. Called a few times a second."""
        for child in self.children:
            if child.ended():
                say(child.note_end())
            elif child.process is None and time.monotonic() >= child.due:
                child.start()

    def stop(self) -> None:
        """Ends every process, and every process these have started, the broker last."""
        family = psutil.Process().children(recursive=True)
        brokers = [c for c in self.children if c.name == "broker"]
        others = [c for c in self.children if c.name != "broker"]
        for group in (others, brokers):
            for child in group:
                if child.process is not None:
                    signal_group(child.process, signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            while time.monotonic() < deadline and any(c.process and c.process.poll() is None for c in group):
                time.sleep(0.05)
            for child in group:
                if child.process is not None:
                    signal_group(child.process, signal.SIGKILL)
                    child.process.wait()
        # Phases live in sessions of their own.
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def say(text: str) -> None:
    print(f"oversight: {text}", flush=True)


def main() -> None:
    try:
        run()
    except CannotStart as error:
        startup.stop_with(error)


def run() -> None:
    began = time.monotonic()
    var = Path(os.environ.get("OVERSIGHT_VAR") or BASE_DIR / "var").absolute()
    host, port = os.environ.get("OVERSIGHT_HOST", "127.0.0.1"), startup.read_port(os.environ.get("PORT", "8000"))
    os.umask(0o077)  # database, logs and run folders are for the account that runs Oversight alone
    startup.open_folder(var)
    lock = startup.lock_folder(var)  # held until this process ends
    startup.check_port(host, port)
    startup.keep_secret_key(var)
    os.environ["OVERSIGHT_VAR"] = str(var)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oversight.settings")
    supervisor = Supervisor(var, host, port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.ask_to_stop)
    try:
        _start(supervisor, began)
        while not supervisor.stopping:
            supervisor.tend()
            time.sleep(0.2)
        say("stopping")
    finally:
        supervisor.stop()
        if "REDIS_URL" not in os.environ:
            (var / "redis.url").unlink(missing_ok=True)
        lock.close()
    say("stopped")


def _start(supervisor: Supervisor, began: float) -> None:
    """Broker, database, then all processes at once; the rest happens while these load."""
    embedded = not os.environ.get("REDIS_URL")
    if embedded:
        supervisor.add("broker", *startup.broker_command(supervisor.var))
    import django

    django.setup()
    from django.conf import settings

    from oversight.services import demo

    startup.wait_for_broker(settings.REDIS_URL)
    startup.prepare_database()
    # With a broker of its own this is the only machine: whatever is marked as running was interrupted.
    interrupted = demo.fail_interrupted_rounds() if embedded else []
    startup.collect_static()
    web = _start_processes(supervisor)
    demo.make_demo()
    base_url = f"http://{'localhost' if supervisor.host in ('127.0.0.1', '0.0.0.0') else supervisor.host}"  # noqa: S104
    base_url += f":{supervisor.port}"
    _wait_for_page(supervisor, web, base_url)
    if supervisor.stopping:
        return
    say(f"ready after {time.monotonic() - began:.1f} s; logs are in {supervisor.var / 'log'}; Ctrl-C stops everything")
    say(f"sign in as {demo.ADMIN} (once, within a day): {demo.admin_link(base_url)}")
    while not supervisor.stopping and not demo.workers_listen():
        supervisor.tend()
        time.sleep(0.3)
    for line in demo.take_up(interrupted) if not supervisor.stopping else []:
        say(line)


def _start_processes(supervisor: Supervisor) -> Child:
    web = supervisor.add(
        "web", sys.executable, "-m", "uvicorn", "oversight.asgi:application",
        "--host", supervisor.host, "--port", str(supervisor.port), "--lifespan", "off", "--ws", "websockets-sansio",
        # The address of a sign-in link is a secret: no access log.
        "--no-access-log", "--timeout-graceful-shutdown", "2", "--timeout-keep-alive", "75",
    )  # fmt: skip
    supervisor.add(
        "worker-gpu", sys.executable, *CELERY, "-Q", "gpu", "-n", "gpu@%h", "--pool", "prefork",
        "--concurrency", "1", "--max-tasks-per-child", "1",
    )  # fmt: skip
    supervisor.add(
        "worker-default", sys.executable, *CELERY, "-Q", "default", "-n", "default@%h", "--pool", "solo",
        "-B", "-s", str(supervisor.var / "schedule"),
    )  # fmt: skip
    return web


def _wait_for_page(supervisor: Supervisor, web: Child, base_url: str) -> None:
    deadline = time.monotonic() + 60
    while not supervisor.stopping:
        supervisor.tend()
        try:
            with urllib.request.urlopen(f"{base_url}/health/live", timeout=2):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError) as error:
            if web.ends >= 3 or time.monotonic() > deadline:
                said = f"{web.last_words()}; see {web.log}"
                raise CannotStart(f"the web server does not answer ({error}): {said}") from error
        time.sleep(0.1)


if __name__ == "__main__":
    main()
