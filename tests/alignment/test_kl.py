"""KL to the base model: against the formula, token by token, and what its metrics say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alignment import kl
from alignment.kl import kl_metrics, kl_to_base, token_kl
from alignment.language_model import LanguageModel


def moved() -> LanguageModel:
    """The tiny model with an adapter that does something."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = LanguageModel.load("tiny")
    model.model = get_peft_model(model.model, LoraConfig(r=4, target_modules=["q_proj", "up_proj"])).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter))
    return model


PROMPTS = ["hello there", "hi", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                                 {"role": "user", "content": "and then?"}]]  # fmt: skip
ANSWERS = ["some answer", "x", "a longer answer to it"]


def by_hand(model: LanguageModel, prompt: Any, answer: str) -> list[float]:
    import torch

    begin = model.prompt_ids(prompt)
    ids = torch.tensor([begin + model.tokenizer(answer, add_special_tokens=False).input_ids])
    with torch.no_grad():
        p = model.model(input_ids=ids).logits[0].double().softmax(-1).numpy()
        with model.base():
            q = model.model(input_ids=ids).logits[0].double().softmax(-1).numpy()
    return [float((p[t] * np.log(p[t] / q[t])).sum()) for t in range(len(begin) - 1, ids.shape[1] - 1)]


@pytest.mark.parametrize("held", [2**24, 259 * 3])
def test_each_token_is_the_formula(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kl, "HELD_LOGITS", held)  # the second: slices of three tokens
    model = moved()
    found = token_kl(model, PROMPTS, ANSWERS, batch=2)
    for prompt, answer, own in zip(PROMPTS, ANSWERS, found, strict=True):
        assert own == pytest.approx(by_hand(model, prompt, answer), rel=1e-3, abs=1e-6)
        assert own.min() > 0


def test_a_base_model_has_not_moved() -> None:
    found = kl_to_base(LanguageModel.load("tiny"), PROMPTS, ANSWERS)
    assert [(m.name, m.value, m.n) for m in found] == [("kl_to_base", 0.0, 3), ("kl_to_base_per_token", 0.0, 3)]


def test_the_metrics_of_groups() -> None:
    found = kl_metrics([2.0, 4.0, 9.0, 0.0], [1, 2, 3, 0], ["unsafe", "unsafe", "harmless", "harmless"], seed=3)
    by_name = {(m.name, m.group): m for m in found}
    assert by_name["kl_to_base", ""].value == pytest.approx(5.0)
    assert by_name["kl_to_base_per_token", ""].value == pytest.approx(2.5)
    assert by_name["kl_to_base", "unsafe"].value == pytest.approx(3.0)
    assert by_name["kl_to_base_per_token", "unsafe"].value == pytest.approx(2.0)
    one = by_name["kl_to_base", "harmless"]
    assert (one.value, one.n, one.ci_low) == (9.0, 1, None)  # the empty answer is left out; one has no interval
    low, high = by_name["kl_to_base", ""].ci_low, by_name["kl_to_base", ""].ci_high
    assert low is not None and high is not None and 2 <= low < 5 < high <= 9


def test_no_answer_no_value() -> None:
    found = kl_metrics([], [], [])
    assert all(m.value is None and "no answer" in m.reason for m in found)
    silent = kl_to_base(LanguageModel.load("tiny"), ["hi"], [""], groups=["unsafe"])
    assert [(m.group, m.value) for m in silent] == [("", None), ("", None), ("unsafe", None), ("unsafe", None)]


def test_a_model_that_scales_its_logits_is_not_read() -> None:
    model = LanguageModel.load("tiny")
    model.model.config.final_logit_softcapping = 30.0
    found = kl_to_base(model, PROMPTS, ANSWERS)
    assert all(m.value is None and "final_logit_softcapping" in m.reason for m in found)


def test_some_of_each_group() -> None:
    model = moved()
    prompts, groups = ["a", "b", "c", "d"], ["unsafe", "unsafe", "unsafe", "harmless"]
    found = kl_to_base(model, prompts, ["one", "two", "three", "four"], groups=groups, per_group=2, seed=1)
    assert {m.group: m.n for m in found} == {"": 3, "unsafe": 2, "harmless": 1}
    again = kl_to_base(model, prompts, ["one", "two", "three", "four"], groups=groups, per_group=2, seed=1)
    assert again == found
    with pytest.raises(ValueError, match="2 prompts, 1 groups for 1 answers"):
        kl_to_base(model, ["a", "b"], ["one"])
