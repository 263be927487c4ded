"""Our pair trainer beside TRL's: the same loss and gradients, with prompts shared and the reference computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment import answer_log_probs as scoring
from alignment.objectives import find_objective
from alignment.preference import pair_row, pair_trainer
from alignment.records import Pair
from tests.alignment.test_objectives import PAIRS, move_adapter, options, prepared


def made(tmp_path: Path, pairs: list[Pair] = PAIRS, *, count: int = 8, **changes: Any) -> Any:
    config, model, peft_model = prepared("dpo_sft")
    settings = {**options(config, model, tmp_path, 0.1), **changes}
    return pair_trainer(find_objective("dpo_sft"), model, peft_model, pairs, settings, count=count)


def gradients(trainer: Any) -> dict[str, Any]:
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None and ".default." in name
    }


@pytest.mark.parametrize("kept", [2**28, 259 * 5])
def test_loss_and_gradients_are_those_of_the_plain_trainer(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    monkeypatch.setattr(scoring, "KEPT_LOGITS", kept)  # the second: slices of five tokens, computed twice
    quiet = [Pair(p.prompt, p.chosen, p.rejected, 1.0, p.kind, "s") for p in PAIRS]  # plain TRL knows no noise a pair
    ours = made(tmp_path, quiet)
    rows = [ours.train_dataset[i] for i in range(4)]
    move_adapter(ours.model)
    loss = ours.compute_loss(ours.model, ours.data_collator(rows))
    loss.backward()

    config, model, peft_model = prepared("dpo_sft")
    by_prompt = {pair.prompt: pair for pair in quiet}
    plain = DPOTrainer(
        model=peft_model,
        args=DPOConfig(**options(config, model, tmp_path, 0.1), loss_type=["sigmoid", "sft"]),
        train_dataset=Dataset.from_list([pair_row(by_prompt[row["prompt"][0]["content"]]) for row in rows]),
        processing_class=model.tokenizer,
    )
    with torch.no_grad():  # the same weights, and the same reference: the adapter before it moved
        for parameter, own in zip(peft_model.parameters(), ours.model.parameters(), strict=True):
            parameter.copy_(own)
    other = plain.compute_loss(plain.model, plain.data_collator([plain.train_dataset[i] for i in range(4)]))
    other.backward()

    assert loss.item() == pytest.approx(other.item(), rel=1e-5)
    expected, found = gradients(plain), gradients(ours)
    assert found and set(found) == set(expected)
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-6), name


def test_the_reference_is_computed_once_a_pair_and_only_of_those_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    inner = scoring._shared_prompts

    def counted(model: Any, ids: Any, *rest: Any) -> Any:
        seen.append(len(ids) // 2)
        return inner(model, ids, *rest)

    monkeypatch.setattr(scoring, "_shared_prompts", counted)
    heavy = [Pair(p.prompt, p.chosen, p.rejected, 9.0 if i < 2 else 0.01, p.kind, "s") for i, p in enumerate(PAIRS)]
    trainer = made(tmp_path, heavy, count=12)
    assert seen == [len({row["prompt"][0]["content"] for row in trainer.train_dataset})]
    assert len(trainer.train_dataset) == 12 and seen[0] <= 3  # two heavy pairs, and one light one at most
    trainer.args.max_steps = 3
    trainer.train()
    assert seen[1:] == [4, 4, 4]  # one forward pass a step, none for the reference


def test_freezing_survives(tmp_path: Path) -> None:
    """PEFT frees every weight of an adapter that is switched back to, which TRL's own reference pass does."""
    config, model, peft_model = prepared("dpo_sft")
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_("lora_B" in name and "q_proj" in name)
    before = {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad}
    settings = options(config, model, tmp_path, 0.1)
    pair_trainer(find_objective("dpo_sft"), model, peft_model, PAIRS, settings, count=4).train()
    assert {name for name, parameter in peft_model.named_parameters() if parameter.requires_grad} == before


def test_a_model_that_is_not_known_to_share_is_scored_by_trl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = made(tmp_path)
    rows = [shared.train_dataset[i] for i in range(4)]
    mine = shared.compute_loss(shared.model, shared.data_collator(rows)).item()
    monkeypatch.setattr(scoring, "SHARING_TYPES", ())
    other = made(tmp_path)
    assert "forward" in other.model.get_base_model().__dict__
    assert [other.train_dataset[i]["prompt_ids"] for i in range(4)] == [row["prompt_ids"] for row in rows]
    assert other.compute_loss(other.model, other.data_collator(rows)).item() == pytest.approx(mine, rel=1e-4)


def test_batches_of_like_length() -> None:
    from alignment.pair_trainer import by_length

    lengths = [5, 50, 6, 51, 7, 52, 8, 53, 500]
    draws = [*range(9), 0]
    order = by_length(draws, lengths, batch=4, seed=1)
    assert sorted(order) == sorted(draws)
    batches = [sorted(lengths[i] for i in order[start : start + 4]) for start in (0, 4)]
    assert sorted(batches) == [[5, 5, 6, 7], [8, 50, 51, 52]]
    assert [lengths[i] for i in order[8:]] == [53, 500]  # the short batch comes last
    many = [by_length(draws, lengths, batch=4, seed=seed) for seed in range(6)]
    assert len({tuple(own) for own in many}) > 1
    assert by_length(draws, lengths, batch=4, seed=1) == order


def test_prompts_that_fill_the_window_are_left_out(tmp_path: Path) -> None:
    long = Pair("x" * 600, "No.", "Yes.", 1.0, "unsafe", "s")
    trainer = made(tmp_path, [long, *PAIRS[:3]], count=8)
    assert len(trainer.train_dataset) == 6
    with pytest.raises(ValueError, match="512 tokens or more"):
        made(tmp_path, [long], count=4)
