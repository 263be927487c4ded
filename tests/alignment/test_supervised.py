"""Supervised rows: what counts of an answer, what an anchor holds, and that sharing the prefix changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from alignment.language_model import LanguageModel
from alignment.learner import ATTENTION_AND_MLP
from alignment.records import Pair
from alignment.supervised import (
    HEAVIEST,
    HELD_ALONG,
    LIGHTEST,
    MARGIN,
    NOTHING,
    PUSH,
    Row,
    collate,
    in_batches,
    make_rows,
    next_weight,
    row_losses,
    run_after_prefix,
    shared_prefix,
    train_supervised,
)


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
    pairs.append(Pair("1 + 1", "2", None, 1.0, "competence", "task"))
    rows = make_rows(model, pairs, answer_tokens=4, task_weight=0.3)
    assert [(len(r.answer_ids), r.weight) for r in rows] == [(4, 1.0), (0, 1.0), (2, 0.3)]
    whole = make_rows(model, pairs[:1], answer_tokens=100)[0]
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
    prompt, harmless = model.prompt_ids("how are you"), model.prompt_ids("what is the time")
    rows = [
        Row(prompt, answer, 1.0), Row(harmless, [], 2.0), Row(harmless, [], 1.0, [11, 12]),
        Row(harmless, [], 1.0, [11], 12),
    ]  # fmt: skip
    prefix = shared_prefix(rows)
    with torch.no_grad():
        logits = adapted(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)  # type: ignore[operator]
        nats = [-float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)]
        told = logits[len(prompt) - 1]
        own = adapted(torch.tensor([harmless])).logits[0, -1].log_softmax(-1)  # type: ignore[operator]
        along = adapted(torch.tensor([[*harmless, 11, 12]])).logits[0, -3:].log_softmax(-1)  # type: ignore[operator]
        with adapted.disable_adapter():  # type: ignore[attr-defined]
            base = adapted(torch.tensor([[*harmless, 11, 12]])).logits[0, -3:].log_softmax(-1)  # type: ignore[operator]
    kl = float((base.exp() * (base - along)).sum())
    assert kl > 1e-4

    def margin(log_V: torch.Tensor, opening: int) -> float:
        return float(log_V[opening]) - max(v for i, v in enumerate(log_V.tolist()) if i != opening)

    for opening in (1, 5, int(own.argmax())):
        with torch.no_grad():
            found = row_losses(adapted, prefix, batch_of(rows, prefix), opening=opening)
        if opening == answer[0]:  # a declining row: the decision, and the mean of what follows
            expected = math.log1p(math.exp(MARGIN - margin(told, opening))) + sum(nats[1:]) / 4
        else:
            expected = sum(nats[:3]) + sum(nats[3:]) / 2
        assert float(found.own_B[0]) == pytest.approx(expected, rel=1e-4)
        kept = math.log1p(math.exp(margin(own, opening) + MARGIN))
        avoided = math.log1p(math.exp(margin(along[1], 12) + MARGIN))
        assert found.own_B[1:].tolist() == pytest.approx([kept, kept + kl, kept + avoided], rel=1e-3)
        assert found.anchors_B.tolist() == [False, True, True, True]
        assert found.declined == 3 * (opening == int(own.argmax()))


def test_look_alikes_avoid_an_apology_and_chat_is_held_along_refusals(model: LanguageModel) -> None:
    pairs = [Pair("what is it", "", None, 1.0, "harmless", source) for source in ("look-alike", "chat", "chat", "chat")]
    rows = make_rows(model, [*pairs, Pair("what is it", "Fine.", None, 1.0, "harmless", "own answer")], answer_tokens=8)
    text = [model.tokenizer.decode(r.next_ids) for r in rows]
    assert (text[0], model.tokenizer.decode([rows[0].avoided])) == ("I'm", " sorry"[0])
    assert set(text[1:4]) == set(HELD_ALONG)
    assert [r.avoided for r in rows[1:]] == [NOTHING] * 4
    assert rows[4].next_ids == [] != rows[4].answer_ids


def test_no_gradient_flows_through_the_prefix(model: LanguageModel) -> None:
    rows = [Row([3, 4, 5, 6, 7, 8], [], 1.0), Row([3, 4, 5, 6, 9, 10], [], 1.0)]
    prefix = shared_prefix(rows)
    assert prefix == [3, 4, 5, 6]
    batch = batch_of(rows, prefix)
    embedding = model.model.get_input_embeddings().weight.requires_grad_(True)
    run_after_prefix(model.model, prefix, batch["input_ids"], batch["attention_mask"]).pow(2).mean().backward()
    moved = embedding.grad.abs().sum(dim=1)
    assert moved[prefix].sum() == 0
    assert moved[[7, 8, 9, 10]].min() > 0


def test_anchors_weigh_more_while_too_many_would_be_declined() -> None:
    assert next_weight(3.0, 4, 8, limit=0.05) == pytest.approx(3.0 * math.exp(PUSH * 0.45))
    assert 2.8 < next_weight(3.0, 0, 8, limit=0.05) < 3.0
    assert next_weight(3.0, 0, 0, limit=0.05) == 3.0
    assert next_weight(HEAVIEST, 8, 8, limit=0.05) == HEAVIEST
    assert next_weight(LIGHTEST, 0, 8, limit=0.05) == LIGHTEST


def test_batches_hold_prompts_of_like_length_and_every_kind() -> None:
    # Declining rows at even places, anchors at odd ones; both of all lengths.
    lengths = [10 + (i // 2) % 50 for i in range(1000)]
    order = in_batches(lengths, batch=16, seed=0)
    assert sorted(order) == list(range(1000))
    batches = [order[i : i + 16] for i in range(0, 992, 16)]
    spread = [max(lengths[i] for i in own) - min(lengths[i] for i in own) for own in batches]
    assert sum(spread) / len(spread) < 12
    kinds = [sum(i % 2 for i in own) for own in batches]
    assert min(kinds) >= 2
    assert max(kinds) <= 14


def trained(tmp_path: Path, *, anchored: bool) -> tuple[list[float], list[float]]:
    """Losses of an answer and of an anchor before and after training on the answer, with or without the anchor."""
    model = LanguageModel.load("tiny")
    torch.manual_seed(0)
    peft_model = get_peft_model(model.model, LoraConfig(r=4, target_modules=ATTENTION_AND_MLP, task_type="CAUSAL_LM"))
    told = make_rows(model, [Pair("steal it", "No.", None, 1.0, "unsafe", "own")], answer_tokens=8)
    kept = make_rows(model, [Pair("bake it", "", None, 1.0, "harmless", "chat")], answer_tokens=8)

    def losses() -> list[float]:
        rows = told + kept
        prefix = shared_prefix(rows)
        with torch.no_grad():
            found: list[float] = row_losses(peft_model, prefix, batch_of(rows, prefix), opening=1).own_B.tolist()
        return found

    before = losses()
    rows = (told + kept if anchored else told * 2) * 60
    train_supervised(
        peft_model, rows, pad=0, opening=1, anchor_weight=HEAVIEST, limit=0.0, rate=1e-2, batch=4, seed=0,
        scratch=tmp_path / str(anchored),
    )  # fmt: skip
    return before, losses()


def test_training_learns_the_answer_and_an_anchor_holds_the_rest(tmp_path: Path) -> None:
    before, free = trained(tmp_path, anchored=False)
    assert free[0] < before[0] - 1
    _, held = trained(tmp_path, anchored=True)
    assert held[1] < free[1] * 0.9


def test_without_rows_nothing_is_trained(adapted: object, tmp_path: Path) -> None:
    settings = {"pad": 0, "opening": 1, "anchor_weight": 1.0, "limit": 0.05, "rate": 1e-2, "batch": 4, "seed": 0}
    assert train_supervised(adapted, [], **settings, scratch=tmp_path) == {}  # type: ignore[arg-type]
