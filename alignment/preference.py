"""Trains an adapter to prefer the chosen answers over the rejected ones. Needs torch."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.language_model import LanguageModel
from alignment.records import Pair
from alignment.training import OnStep, draw_batches, last_loss, progress, trainer_arguments


def usable_pairs(config: RoundConfig, pairs: list[Pair]) -> list[Pair]:
    """The pairs that preference training can learn from: those with a rejected answer."""
    return [pair for pair in pairs if pair.rejected]


def _row(pair: Pair) -> dict[str, Any]:
    def turn(role: str, text: str | None) -> list[dict[str, str | None]]:
        return [{"role": role, "content": text}]

    return {
        "prompt": turn("user", pair.prompt),
        "chosen": turn("assistant", pair.chosen),
        "rejected": turn("assistant", pair.rejected),
    }


def train_preferences(
    config: RoundConfig,
    model: LanguageModel,
    peft_model: Any,
    pairs: list[Pair],
    *,
    steps: int,
    rate: float,
    on_step: OnStep = lambda step, loss: None,
) -> dict[str, float]:
    """`steps` of DPO with a supervised term on the pairs that have a rejected answer, drawn by weight.

    The reference is the adapter as it is at the start. Returns the last loss; {} where there was nothing to do.
    """
    drawn = draw_batches(usable_pairs(config, pairs), count=steps * config.batch, seed=config.seed + 1)
    if not drawn:
        return {}
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    scratch = Path(tempfile.mkdtemp(prefix="oversight-"))
    try:
        trainer = DPOTrainer(
            model=peft_model,
            args=DPOConfig(
                **trainer_arguments(config, model, scratch), max_steps=steps, learning_rate=rate,
                beta=config.beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0],
            ),
            train_dataset=Dataset.from_list([_row(pair) for pair in drawn]),
            processing_class=model.tokenizer,
            callbacks=[progress(on_step)],
        )  # fmt: skip
        trainer.train()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if "ref" in peft_model.peft_config:  # DPO's frozen copy of where it started
        peft_model.delete_adapter("ref")
    return {"dpo_loss": last_loss(trainer)}
