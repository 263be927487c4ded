"""A start that can't succeed says why in one line, and leaves nothing running."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oversight import startup
from oversight.startup import CannotStart, free_port

ROOT = Path(__file__).parents[2]


def start(var: Path, **environment: str) -> str:
    """Everything that a failing start prints; it must fail by itself."""
    unset = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "DJANGO_SETTINGS_MODULE")
    env = {key: value for key, value in os.environ.items() if key not in unset}
    env |= {"OVERSIGHT_VAR": str(var), "OVERSIGHT_PROFILE": "tiny", "PORT": str(free_port()), **environment}
    command = [sys.executable, "-m", "oversight.supervisor"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("oversight: ")
    return lines[0]


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = start(tmp_path, PORT=str(port))
    assert f"port {port}" in line and "PORT=8001 make run" in line


@pytest.mark.parametrize("port", ["http", "0", "70000"])
def test_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    assert f"PORT is {port!r}" in start(tmp_path, PORT=port)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in start(tmp_path / "file" / "var")


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5_000_000})
    monkeypatch.setattr(startup.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CannotStart, match=r"5 MB free; 1000 MB are needed: make room"):
        startup.open_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REDIS_URL", "http://here", "REDIS_URL is 'http://here'"),
        ("REDIS_URL", "redis://:secret@127.0.0.1:1/0", "the broker at 127.0.0.1:1/0 does not answer"),
        ("DATABASE_URL", "postgres://me@127.0.0.1:1/x", "the database 127.0.0.1 cannot be prepared"),
        ("DATABASE_URL", "nonsense://x", "DATABASE_URL cannot be read"),
        ("OVERSIGHT_PROFILE", "huge", "OVERSIGHT_PROFILE is 'huge'"),
    ],
)
def test_a_bad_setting(tmp_path: Path, name: str, value: str, words: str) -> None:
    line = start(tmp_path, **{name: value})
    assert words in line
    assert "secret" not in line


def test_two_starts_in_one_folder(tmp_path: Path) -> None:
    startup.open_folder(tmp_path)
    with startup.lock_folder(tmp_path):
        assert f"already runs in {tmp_path} (process {os.getpid()})" in start(tmp_path)


def test_the_secret_key_is_made_once_for_its_owner(tmp_path: Path) -> None:
    startup.keep_secret_key(tmp_path)
    first = (tmp_path / "secret.key").read_text()
    startup.keep_secret_key(tmp_path)
    assert (tmp_path / "secret.key").read_text() == first
    assert len(first) > 50
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_the_broker_asks_for_a_password(tmp_path: Path) -> None:
    startup.open_folder(tmp_path)
    startup.broker_command(tmp_path)
    for name in ("redis.url", "valkey/valkey.conf"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert "requirepass" in (tmp_path / "valkey" / "valkey.conf").read_text()
    assert (tmp_path / "redis.url").read_text().startswith("redis://:")


def test_production_refuses_to_start_without_a_key(tmp_path: Path) -> None:
    unset = ("SECRET_KEY", "DEBUG", "DJANGO_SETTINGS_MODULE")
    env = {key: value for key, value in os.environ.items() if key not in unset} | {"OVERSIGHT_VAR": str(tmp_path)}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("oversight: SECRET_KEY is not set")
