"""Objectives of preference training: the table, each loss against its formula, and what a few steps do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from alignment.config import RoundConfig
from alignment.language_model import LanguageModel
from alignment.learner import _adapter_model
from alignment.objectives import OBJECTIVES, find_objective
from alignment.preference import answer_trainer, class_weights, pair_trainer, train_preferences, usable_pairs
from alignment.records import Pair
from alignment.training import trainer_arguments

PAIRED = [name for name, own in OBJECTIVES.items() if own.rows == "pairs"]
PAIRS = [
    Pair(
        f"Ask {i}" * (1 + i % 3), "No." + " I won't." * (i % 2), "Yes: step one" * (1 + i % 2), 1.0, "unsafe", "s",
        noise=0.15 * (i % 3),
    )
    for i in range(6)
]  # fmt: skip


def prepared(name: str = "dpo_sft") -> tuple[RoundConfig, LanguageModel, Any]:
    config = RoundConfig(round_id="", profile="tiny", batch=4, contrast_rows=0, preference=name)
    model = LanguageModel.load("tiny")
    model.tokenizer.padding_side = "right"
    return config, model, _adapter_model(config, model, ([], []))


def options(config: RoundConfig, model: LanguageModel, folder: Path, beta: float) -> dict[str, Any]:
    return {**trainer_arguments(config, model, folder), "max_steps": 1, "learning_rate": 1e-3, "beta": beta}


def answer_log_probs(peft_model: Any, prompt: list[int], answer: list[int]) -> Any:
    """[answer tokens], by the model's ordinary forward pass on this row alone."""
    import torch

    ids = torch.tensor([prompt + answer])
    logits = peft_model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return logits.gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def move_adapter(peft_model: Any) -> None:
    import torch

    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B.default" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))


def scored(name: str, log_ratio: float) -> float:
    """f'(u) at u = exp(log ratio), as in the f-DPO paper (constants cancel)."""
    u = math.exp(log_ratio)
    if name == "dpo_forward_kl":
        return -1 / u
    if name == "dpo_js":
        return math.log(2 * u / (1 + u))
    if name == "dpo_alpha":
        return (1 - u**-0.5) / 0.5
    return log_ratio


def by_hand(name: str, rows: list[dict[str, Any]], noise: list[float], mine: list[Any], reference: list[Any]) -> float:
    """The mean loss of the pairs. `mine` and `reference`: (chosen, rejected) log-probabilities a token."""
    beta = {"ln_dpo": 5.0}.get(name, 0.1)
    losses, tokens = [], []
    for wrong, own, other in zip(noise, mine, reference, strict=True):
        ratio = [float(p.sum() - q.sum()) for p, q in zip(own, other, strict=True)]
        if name == "ln_dpo":
            ratio = [r / len(p) for r, p in zip(ratio, own, strict=True)]
        x = beta * (scored(name, ratio[0]) - scored(name, ratio[1]))
        right, flipped = math.log1p(math.exp(-x)), math.log1p(math.exp(x))  # -log sigmoid(x), -log sigmoid(-x)
        if name == "ln_dpo":
            losses.append(right)
        elif name == "robust":
            e = max(wrong, 0.1)
            losses.append(((1 - e) * right - e * flipped) / (1 - 2 * e))
        else:
            losses.append((1 - wrong) * right + wrong * flipped)
        tokens += own[0].tolist()
    supervised = -sum(tokens) / len(tokens) if name == "dpo_sft" else 0.0
    return sum(losses) / len(losses) + supervised


@pytest.mark.parametrize("name", PAIRED)
def test_the_loss_is_the_formula(name: str, tmp_path: Path) -> None:
    import torch

    config, model, peft_model = prepared(name)
    objective = find_objective(name)
    beta = objective.beta_at(config.beta)
    trainer = pair_trainer(objective, model, peft_model, PAIRS, options(config, model, tmp_path, beta), count=8)
    rows = [trainer.train_dataset[i] for i in range(4)]
    del peft_model.get_base_model().__dict__["forward"]  # so that the reference below is the ordinary forward pass

    def log_probs() -> list[Any]:
        with torch.no_grad():
            return [
                tuple(
                    answer_log_probs(peft_model, row["prompt_ids"], row[key]) for key in ("chosen_ids", "rejected_ids")
                )
                for row in rows
            ]

    reference = log_probs()
    move_adapter(peft_model)
    mine = log_probs()
    noise_of = {pair.prompt: pair.noise for pair in PAIRS}
    noise = [noise_of[row["prompt"][0]["content"]] for row in rows]
    expected = by_hand(name, rows, noise, mine, reference)

    from alignment.answer_log_probs import score_answers_only

    score_answers_only(peft_model.get_base_model(), paired=True)
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    assert loss.item() == pytest.approx(expected, rel=2e-4)
    plain = by_hand(name, rows, [0.0] * 4, mine, reference)
    assert (abs(plain - expected) > 1e-3) == (objective.noise != "none")  # so that noise is seen to matter


