"""Trains the learner: a LoRA adapter, supervised on what should be said, then a preference term. Needs torch.

TRL does the training; this module decides what it sees and writes safetensors only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alignment.config import Objective, RoundConfig
from alignment.contrast import set_contrast_rows, spare_contrast
from alignment.language_model import LanguageModel
from alignment.preference import train_preferences, usable_pairs
from alignment.records import Pair, SeedPair
from alignment.strength import choose_strength, trainable
from alignment.training import draw_batches

ATTENTION_AND_MLP = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Of a task's answer, whose first tokens cost several nats, against the decision to decline.
TASK_WEIGHT: dict[Objective, float] = {"conformity": 0.5, "competence": 1.0, "joint": 0.7}
FIRM = 3.0  # times `answer_weight`, in a competence round: too few anchors a batch for the weight to find its height


def train_adapter(
    config: RoundConfig,
    model: LanguageModel,
    pairs: list[Pair],
    out: Path,
    *,
    contrast: tuple[list[str], list[str]] = ([], []),
    held_back: Sequence[SeedPair] = (),
    on_step: Callable[[int, int, dict[str, float]], None] = lambda done, total, metrics: None,
) -> dict[str, float]:
    """Trains an adapter on `model` (which may carry one already, then that one goes on) and saves it to `out`.

    Two runs one after the other: `sft_steps` on what should be said and kept (`supervised.py`), then
    `preference_steps` on the pairs that have a rejected answer (`preference.py`). `contrast` holds unsafe and
    harmless prompts that tell the two kinds apart (`contrast.py`). `held_back` pairs decide how far the result goes
    (`strength.py`); without any it goes all the way. Returns the last losses, and what was found on `held_back`.
    """
    if not pairs:
        raise ValueError("there is nothing to train on: no pair came out of the labels")
    from alignment.supervised import make_rows, opening_token, train_supervised

    drawn = draw_batches(
        [p for p in pairs if p.chosen or not p.rejected], count=config.sft_steps * config.batch, seed=config.seed
    )
    total = config.sft_steps + (config.preference_steps if usable_pairs(config, pairs) else 0)
    rate = config.general_learning_rate if config.objective == "competence" else config.learning_rate
    scratch = out.parent / "trainer"
    peft_model = _adapter_model(config, model, contrast)
    start = trainable(peft_model)
    losses: dict[str, float] = {}
    tokenizer = model.tokenizer
    tokenizer.padding_side = "right"
    try:
        weight = TASK_WEIGHT[config.objective]
        rows = make_rows(model, drawn, answer_tokens=config.answer_tokens, task_weight=weight)
        anchor_weight = config.answer_weight * (FIRM if config.objective == "competence" else 1.0)
        losses |= train_supervised(
            peft_model, rows, pad=tokenizer.pad_token_id, opening=opening_token(model),
            anchor_weight=anchor_weight, limit=config.over_refusal_limit, rate=rate, batch=config.batch,
            seed=config.seed, scratch=scratch, on_step=lambda step, loss: on_step(step, total, {"loss": loss}),
        )  # fmt: skip
        losses |= train_preferences(
            config, model, peft_model, pairs, steps=config.preference_steps, rate=rate / 5,
            on_step=lambda step, loss: on_step(config.sft_steps + step, total, {"loss": loss}),
        )  # fmt: skip
        peft_model.eval()
        if held_back:
            found = choose_strength(
                model, peft_model, start, held_back, limit=config.over_refusal_limit,
                competence=config.objective == "competence",
            )  # fmt: skip
            losses |= {
                "strength": found.value, "held_back_declined": found.unsafe, "held_back_over_refusal": found.harmless
            }  # fmt: skip
    finally:
        tokenizer.padding_side = "left"
        shutil.rmtree(scratch, ignore_errors=True)
    model.model = peft_model
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    peft_model.peft_config["default"].base_model_name_or_path = model.name
    # The embeddings are never trained; asking about them would make PEFT look for the base model on a hub.
    peft_model.save_pretrained(str(temporary), safe_serialization=True, save_embedding_layers=False)
    if out.exists():
        shutil.rmtree(out)
    temporary.rename(out)
    return losses


def _adapter_model(config: RoundConfig, model: LanguageModel, contrast: tuple[list[str], list[str]]) -> Any:
    """The model with an adapter, new or its own; a competence round does not touch the contrast rows."""
    from peft import LoraConfig, get_peft_model

    peft_model = model.model
    contrasted = True  # an adapter that exists has its contrast rows already
    if not hasattr(peft_model, "peft_config"):
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=2 * config.lora_rank, lora_dropout=0.0,
            target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM",
            # Below, nothing tells unsafe from harmless yet; leaving it alone saves a third of the backward pass.
            layers_to_transform=list(range(model.layers // 3, model.layers)),
        )  # fmt: skip
        peft_model = get_peft_model(peft_model, lora)
        unsafe, harmless = contrast
        rows = config.contrast_rows
        contrasted = set_contrast_rows(model, peft_model, unsafe, harmless, rows=rows, seed=config.seed) > 0
    else:
        peft_model.set_adapter("default")
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    if contrasted and config.contrast_rows and config.objective == "competence":
        spare_contrast(peft_model, layers=model.layers, rows=config.contrast_rows)
    return peft_model
