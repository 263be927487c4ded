"""Trains the learner: a LoRA adapter, supervised on what should be said, then a preference term. Needs torch.

TRL does the training; this module decides what it sees and writes safetensors only.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.contrast import set_contrast_rows, train_only
from alignment.language_model import LanguageModel
from alignment.records import Pair

ATTENTION_AND_MLP = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def draw_batches(pairs: list[Pair], *, count: int, seed: int) -> list[Pair]:
    """`count` pairs, each drawn in proportion to its weight, as evenly as whole numbers allow (ours).

    Systematic sampling over the shuffled pairs: a pair of weight 3 is seen three times as often as one of
    weight 1, and none is left out while another is seen twice more than its share.
    """
    if not pairs or count <= 0:
        return []
    rng = random.Random(seed)
    shuffled = rng.sample(pairs, len(pairs))
    step = sum(p.weight for p in shuffled) / count
    drawn: list[Pair] = []
    passed, mark = 0.0, rng.random() * step
    for pair in shuffled:
        passed += pair.weight
        while mark < passed and len(drawn) < count:
            drawn.append(pair)
            mark += step
    rng.shuffle(drawn)
    return drawn


def _supervised_row(model: LanguageModel, pair: Pair, *, answer_tokens: int) -> dict[str, Any]:
    """Token ids with the answer marked. Only the first `answer_tokens` of it count: whether to decline, and how to
    begin, is decided there, and a cut answer has no end-of-text token, so that stopping early is not learnt."""
    prompt = model.prompt_ids(pair.prompt)
    answer = [*model.tokenizer(pair.chosen, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id]
    answer = answer[:answer_tokens]
    return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}


def _preference_row(pair: Pair) -> dict[str, Any]:
    def turn(role: str, text: str | None) -> list[dict[str, str | None]]:
        return [{"role": role, "content": text}]

    return {
        "prompt": turn("user", pair.prompt),
        "chosen": turn("assistant", pair.chosen),
        "rejected": turn("assistant", pair.rejected),
    }


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
    of DPO with a supervised term on the pairs that have a rejected answer. `contrast` holds unsafe and harmless
    prompts that tell the two kinds apart (see `contrast.py`). Returns the last losses.
    """
    if not pairs:
        raise ValueError("there is nothing to train on: no pair came out of the labels")
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    supervised = draw_batches(pairs, count=config.sft_steps * config.batch, seed=config.seed)
    contrasted = [p for p in pairs if p.rejected]
    preferred = draw_batches(contrasted, count=config.preference_steps * config.batch, seed=config.seed + 1)
    total = config.sft_steps + (config.preference_steps if preferred else 0)
    rate = config.learning_rate if config.objective == "conformity" else config.general_learning_rate
    scratch = out.parent / "trainer"
    common: dict[str, Any] = {
        "output_dir": str(scratch), "per_device_train_batch_size": config.batch, "gradient_checkpointing": False,
        "bf16": False, "fp16": False, "use_cpu": model.device.type == "cpu", "save_strategy": "no",
        "report_to": "none", "logging_steps": 1, "disable_tqdm": True, "seed": config.seed,
        "lr_scheduler_type": "cosine", "max_length": 512, "dataloader_num_workers": 0,
    }  # fmt: skip
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
                callbacks=[_progress(on_step, 0, total)],
            )  # fmt: skip
            trainer.train()
            losses["sft_loss"] = _last_loss(trainer)
        if preferred:
            trainer = DPOTrainer(
                model=peft_model,
                args=DPOConfig(
                    **common, max_steps=config.preference_steps, learning_rate=rate / 5,
                    beta=config.beta, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0],
                ),
                train_dataset=Dataset.from_list([_preference_row(p) for p in preferred]),
                processing_class=tokenizer,
                callbacks=[_progress(on_step, config.sft_steps, total)],
            )  # fmt: skip
            trainer.train()
            losses["dpo_loss"] = _last_loss(trainer)
    finally:
        tokenizer.padding_side = "left"
        shutil.rmtree(scratch, ignore_errors=True)
    peft_model.eval()
    model.model = peft_model
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    if "ref" in peft_model.peft_config:  # DPO's frozen copy of where it started
        peft_model.delete_adapter("ref")
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


def _last_loss(trainer: Any) -> float:
    return float(next((row["loss"] for row in reversed(trainer.state.log_history) if "loss" in row), float("nan")))


def _progress(on_step: Callable[[int, int, dict[str, float]], None], done_before: int, total: int) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                on_step(done_before + state.global_step, total, {"loss": float(logs["loss"])})

    return Progress()