def test_the_loss_of_single_answers_is_the_formula(tmp_path: Path) -> None:
    import torch

    config, model, peft_model = prepared("kto")
    pairs = [PAIRS[0], PAIRS[1], Pair("Ask", "", "Yes: step one", 1.0, "unsafe", "s")]
    settings = options(config, model, tmp_path, 0.1)
    trainer = answer_trainer(find_objective("kto"), model, peft_model, pairs, settings, count=4)
    rows = [trainer.train_dataset[i] for i in range(4)]
    assert {row["label"] for row in rows} == {True, False}
    batch = trainer.data_collator(rows)
    del peft_model.get_base_model().__dict__["forward"]

    def log_probs(key: str) -> list[float]:
        with torch.no_grad():
            return [float(answer_log_probs(peft_model, row["prompt_ids"], row[key]).sum()) for row in rows]

    reference, drifted = log_probs("completion_ids"), log_probs("KL_completion_ids")
    move_adapter(peft_model)
    ratios = [p - q for p, q in zip(log_probs("completion_ids"), reference, strict=True)]
    kl = max(0.0, sum(p - q for p, q in zip(log_probs("KL_completion_ids"), drifted, strict=True)) / 4)

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    good, bad = trainer.desirable_weight, trainer.undesirable_weight
    expected = sum(
        good * (1 - sigmoid(0.1 * (r - kl))) if row["label"] else bad * (1 - sigmoid(0.1 * (kl - r)))
        for row, r in zip(rows, ratios, strict=True)
    )

    from alignment.answer_log_probs import score_answers_only

    score_answers_only(peft_model.get_base_model(), paired=False)
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected / 4, rel=2e-4)


@pytest.mark.parametrize("name", [*PAIRED, "kto"])
def test_a_few_steps_raise_the_margin(name: str) -> None:
    import torch

    config, model, peft_model = prepared(name)

    def margin() -> float:
        total = 0.0
        for pair in PAIRS:
            prompt = model.prompt_ids(pair.prompt)
            for sign, text in ((1, pair.chosen), (-1, pair.rejected)):
                answer = model.tokenizer(text, add_special_tokens=False).input_ids
                with torch.no_grad():
                    total += sign * float(answer_log_probs(peft_model, prompt, answer).sum())
        return total / len(PAIRS)

    before = margin()
    seen: list[int] = []
    found = train_preferences(
        config, model, peft_model, PAIRS, steps=6, rate=5e-3, on_step=lambda step, loss: seen.append(step)
    )
    assert seen == [1, 2, 3, 4, 5, 6]
    assert math.isfinite(found["preference_loss"])
    assert margin() > before + 1
    assert list(peft_model.peft_config) == ["default"]
    assert "forward" not in peft_model.get_base_model().__dict__  # nothing of TRL is left on the model


def test_supervised_only_trains_nothing_here() -> None:
    config, model, peft_model = prepared("sft")
    assert usable_pairs(config, PAIRS) == []
    assert train_preferences(config, model, peft_model, PAIRS, steps=3, rate=1e-3) == {}


def test_what_an_objective_can_use() -> None:
    chosen = Pair("a", "b", None, 1.0, "harmless", "s")
    rejected = Pair("a", "", "c", 1.0, "unsafe", "s")
    both = Pair("a", "b", "c", 1.0, "unsafe", "s")
    pairs = [chosen, rejected, both]
    assert usable_pairs(RoundConfig(round_id="", preference="dpo"), pairs) == [both]
    assert usable_pairs(RoundConfig(round_id="", preference="kto"), pairs) == pairs


def test_a_bad_name_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"preference 'ppo' is not one of sft, dpo, dpo_forward_kl, .*dpo_sft"):
        RoundConfig(round_id="", preference="ppo")
    with pytest.raises(ValueError, match=r"beta is 0"):
        RoundConfig(round_id="", beta=0)


def test_beta_is_a_factor_on_the_objectives_own() -> None:
    assert find_objective("dpo").beta_at(0.1) == pytest.approx(0.1)
    assert find_objective("ln_dpo").beta_at(0.1) == pytest.approx(5)
    assert find_objective("ln_dpo").beta_at(0.15) == pytest.approx(7.5)


def test_smoothing() -> None:
    soft, flip = find_objective("dpo_sft"), find_objective("robust")
    assert soft.smoothing(0) == 0
    for noise in (0.1, 0.3, 0.49):
        e = soft.smoothing(noise)
        assert (1 - e) / (1 - 2 * e) == pytest.approx(1 - noise)
        assert -e / (1 - 2 * e) == pytest.approx(noise)
    assert [flip.smoothing(noise) for noise in (0, 0.2, 0.49)] == [0.1, 0.2, 0.4]
    assert find_objective("ln_dpo").smoothing(0.2) == 0
    with pytest.raises(ValueError, match=r"noise is 0\.5"):
        soft.smoothing(0.5)


def test_the_rarer_kind_counts_more() -> None:
    assert class_weights(30, 40) == (1.0, 3.0)
    assert class_weights(10, 40) == (3.0, 1.0)
    assert class_weights(20, 40) == (1.0, 1.0)
    assert class_weights(0, 40) == class_weights(40, 40) == (1.0, 1.0)
