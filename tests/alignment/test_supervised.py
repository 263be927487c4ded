"""Supervised rows: what counts of an answer, what an anchor holds, and that sharing the prefix changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment.language_model import LanguageModel
from alignment.learner import ATTENTION_AND_MLP
from alignment.records import Pair
from alignment.supervised import Row, collate, make_rows, row_losses, run_after_prefix, shared_prefix, train_supervised


@pytest.fixture
def model() -> LanguageModel:
    return LanguageModel.load("tiny")


@pytest.fixture
def adapted(model: LanguageModel) -> object:
    torch.manual_seed(0)
    settings = LoraConfig(r=4, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model.model, settings).eval()


def batch_of(rows: list[Row], prefix: list[int]) -> dict[str, torch.Tensor]:
    return collate([vars(r) for r in rows], prefix=len(prefix), pad=0)


def test_rows_are_answers_anchors_or_nothing(model: LanguageModel) -> None:
    pairs = [
        Pair("how", "Like this.", "No.", 1.0, "harmless", "own"),
        Pair("what", "", None, 1.0, "harmless", "look-alike"),
        Pair("why", "", "Bad.", 1.0, "unsafe", "own"),
    ]
    rows = make_rows(model, pairs, answer_tokens=4, anchor_weight=2.5)
    assert [(len(r.answer_ids), r.weight) for r in rows] == [(4, 1.0), (0, 2.5)]
    whole = make_rows(model, pairs[:1], answer_tokens=100, anchor_weight=1.0)[0]
    assert whole.answer_ids[-1] == model.tokenizer.eos_token_id
    assert rows[0].answer_ids[-1] != model.tokenizer.eos_token_id


def test_the_prefix_is_what_all_prompts_share_and_leaves_each_a_token() -> None:
    def row(*ids: int) -> Row:
        return Row(list(ids), [9], 1.0)

    assert shared_prefix([row(1, 2, 3, 4, 5, 6), row(1, 2, 3, 4, 7)]) == [1, 2, 3, 4]
    assert shared_prefix([row(1, 2, 3, 4, 5), row(1, 2, 3, 4, 5)]) == [1, 2, 3, 4]
    assert shared_prefix([row(1, 2), row(3)]) == []
    assert shared_prefix([]) == []


def test_running_after_the_prefix_is_running_the_whole(model: LanguageModel) -> None:
    texts = ["how are you", "how are the things that you want from me"]
    rows = [Row(model.prompt_ids(t), [5, 6, 7], 1.0) for t in texts]
    prefix = shared_prefix(rows)
    assert len(prefix) > 3
    parts, whole = batch_of(rows, prefix), batch_of(rows, [])
    with torch.no_grad():
        one = run_after_prefix(model.model, prefix, parts["input_ids"], parts["attention_mask"])
        other = run_after_prefix(model.model, [], whole["input_ids"], whole["attention_mask"])
    for b, row in enumerate(rows):
        own = len(row.prompt_ids) + 3
        torch.testing.assert_close(one[b, : own - len(prefix)], other[b, len(prefix) : own], atol=1e-5, rtol=1e-4)


def test_losses_are_those_of_the_formula(model: LanguageModel, adapted: object) -> None:
    answer = [5, 6, 7, 8, 9]
    prompt = model.prompt_ids("how are you")
    rows = [Row(prompt, answer, 1.0), Row(model.prompt_ids("what is the time"), [], 2.0)]
    prefix = shared_prefix(rows)
    with torch.no_grad():
        losses, weights = row_losses(adapted, prefix, batch_of(rows, prefix))
        logits = adapted(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)  # type: ignore[operator]
        nats = [-float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)]
        ids = torch.tensor([rows[1].prompt_ids])
        own = adapted(ids).logits[0, -1].log_softmax(-1)  # type: ignore[operator]
        with adapted.disable_adapter():  # type: ignore[attr-defined]
            base = adapted(ids).logits[0, -1].log_softmax(-1)  # type: ignore[operator]
    assert float(losses[0]) == pytest.approx(sum(nats[:3]) + sum(nats[3:]) / 2, rel=1e-4)
    kl = float((base.exp() * (base - own)).sum())
    assert kl > 1e-4
    assert float(losses[1]) == pytest.approx(kl, rel=1e-3)
    assert weights.tolist() == [1.0, 2.0]


def trained(tmp_path: Path, *, anchored: bool) -> tuple[list[float], list[float]]:
    """Losses of an answer and of an anchor before and after training on the answer, with or without the anchor."""
    model = LanguageModel.load("tiny")
    torch.manual_seed(0)
    peft_model = get_peft_model(model.model, LoraConfig(r=4, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM"))
    told = make_rows(model, [Pair("steal it", "No.", None, 1.0, "unsafe", "own")], answer_tokens=8, anchor_weight=1.0)
    kept = make_rows(model, [Pair("bake it", "", None, 1.0, "harmless", "chat")], answer_tokens=8, anchor_weight=200.0)

    def losses() -> list[float]:
        rows = told + kept
        prefix = shared_prefix(rows)
        with torch.no_grad():
            found: list[float] = row_losses(peft_model, prefix, batch_of(rows, prefix))[0].tolist()
        return found

    before = losses()
    rows = (told + kept if anchored else told * 2) * 60
    train_supervised(peft_model, rows, pad=0, rate=1e-2, batch=4, seed=0, scratch=tmp_path / str(anchored))
    return before, losses()


def test_training_learns_the_answer_and_an_anchor_holds_the_rest(tmp_path: Path) -> None:
    before, free = trained(tmp_path, anchored=False)
    assert free[0] < before[0] - 1
    assert free[1] > before[1] + 1e-3
    _, held = trained(tmp_path, anchored=True)
    assert held[1] < free[1] * 0.9


def test_without_rows_nothing_is_trained(adapted: object, tmp_path: Path) -> None:
    assert train_supervised(adapted, [], pad=0, rate=1e-2, batch=4, seed=0, scratch=tmp_path) == 0.0
