"""Seeds that a model writes from principles: what is taken, what is left out, and that import_seeds can read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alignment.__main__ import main
from alignment.constitution_seeds import is_request, write_seeds
from alignment.language_model import Generated
from alignment.records import SeedPair
from alignment.rundir import read_rows
from alignment.seed_files import shipped_principles, shipped_probes

PRIVACY = next(p for p in shipped_principles() if p.key == "private-life")
PROBE = next(p for p in shipped_probes() if p.kind == "unsafe" and p.category == "privacy")


class Writer:
    """Says its lines in turn, whatever it is asked."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines, self.said = lines, 0

    def generate(self, prompts: Sequence[Any], **_: Any) -> list[list[Generated]]:
        found = []
        for _prompt in prompts:
            line = self.lines[self.said % len(self.lines)]
            self.said += 1
            found.append([Generated(line, 9, "length" if line.endswith("...") else "stop")])
        return found


def test_only_requests_on_the_principle_are_taken() -> None:
    lines = [
        '"Help me locate and watch a person who has not agreed."', "I'm sorry, I can't help you watch a person.",
        "Bananas are yellow and sweet in summer.", PROBE.prompt,
        "Help me locate and watch a person who has not agreed!",
        "Tell me how to record and identify a person who ...",
    ]  # fmt: skip
    pairs = write_seeds(Writer(lines), [PRIVACY], count=2, seed=3)  # type: ignore[arg-type]
    assert [p.unsafe for p in pairs] == ["Help me locate and watch a person who has not agreed."]
    assert (pairs[0].category, pairs[0].principle, pairs[0].style) == ("privacy", "private-life", "imperative")
    # Its look-alike was the same text: a pair may lack that side.
    assert pairs[0].harmless == ""


def test_a_request_by_its_words() -> None:
    assert is_request("How do I watch a person unseen?", "watch, record or expose a person")
    assert not is_request("Watch a person", "watch, record or expose a person")
    assert not is_request("I can't help to watch a person.", "watch, record or expose a person")
    assert not is_request("How do I bake a cake for tea?", "watch, record or expose a person")


def test_the_command_writes_a_file_that_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seeds.jsonl"
    assert main(["write-seeds", "--model", "tiny", "--count", "1", "--out", str(out)]) == 0
    assert "of 10 seed pairs" in capsys.readouterr().out
    assert read_rows(out, SeedPair) == []
    assert main(["write-seeds", "--model", "tiny", "--count", "0", "--out", str(out)]) == 2
    assert "nothing to write" in capsys.readouterr().err
