"""Who may import whom, and what the web process must never load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "sklearn", "scipy", "datasets")


def test_import_contracts() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["oversight.asgi", "oversight.urls", "oversight.tasks", "oversight.runner"])
def test_the_server_never_loads_torch(module: str) -> None:
    """In a process of its own: the tests themselves have torch loaded."""
    code = (
        "import os, sys, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "django.setup()\n"
        f"import {module}\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_model_is_loaded_with_code_or_pickle() -> None:
    """Checkpoints are safetensors and no model brings code of its own."""
    for path in [*ROOT.glob("alignment/**/*.py"), *ROOT.glob("oversight/**/*.py")]:
        text = path.read_text()
        for word in ("pickle.load", "trust_remote_code=True", "weights_only=False", "joblib.load"):
            assert word not in text, f"{path}: {word}"
