"""Trains the learner: a LoRA adapter, supervised on what should be said, then a preference term. Needs torch.

TRL does the training; this module decides what it sees and writes safetensors only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.contrast import set_contrast_rows, train_only
from alignment.language_model import LanguageModel, after_turns
from alignment.preference import train_preferences, usable_pairs
from alignment.records import Pair
from alignment.training import draw_batches, last_loss, progress, trainer_arguments

ATTENTION_AND_MLP = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _supervised_row(model: LanguageModel, pair: Pair, *, answer_tokens: int) -> dict[str, Any]:
    """Token ids with the answer marked. Only the first `answer_tokens` of it count: whether to decline, and how to
    begin, is decided there, and a cut answer has no end-of-text token, so that stopping early is not learnt."""
    prompt = model.prompt_ids(after_turns(pair.history, pair.prompt))
    answer = [*model.tokenizer(pair.chosen, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id]
    answer = answer[:answer_tokens]
    return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}


def train_adapter(
    config: RoundConfig,
    model: LanguageModel,
    pairs: list[Pair],
    out: Path,
    *,
    contrast: tuple[list[str], list[str]] = ([], []),
    on_step: Callable[[int, int, dict[str, float]], None] = lambda done, total, metrics: None,
) -> dict[str, float]:
    """Trains an adapter on `model` (which may carry one already, then that one goes on) and saves it to `out`.

    Two runs one after the other: `sft_steps` of cross-entropy on the chosen answers, then `preference_steps`
    on the pairs that have a rejected answer (`preference.py`). `contrast` holds unsafe and harmless
    prompts that tell the two kinds apart (see `contrast.py`). Returns the last losses.
    """
    if not pairs:
        raise ValueError("there is nothing to train on: no pair came out of the labels")
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    supervised = draw_batches([p for p in pairs if p.chosen], count=config.sft_steps * config.batch, seed=config.seed)
    total = config.sft_steps + (config.preference_steps if usable_pairs(config, pairs) else 0)
    rate = config.learning_rate if config.objective == "conformity" else config.general_learning_rate
    scratch = out.parent / "trainer"
    common = trainer_arguments(config, model, scratch)
    peft_model = _adapter_model(config, model, contrast)
    losses: dict[str, float] = {}
    tokenizer = model.tokenizer
    tokenizer.padding_side = "right"
    try:
        if supervised:
            trainer: Any = SFTTrainer(
                model=peft_model,
                args=SFTConfig(
                    **common, max_steps=config.sft_steps, learning_rate=rate,
                    warmup_steps=max(1, config.sft_steps // 10), completion_only_loss=True,
                ),
                train_dataset=Dataset.from_list(
                    [_supervised_row(model, p, answer_tokens=config.answer_tokens) for p in supervised]
                ),
                processing_class=tokenizer,
                callbacks=[progress(lambda step, loss: on_step(step, total, {"loss": loss}))],
            )  # fmt: skip
            trainer.train()
            losses["sft_loss"] = last_loss(trainer)
        losses |= train_preferences(
            config, model, peft_model, pairs, steps=config.preference_steps, rate=rate / 5,
            on_step=lambda step, loss: on_step(config.sft_steps + step, total, {"loss": loss}),
        )  # fmt: skip
    finally:
        tokenizer.padding_side = "left"
        shutil.rmtree(scratch, ignore_errors=True)
    peft_model.eval()
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
    """The model with an adapter of which just the part is free that this round's objective is about."""
    from peft import LoraConfig, get_peft_model

    peft_model = model.model
    contrasted = True  # an adapter that exists has its contrast rows already
    if not hasattr(peft_model, "peft_config"):
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=2 * config.lora_rank, lora_dropout=0.0,
            target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM",
        )  # fmt: skip
        peft_model = get_peft_model(peft_model, lora)
        unsafe, harmless = contrast
        rows = config.contrast_rows
        contrasted = set_contrast_rows(model, peft_model, unsafe, harmless, rows=rows, seed=config.seed) > 0
    else:
        peft_model.set_adapter("default")
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    if contrasted and config.contrast_rows:
        train_only(
            peft_model, layers=model.layers, rows=config.contrast_rows, contrast=config.objective == "conformity"
        )
    return peft_model
