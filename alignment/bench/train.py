"""`python -m alignment bench train`: preference training as it is done here, beside TRL's own trainer.

Both train the same adapter from the same start on the same draws of the same pairs, by DPO with a supervised term, in
one process, in turn. Plain is DPOTrainer as its documentation writes it, given what favours it on a processor: no
gradient checkpointing, no bfloat16 emulation, and a `peft_config`, so that its reference needs no adapter.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.language_model import LanguageModel
from alignment.learner import ATTENTION_AND_MLP
from alignment.objectives import find_objective
from alignment.preference import pair_row, pair_trainer
from alignment.records import Pair
from alignment.rundir import write_text
from alignment.seed_files import shipped_exemplars, shipped_principles, shipped_seeds
from alignment.training import draw_batches, last_logged, last_loss, trainer_arguments

TARGET = 1.1  # seconds a step, times plain's
RATE = 1e-4


@dataclass(frozen=True)
class TrainingRun:
    """One training. `seconds` is everything from the texts to the last step, `setup` the part before the first;
    `processor` the seconds of processor time in all of it, which other work on the machine does not stretch.

    `tokens`: of prompt and chosen, and of prompt and rejected answer, of all examples, without padding; a prompt
    that is run once for both answers counts twice, so that both trainers are measured on the same number.
    """

    how: str
    repeat: int
    seconds: float
    setup: float
    processor: float
    steps: int
    examples: int
    tokens: int
    loss: float


def made_pairs(count: int, *, seed: int) -> list[Pair]:
    """Pairs of the shipped texts, in turn unsafe (a safe answer over a violating one) and harmless (the reverse)."""
    rng = random.Random(f"{seed}:bench train")
    exemplars = shipped_exemplars()
    bad = [own for own in exemplars if own.verdict == "violates"]
    fine = [own for own in exemplars if own.verdict == "fine"]
    safe = [text for principle in shipped_principles() for text in principle.safe_answers]
    prompts = rng.sample([seed_pair for seed_pair in shipped_seeds() if seed_pair.harmless], count)
    pairs = []
    for i, own in enumerate(prompts):
        if i % 2:
            pairs.append(Pair(own.harmless, rng.choice(fine).response, rng.choice(safe), 1.0, "harmless", "bench"))
        else:
            pairs.append(Pair(own.unsafe, rng.choice(safe), rng.choice(bad).response, 1.0, "unsafe", "bench"))
    return pairs


def run_train_bench(
    model_name: str, *, pairs: int, steps: int, seed: int, repeats: int = 3, batch: int = 8, dtype: str = "auto",
    out: Path | None = None, say: Callable[[str], None] = print,
) -> list[TrainingRun]:  # fmt: skip
    """Trains `repeats` times each way, in turn, after one step each that is not counted; `out` gets every run."""
    if min(pairs, steps, batch) < 1 or repeats < 1:
        raise ValueError(f"pairs {pairs}, steps {steps}, batch {batch}, repeats {repeats}: each must be 1 or more")
    model = LanguageModel.load(model_name, dtype=dtype)
    model.tokenizer.padding_side = "right"
    config = RoundConfig(round_id="", seed=seed, batch=batch, preference="dpo_sft")
    texts = made_pairs(pairs, seed=seed)
    ways = {"plain": _plain, "ours": _ours}
    for how, train in ways.items():
        _run(how, train, config, model, texts, repeat=0, steps=1)
    found = []
    for repeat in range(1, repeats + 1):
        for how, train in ways.items():
            run = _run(how, train, config, model, texts, repeat=repeat, steps=steps)
            say(line(run))
            found.append(run)
    say(summary(found))
    if out:
        about = {
            "model": model_name, "dtype": str(model.model.dtype), "device": str(model.device), "pairs": pairs,
            "steps": steps, "batch": batch, "seed": seed, **_versions(),
        }  # fmt: skip
        rows = {"about": about, "runs": [dataclasses.asdict(run) for run in found], "summary": ratios(found)}
        write_text(out, json.dumps(rows, indent=1) + "\n")
    return found


def line(run: TrainingRun) -> str:
    return (
        f"{run.repeat} {run.how:<5} {run.seconds / run.steps:7.2f} s a step, {run.tokens / run.seconds:7.0f} tokens/s, "
        f"{run.setup:5.2f} s before the first step; {run.examples} pairs, {run.tokens} tokens, last loss {run.loss:.3f}"
    )


def ratios(runs: Sequence[TrainingRun]) -> dict[str, float]:
    """Medians of either way, and ours over plain's of the same repeat: median, least and most.

    `ratio`: of the seconds; `processor_ratio`: of the processor's, which say nothing where a GPU does the work.
    """
    by_way = {how: [run for run in runs if run.how == how] for how in ("plain", "ours")}
    found: dict[str, float] = {}
    for name, seconds in (("ratio", _seconds), ("processor_ratio", _processor)):
        each = [seconds(o) / seconds(p) for p, o in zip(by_way["plain"], by_way["ours"], strict=True)]
        found |= {name: statistics.median(each), f"{name}_least": min(each), f"{name}_most": max(each)}
    for how, own in by_way.items():
        found[f"{how}_seconds_a_step"] = statistics.median(run.seconds / run.steps for run in own)
        found[f"{how}_tokens_a_second"] = statistics.median(run.tokens / run.seconds for run in own)
        found[f"{how}_processor_seconds_a_step"] = statistics.median(run.processor / run.steps for run in own)
    return found


def _seconds(run: TrainingRun) -> float:
    return run.seconds


def _processor(run: TrainingRun) -> float:
    return run.processor


def summary(runs: Sequence[TrainingRun]) -> str:
    own = ratios(runs)
    met = "met" if own["ratio"] <= TARGET else "not met"
    return (
        f"plain {own['plain_seconds_a_step']:.2f} s a step, {own['plain_tokens_a_second']:.0f} tokens/s; "
        f"ours {own['ours_seconds_a_step']:.2f} s a step, {own['ours_tokens_a_second']:.0f} tokens/s; "
        f"time of ours over plain {own['ratio']:.2f} ({own['ratio_least']:.2f} to {own['ratio_most']:.2f}; "
        f"target {TARGET} or less, {met}), of processor time {own['processor_ratio']:.2f} "
        f"({own['processor_ratio_least']:.2f} to {own['processor_ratio_most']:.2f})"
    )


def _run(
    how: str, train: Callable[..., Any], config: RoundConfig, model: LanguageModel, pairs: list[Pair], *,
    repeat: int, steps: int,
) -> TrainingRun:  # fmt: skip
    scratch = Path(tempfile.mkdtemp(prefix="oversight-"))
    options = {
        **trainer_arguments(config, model, scratch), "max_steps": steps, "learning_rate": RATE,
        "beta": find_objective(config.preference).beta_at(config.beta), "logging_strategy": "steps",
    }  # fmt: skip
    base = model.model
    try:
        began, spent = time.perf_counter(), time.process_time()
        trainer = train(config, model, pairs, options, steps * config.batch)
        ready = time.perf_counter()
        trainer.train()
        ended = time.perf_counter()
        return TrainingRun(
            how, repeat, ended - began, ready - began, time.process_time() - spent, trainer.state.global_step,
            trainer.state.global_step * config.batch, int(last_logged(trainer, "num_tokens")), last_loss(trainer),
        )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        base.__dict__.pop("forward", None)  # TRL's forward pass, or ours
        model.model = trainer.model.unload()  # the base model as it was


def _lora(config: RoundConfig) -> Any:
    """The learner's, all of it free."""
    from peft import LoraConfig

    rank = config.lora_rank
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM")


def _ours(config: RoundConfig, model: LanguageModel, pairs: list[Pair], options: dict[str, Any], count: int) -> Any:
    from peft import get_peft_model

    peft_model = get_peft_model(model.model, _lora(config))
    return pair_trainer(find_objective(config.preference), model, peft_model, pairs, options, count=count)


def _plain(config: RoundConfig, model: LanguageModel, pairs: list[Pair], options: dict[str, Any], count: int) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    drawn = draw_batches(pairs, count=count, seed=config.seed + 1)  # those of `pair_trainer`
    return DPOTrainer(
        model=model.model,
        peft_config=_lora(config),
        args=DPOConfig(**options, loss_type=list(find_objective(config.preference).losses)),
        train_dataset=Dataset.from_list([pair_row(pair) for pair in drawn]),
        processing_class=model.tokenizer,
    )


def _versions() -> dict[str, str | int]:
    import peft
    import torch
    import transformers
    import trl

    return {
        "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
        "peft": peft.__version__, "threads": torch.get_num_threads(), "machine": platform.machine(),
    }  # fmt: skip
