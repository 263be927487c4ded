"""The contrast rows: what they point at, and which part of the adapter a round may move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from alignment.config import RoundConfig
from alignment.contrast import _discriminants, is_reader, set_contrast_rows
from alignment.language_model import LanguageModel
from alignment.learner import ATTENTION_AND_MLP, train_adapter
from alignment.records import Pair

UNSAFE = [f"harm number {i} to somebody" for i in range(12)]
HARMLESS = [f"bake a cake of {i} eggs" for i in range(12)]
PAIRS = [Pair(p, "No.", "Yes.", 1.0, "unsafe", "s") for p in UNSAFE]
PAIRS += [Pair(p, "Yes.", "No.", 1.0, "harmless", "s") for p in HARMLESS]


def config(**changes: object) -> RoundConfig:
    settings = {"profile": "tiny", "sft_steps": 3, "preference_steps": 1, "batch": 4, "contrast_rows": 2, **changes}
    return RoundConfig(round_id="", **settings)  # type: ignore[arg-type]


def columns(folder: Path) -> tuple[float, float]:
    """Largest weight of B in the contrast columns of readers, and anywhere else."""
    contrast, rest = 0.0, 0.0
    for name, weight in load_file(folder / "adapter_model.safetensors").items():
        if "lora_B" not in name:
            continue
        if is_reader(name.removesuffix(".lora_B.weight"), 4):
            contrast = max(contrast, float(np.abs(weight[:, :2]).max()))
            weight = weight[:, 2:]
        rest = max(rest, float(np.abs(weight).max()))
    return contrast, rest


def test_a_discriminant_separates_and_changes_its_sign_at_the_line() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)) + 5.0  # far from zero, as hidden states are
    truth = np.arange(400) % 2 == 0
    x[truth, 0] += 3.0
    rows = _discriminants(x, truth, rows=3, seed=0)
    along = x @ rows.T
    assert rows.shape == (3, 6)
    assert (along[truth] > 0).mean() > 0.6
    assert (along[~truth] < 0).mean() > 0.95


def test_readers_are_the_upper_modules_that_read_the_residual_stream() -> None:
    assert is_reader("base_model.model.model.layers.12.self_attn.q_proj", 30)
    assert not is_reader("base_model.model.model.layers.9.self_attn.q_proj", 30)
    assert not is_reader("base_model.model.model.layers.12.self_attn.o_proj", 30)


def test_setting_the_rows_leaves_the_answers_as_they_were() -> None:
    from peft import LoraConfig, get_peft_model

    model = LanguageModel.load("tiny")
    options = {"max_new_tokens": 8, "temperature": 0.0, "seed": 0}
    before = model.generate(["hello"], **options)  # type: ignore[arg-type]
    peft_model = get_peft_model(model.model, LoraConfig(r=4, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM"))
    assert set_contrast_rows(model, peft_model, UNSAFE, HARMLESS, rows=2, seed=0) == 3 * 5
    assert set_contrast_rows(model, peft_model, UNSAFE[:3], HARMLESS, rows=2, seed=0) == 0
    model.model = peft_model
    assert model.generate(["hello"], **options) == before  # type: ignore[arg-type]


def test_a_conformity_round_moves_all_and_a_competence_round_spares_the_contrast_columns(tmp_path: Path) -> None:
    first, second = tmp_path / "first" / "adapter", tmp_path / "second" / "adapter"
    train_adapter(config(), LanguageModel.load("tiny"), PAIRS, first, contrast=(UNSAFE, HARMLESS))
    contrast, rest = columns(first)
    assert contrast > 0
    assert rest > 0
    again = LanguageModel.load("tiny", adapter=first)
    train_adapter(config(objective="competence"), again, PAIRS, second)
    assert columns(second)[0] == pytest.approx(contrast, abs=1e-7)
    assert columns(second)[1] != pytest.approx(rest)
