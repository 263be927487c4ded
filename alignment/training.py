"""What the learner's trainings share: how examples are drawn, what every TRL trainer is told, how progress gets out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.language_model import LanguageModel
from alignment.records import Pair

OnStep = Callable[[int, float], None]  # steps done, the loss of the last one


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


def trainer_arguments(config: RoundConfig, model: LanguageModel, scratch: Path) -> dict[str, Any]:
    """What every trainer of a round is told, as arguments of a TRL config; nothing is saved or reported by TRL."""
    return {
        "output_dir": str(scratch), "per_device_train_batch_size": config.batch, "gradient_checkpointing": False,
        "bf16": False, "fp16": False, "use_cpu": model.device.type == "cpu", "save_strategy": "no",
        "report_to": "none", "logging_steps": 1, "disable_tqdm": True, "seed": config.seed,
        "lr_scheduler_type": "cosine", "max_length": 512, "dataloader_num_workers": 0,
    }  # fmt: skip


def last_loss(trainer: Any) -> float:
    return last_logged(trainer, "loss")


def last_logged(trainer: Any, name: str) -> float:
    """The last value that the trainer logged under `name`; nan where it never did."""
    return float(next((row[name] for row in reversed(trainer.state.log_history) if name in row), float("nan")))


def progress(on_step: OnStep) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                on_step(state.global_step, float(logs["loss"]))

    return Progress()
