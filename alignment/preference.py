"""Trains an adapter on preferences, by the objective that the config names. Needs torch.

TRL computes the losses (`objectives.py` has the table); this module decides which rows it sees.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment.config import RoundConfig
from alignment.language_model import LanguageModel, after_turns, as_messages
from alignment.objectives import PreferenceObjective, find_objective
from alignment.records import Pair
from alignment.training import OnStep, draw_batches, last_logged, progress, trainer_arguments


def usable_pairs(config: RoundConfig, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that the config's objective can learn from.

    Both answers for a paired objective; for "kto" one is enough: a pair whose `chosen` is "" is an answer that people
    rejected without naming a better one. None for "sft".
    """
    rows = find_objective(config.preference).rows
    if rows == "pairs":
        return [pair for pair in pairs if pair.chosen and pair.rejected]
    return [pair for pair in pairs if pair.chosen or pair.rejected] if rows == "answers" else []


def train_preferences(
    config: RoundConfig,
    model: LanguageModel,
    peft_model: Any,
    pairs: Sequence[Pair],
    *,
    steps: int,
    rate: float,
    on_step: OnStep = lambda step, loss: None,
) -> dict[str, float]:
    """`steps` of the config's objective on the pairs that it can use, drawn by weight.

    The reference is the adapter as it is at the start. Returns the last batch's `preference_loss` and
    `preference_margin` (log-ratio to the reference of the chosen answers minus that of the rejected, mean a pair, in
    nats, whatever the temperature; nan where the batch held one kind only); {} where there was nothing to do.
    """
    objective = find_objective(config.preference)
    usable = usable_pairs(config, pairs)
    if not usable or steps < 1:
        return {}
    scratch = Path(tempfile.mkdtemp(prefix="oversight-"))
    options = {
        **trainer_arguments(config, model, scratch), "max_steps": steps, "learning_rate": rate,
        "beta": objective.beta_at(config.beta),
    }  # fmt: skip
    make = pair_trainer if objective.rows == "pairs" else answer_trainer
    try:
        trainer = make(objective, model, peft_model, usable, options, count=steps * config.batch, on_step=on_step)
        trainer.train()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        peft_model.get_base_model().__dict__.pop("forward", None)  # TRL leaves its own there
        if "ref" in peft_model.peft_config:  # TRL's frozen copy of where it started
            peft_model.delete_adapter("ref")
    return {
        "preference_loss": last_logged(trainer, "loss"),
        "preference_margin": last_logged(trainer, "rewards/margins") / options["beta"],
    }


def pair_trainer(
    objective: PreferenceObjective,
    model: LanguageModel,
    peft_model: Any,
    pairs: Sequence[Pair],
    options: dict[str, Any],
    *,
    count: int,
    on_step: OnStep = lambda step, loss: None,
) -> Any:
    """A PairTrainer for `count` draws. `options` go to TRL's DPOConfig."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    from alignment.pair_trainer import PairTrainer

    drawn = draw_batches(list(pairs), count=count, seed=options["seed"] + 1)
    # A pair that is drawn often stands here once, with its reference; one that is not drawn costs nothing.
    once = list({id(pair): pair for pair in drawn}.values())
    place = {id(pair): i for i, pair in enumerate(once)}
    rows = [pair_row(pair) | {"smoothing": objective.smoothing(pair.noise)} for pair in once]
    losses = objective.losses
    if any(row["smoothing"] for row in rows):
        losses = tuple("robust" if name == "sigmoid" else name for name in losses)  # the same, with smoothing
    return PairTrainer(
        model=peft_model,
        args=DPOConfig(
            **options, loss_type=list(losses), f_divergence_type=objective.divergence,
            f_alpha_divergence_coef=1 - objective.alpha, label_smoothing=objective.flipped,
        ),
        train_dataset=Dataset.from_list(rows), draws=[place[id(pair)] for pair in drawn], seed=options["seed"],
        processing_class=model.tokenizer, callbacks=[progress(on_step)],
    )  # fmt: skip


def answer_trainer(
    objective: PreferenceObjective,
    model: LanguageModel,
    peft_model: Any,
    pairs: Sequence[Pair],
    options: dict[str, Any],
    *,
    count: int,
    on_step: OnStep = lambda step, loss: None,
) -> Any:
    """TRL's KTOTrainer for `count` draws from the single answers. `options` go to its config."""
    from datasets import Dataset
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    from alignment.answer_log_probs import can_share, score_answers_only

    answers = [replace(pair, rejected=None) for pair in pairs if pair.chosen]
    answers += [replace(pair, chosen="") for pair in pairs if pair.rejected]
    drawn = draw_batches(answers, count=count, seed=options["seed"] + 1)
    desirable, undesirable = class_weights(sum(bool(pair.chosen) for pair in drawn), len(drawn))
    trainer = KTOTrainer(
        model=peft_model,
        args=KTOConfig(
            **options, loss_type=objective.losses[0], desirable_weight=desirable, undesirable_weight=undesirable,
        ),
        train_dataset=Dataset.from_list([answer_row(pair) for pair in drawn]),
        processing_class=model.tokenizer, callbacks=[progress(on_step)],
    )  # fmt: skip
    if can_share(peft_model.get_base_model()):
        score_answers_only(peft_model.get_base_model(), paired=False)
    return trainer


def class_weights(desirable: int, total: int) -> tuple[float, float]:
    """KTO's weights of good and of bad answers: the rarer kind counts more, so that both weigh the same in all.

    The lower end of what the KTO paper's equation 8 allows. 1 and 1 where one kind is missing.
    """
    other = total - desirable
    if not desirable or not other:
        return 1.0, 1.0
    return max(1.0, other / desirable), max(1.0, desirable / other)


def pair_row(pair: Pair) -> dict[str, Any]:
    """Chat turns as TRL reads them; the turns before the prompt belong to it."""
    return {"prompt": _prompt(pair), "chosen": _answer(pair.chosen), "rejected": _answer(pair.rejected)}


def answer_row(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": _prompt(pair), "completion": _answer(pair.chosen or pair.rejected), "label": bool(pair.chosen)
    }  # fmt: skip


def _prompt(pair: Pair) -> list[dict[str, str]]:
    return as_messages(after_turns(pair.history, pair.prompt))


def _answer(text: str | None) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text or ""}]
