"""Processes that end together: how children are tied to the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1

# Runs in the child before the command: a `preexec_fn` may deadlock where the parent has threads.
# Arguments: parent's process id, signal, niceness, command.
TIE = """
import ctypes, os, sys
parent, number, niceness = map(int, sys.argv[1:4])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, number)
if os.getppid() != parent:
    sys.exit("the process that asked for this one is gone")
os.nice(niceness)
os.execv(sys.argv[4], sys.argv[4:])
"""


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Asks the kernel to send this process signal `number` when its parent dies, even by kill -9.

    Linux only. Elsewhere a child may outlive its worker; the round's attempt number fences it out.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def start_tied(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes],
    cwd: Path,
    number: int = signal.SIGKILL,
    niceness: int = 0,
) -> subprocess.Popen[bytes]:
    """Starts `command` (an absolute path first) in a session of its own; it gets `number` when this process dies."""
    tied = [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), str(int(number)), str(niceness), *command]
    return subprocess.Popen(
        tied, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, start_new_session=True
    )


def signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Sends `number` to all of the process's group; False where none of it is left."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers "permission" for a group of zombies
        return False
    return True


def stop_group(process: subprocess.Popen[bytes], *, patience: float) -> None:
    """SIGTERM, then after `patience` seconds SIGKILL, for the process and all that it started."""
    signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    signal_group(process, signal.SIGKILL)
    process.wait()
