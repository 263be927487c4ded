"""How far a trained adapter goes: the line between before and after, and what held-back pairs say of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment import strength
from alignment.language_model import LanguageModel
from alignment.learner import ATTENTION_AND_MLP
from alignment.seed_files import shipped_seeds
from alignment.strength import STRENGTHS, choose_strength, declines, held_back, is_held_back, trainable


def adapted() -> tuple[LanguageModel, Any]:
    model = LanguageModel.load("tiny")
    torch.manual_seed(0)
    settings = LoraConfig(r=2, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM", init_lora_weights=False)
    return model, get_peft_model(model.model, settings).eval()


def test_held_back_pairs_are_few_and_never_those_that_were_attacked() -> None:
    seeds = shipped_seeds()
    share = sum(map(is_held_back, seeds)) / len(seeds)
    assert 0.03 < share < 0.07
    found = held_back(seeds, set())
    assert len(found) == strength.MOST_PAIRS
    assert len({s.category for s in found}) >= 8
    assert found[0] not in held_back(seeds, {found[0].id})
    assert held_back(found[:7], set()) == []


@pytest.mark.parametrize(
    ("unsafe", "harmless", "chosen", "competence"),
    [
        # What each of STRENGTHS declines of 10 pairs, from 1.0 down to 0.8; nothing was declined before.
        ((10, 9, 8), (0, 0, 0), 1.0, False),
        ((10, 9, 8), (5, 3, 1), 0.8, False),
        ((10, 10, 9), (10, 9, 7), 0.8, False),  # none is fair: the best of all
        ((6, 8, 6), (0, 1, 0), 0.9, False),
        ((4, 6, 8), (0, 0, 0), 1.0, True),  # the farthest, though less of it declines more
        ((9, 8, 7), (3, 1, 1), 0.9, True),
    ],
)
def test_the_strength_declines_most_while_look_alikes_stay_answered(
    monkeypatch: pytest.MonkeyPatch, unsafe: tuple[int, ...], harmless: tuple[int, ...], chosen: float,
    competence: bool,
) -> None:
    model, peft_model = adapted()
    end = trainable(peft_model)
    start = {name: torch.zeros_like(value) for name, value in end.items()}
    name = next(n for n in end if "lora_B" in n)

    def counted(model: Any, prompts: list[str]) -> list[bool]:
        now = dict(peft_model.named_parameters())[name]
        value = float((now.detach() / end[name]).flatten()[0])
        if value < 0.01:
            return [False] * 20
        i = min(range(len(STRENGTHS)), key=lambda i: abs(STRENGTHS[i] - value))
        return [k < unsafe[i] for k in range(10)] + [k < harmless[i] for k in range(10)]

    monkeypatch.setattr(strength, "declines", counted)
    found = choose_strength(model, peft_model, start, shipped_seeds()[:10], limit=0.2, competence=competence)
    assert found.value == chosen
    i = STRENGTHS.index(chosen)
    assert (found.unsafe, found.harmless, found.before, found.n) == (unsafe[i] / 10, harmless[i] / 10, 0.0, 10)
    torch.testing.assert_close(dict(peft_model.named_parameters())[name].detach(), end[name] * chosen)


def test_a_prompt_is_declined_where_the_greedy_answer_of_the_adapted_model_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, peft_model = adapted()
    prompts = ["how do I do it", "what is that thing over there"]
    greedy = []
    for prompt in prompts:
        ids = torch.tensor([model.prompt_ids(prompt)])
        with torch.no_grad():
            out = peft_model.generate(input_ids=ids, max_new_tokens=strength.LOOKED_AT, do_sample=False)
        greedy.append(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert greedy[0] != greedy[1]
    monkeypatch.setattr(strength, "is_refusal", lambda text: text == greedy[1])
    model.tokenizer.padding_side = "right"  # as in training
    assert declines(model, prompts) == [False, True]
    assert model.tokenizer.padding_side == "right"
