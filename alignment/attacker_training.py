"""The attacker learns from its successes (after MART, Ge et al. 2023): a small LoRA adapter of its own. Needs torch.

Supervised training on (the instruction to rewrite a seed -> the attack that worked), on a fresh copy of the base
model, so that neither the base's weights nor the learner's adapter can be touched. Only the model operators use it.
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.bandit import success
from alignment.config import RoundConfig
from alignment.endpoint import Generator, load_generator
from alignment.language_model import Generated, LanguageModel, Prompt
from alignment.operators import MODEL_PROMPTS
from alignment.records import Label, Sample, SeedPair
from alignment.rundir import RunDir, read_rows
from alignment.training import OnStep, last_loss, progress, trainer_arguments

LEAST = 8  # successes, below which there is nothing to learn but these very texts
RANK = 8
LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class Success:
    """An instruction to the attacker, and the attack that made the learner fail."""

    instruction: str
    attack: str


@dataclass(frozen=True)
class WithoutAdapter:
    """The learner as the attacker: without its adapter, because one that has learnt to decline attacks poorly."""

    model: LanguageModel

    @property
    def name(self) -> str:
        return self.model.name

    def generate(self, prompts: Sequence[Prompt], **settings: Any) -> list[list[Generated]]:
        with self.model.base():
            return self.model.generate(prompts, **settings)


def load_attacker(config: RoundConfig, run: RunDir, learner: Generator) -> Generator | WithoutAdapter:
    """The model that writes attacks, with its own adapter where the round has one that fits; the log says which."""
    name = config.attacker or config.learner
    folder = run.path / config.attacker_adapter if config.attacker_adapter else None
    fits = folder is not None and adapter_fits(folder, name)
    if folder is not None and not name.startswith(("http://", "https://")):
        said = f"tuned on its successes ({config.attacker_adapter})" if fits else "as it is: no adapter of its own fits"
        run.events.emit("load", message=f"Attacker {name}, {said}")
    if fits:
        return load_generator(name, adapter=str(folder), dtype=config.dtype, device=config.device)
    if name != config.learner:
        return load_generator(name, dtype=config.dtype, device=config.device)
    return WithoutAdapter(learner) if isinstance(learner, LanguageModel) else learner


def adapter_fits(folder: Path, name: str) -> bool:
    """Whether `folder` is an adapter that was trained on the model `name`."""
    settings = folder / "adapter_config.json"
    return settings.exists() and json.loads(settings.read_text()).get("base_model_name_or_path") == name


def find_successes(
    samples: Sequence[Sample], labels: Mapping[str, Label], seeds: Sequence[SeedPair]
) -> list[Success]:  # fmt: skip
    """The round's attacks that made the learner fail, by people's word where there is one, else by the critic's. A
    seed asked as it is taught nothing; of an attack of several turns the last one is learnt."""
    by_id = {s.id: s for s in seeds}
    found = []
    for sample in samples:
        query = sample.query
        pair = by_id.get(query["seed"])
        p = success(sample, labels.get(query["id"]))
        if query["kind"] == "unsafe" and pair and p is not None and p >= 0.5 and query["text"] != pair.unsafe:
            prompt = MODEL_PROMPTS.get(query["operator"], MODEL_PROMPTS["paraphrase"])
            found.append(Success(prompt.format(text=pair.unsafe), query["text"]))
    return found


def tune_attacker(run: RunDir, config: RoundConfig, samples: Sequence[Sample], labels: Mapping[str, Label]) -> None:
    """Writes learn/attacker/, trained on the round's successes, or tells the log why it does not. Resumable.

    The adapter of the round before goes on learning. Nothing is done for an attacker at an endpoint, for the policy
    "random", and with `attacker_steps` 0.
    """
    name, out = config.attacker or config.learner, run.learn / "attacker"
    if out.exists() or not config.attacker_steps or config.attack_policy == "random":
        return
    if name.startswith(("http://", "https://")):
        run.events.emit("attacker", message="The attacker is an endpoint, which is not trained from here")
        return
    successes = find_successes(samples, labels, read_rows(run.inputs / "seeds.jsonl", SeedPair))
    if len(successes) < LEAST:
        said = f"The attacker is not tuned: {len(successes)} attacks worked, and it takes {LEAST}"
        run.events.emit("attacker", message=said)
        return
    run.events.emit("attacker", 0, config.attacker_steps, message=f"Tuning the attacker on {len(successes)} successes")
    before = run.path / config.attacker_adapter if config.attacker_adapter else None
    adapter = str(before) if before is not None and adapter_fits(before, name) else ""
    model = LanguageModel.load(name, adapter=adapter, dtype=config.dtype, device=config.device)
    loss = train_attacker(
        config, model, successes, out,
        on_step=lambda done, loss: run.events.emit("attacker", done, config.attacker_steps),
    )  # fmt: skip
    del model
    gc.collect()
    run.events.emit("attacker", config.attacker_steps, config.attacker_steps, metrics={"attacker_loss": loss})


def train_attacker(
    config: RoundConfig, model: LanguageModel, successes: Sequence[Success], out: Path,
    *, on_step: OnStep = lambda done, loss: None,
) -> float:  # fmt: skip
    """Trains a LoRA adapter on `model`, a copy that nobody else uses (an adapter on it goes on), and saves it to `out`.

    `attacker_steps` of cross-entropy on the attacks' tokens, `batch` examples a step, each success about equally often.
    Returns the last loss. ValueError with fewer than LEAST successes.
    """
    if len(successes) < LEAST:
        raise ValueError(f"{len(successes)} successes are too few to tune the attacker on; it takes {LEAST}")
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    peft_model = model.model
    if not hasattr(peft_model, "peft_config"):
        lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        peft_model = get_peft_model(peft_model, lora)
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    wanted = config.attacker_steps * config.batch
    rng = random.Random(config.seed)
    drawn = [s for _ in range(-(-wanted // len(successes))) for s in rng.sample(successes, len(successes))][:wanted]
    scratch = Path(tempfile.mkdtemp(prefix="oversight-"))
    model.tokenizer.padding_side = "right"
    try:
        trainer: Any = SFTTrainer(
            model=peft_model,
            args=SFTConfig(
                **trainer_arguments(config, model, scratch), max_steps=config.attacker_steps,
                learning_rate=LEARNING_RATE, warmup_steps=1, completion_only_loss=True,
            ),
            train_dataset=Dataset.from_list([_row(model, s) for s in drawn]),
            processing_class=model.tokenizer,
            callbacks=[progress(on_step)],
        )  # fmt: skip
        trainer.train()
    finally:
        model.tokenizer.padding_side = "left"
        shutil.rmtree(scratch, ignore_errors=True)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    peft_model.peft_config["default"].base_model_name_or_path = model.name
    peft_model.save_pretrained(str(temporary), safe_serialization=True, save_embedding_layers=False)
    temporary.rename(out)
    return last_loss(trainer)


def _row(model: LanguageModel, success: Success) -> dict[str, Any]:
    prompt = model.prompt_ids(success.instruction)
    attack = [*model.tokenizer(success.attack, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id]
    return {"input_ids": prompt + attack, "completion_mask": [0] * len(prompt) + [1] * len(attack)}
