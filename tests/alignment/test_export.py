"""A checkpoint leaves its run folder: the adapter as it is, merged into its base model, with a card that is valid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment.__main__ import main
from alignment.config import RoundConfig
from alignment.export import export
from alignment.language_model import LanguageModel
from alignment.model_card import Lineage, name_model, read_lineage, read_metrics, render_card
from alignment.records import Metric, Pair, SeedPair
from alignment.rundir import RunDir, write_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A learn phase's end: an adapter with weights that change the tiny model's answers, and the files around it."""
    import torch
    from peft import LoraConfig, get_peft_model

    run = RunDir(tmp_path_factory.mktemp("run"))
    run.create(RoundConfig(round_id="r-1", number=2, profile="tiny", objective="competence", seed=7))
    adapted = get_peft_model(
        LanguageModel.load("tiny").model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(str(run.learn / "adapter"))
    (run.learn / "gate.json").write_text(json.dumps({"accepted": False, "reasons": ["Rolled back: a | check failed."]}))
    pair = Pair(prompt="p", chosen="c", rejected=None, weight=1.0, kind="unsafe", source="human")
    write_rows(run.learn / "pairs.jsonl", [pair, pair, Pair("p", "c", "r", 1.0, "harmless", "replay")])
    write_rows(run.inputs / "seeds.jsonl", [SeedPair("s", "privacy", "k", "question", 1, "u", "h")])
    write_rows(
        run.learn / "metrics.jsonl",
        [Metric("attack_success", 0.5, 0.4, 0.6, 60, 7, model="old"),
         Metric("attack_success", 0.25, 0.15, 0.35, 60, 7, model="new"),
         Metric("competence", None, None, None, 0, 7, reason="nothing asked", model="new")],
    )  # fmt: skip
    run.write_manifest({"phase": "learn"})
    return run


def read_logits(name: str, adapter: Path | str = "") -> Any:
    import torch

    model = LanguageModel.load(name, adapter=adapter)
    with torch.no_grad():
        return model.model(torch.tensor([[1, 20, 30, 40]])).logits


def test_merged_answers_as_the_pair_does(run: RunDir, tmp_path: Path) -> None:
    import torch

    said: list[tuple[int, int, str]] = []
    export(run, tmp_path / "out", merged=True, say=lambda *step: said.append(step))
    pair, merged = read_logits("tiny", run.learn / "adapter"), read_logits(str(tmp_path / "out"))
    torch.testing.assert_close(merged, pair, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged, read_logits("tiny"), atol=0.01), "the adapter changes something"
    assert [done for done, _, _ in said] == [0, 1, 2, 3] and {total for _, total, _ in said} == {3}
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= files
    assert not any(name.startswith("adapter") or name.endswith(".bin") for name in files)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_the_adapter_by_the_command(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run-dir", str(run.path), "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"done": 3, "total": 3, "words": "done"}
    same = tmp_path / "out" / "adapter_model.safetensors"
    assert same.read_bytes() == (run.learn / "adapter" / "adapter_model.safetensors").read_bytes()
    assert {path.name for path in same.parent.iterdir()} == {same.name, "adapter_config.json", "README.md"}


def test_what_can_not_be_exported_is_named(run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    assert main(["export", "--run-dir", str(run.path), "--out", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", "--run-dir", str(tmp_path / "full"), "--out", str(tmp_path / "new")]) == 2
    assert "has no adapter_model.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not (tmp_path / "full" / "events.jsonl").exists()


def test_the_lineage(run: RunDir) -> None:
    found = read_lineage(run)
    assert (found.round, found.objective, found.accepted, found.started_from) == (2, "competence", False, "base")
    counts = [(row["source"], row["kind"], row["n"]) for row in found.pairs]
    assert counts == [("human", "unsafe", 2), ("replay", "harmless", 1)]
    assert (found.seeds, found.labels, found.reviewers) == (1, 0, None)
    assert "torch" in found.versions and Lineage.from_json(found.to_json()) == found


def read_header(card: str) -> dict[str, object]:
    return dict(yaml.safe_load(card.split("---\n", 2)[1]))


def test_the_card(run: RunDir) -> None:
    card = render_card(read_lineage(run), read_metrics(run), merged=False)
    assert read_header(card)["library_name"] == "peft" and read_header(card)["base_model"] == "tiny"
    assert "| attack success, by judge | 0.50 (0.40 to 0.60) | 0.25 (0.15 to 0.35) | 60 | less |" in card
    assert "| tasks solved, checked by program | not computable | not computable | 0 | more |" in card
    assert "do not deploy" in card and "- Rolled back: a \\| check failed." in card
    merged = render_card(read_lineage(run), [], merged=True, notes=["3 labels were withdrawn"])
    assert read_header(merged)["library_name"] == "transformers" and "- 3 labels were withdrawn" in merged
    assert "Nothing was measured." in merged


def test_hostile_names_stay_values(run: RunDir) -> None:
    evil = 'x"\n---\nlicense: mit <script>alert(1)</script>'
    lineage = Lineage(**{**vars(read_lineage(run)), "base_model": evil, "constitution": "| a | b |", "reasons": [evil]})
    card = render_card(lineage, [], merged=False)
    assert read_header(card)["base_model"] == evil and "license" not in read_header(card)
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body and "\\<script\\>" in body and "\\| a \\| b \\|" in body


def test_a_folder_gives_its_last_part_only(tmp_path: Path) -> None:
    assert name_model(str(tmp_path / "SmolLM2")) == "SmolLM2"
    assert name_model("owner/model") == "owner/model" and name_model("tiny") == "tiny"
