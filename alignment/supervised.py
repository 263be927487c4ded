"""Supervised training of what to say, held to the base model where nothing should change. Needs torch.

Whether to decline is one decision, at the first token of the answer: the shared openings of a refusal begin with a
token that the base model hardly ever begins with. Three kinds of rows (ours):
- a declining row widens the margin m = log p(opening token) - log p(likeliest other) until it is MARGIN above 0, and
  raises the likelihood of what follows the token;
- an anchor, a harmless prompt without an answer, pushes the same margin below 0, so that the request goes on being met
  without anybody writing or sampling an answer. A model that learns to say "Sorry, I can't" to some says "I'm sorry,
  but I can't" to others, and a small one begins so at random: therefore a look-alike also keeps " sorry" behind the
  likeliest other token after "I'm". Chat, where sympathy has its place, is held to the base model instead, by
  KL(base || learner) at the first token and along the beginning of another refusal (HELD_ALONG);
- any other answer raises its likelihood, its first tokens counting most.
A logistic loss on the very margin that greedy decoding reads puts the line between the kinds where it is read, and
stops pushing prompts that lie on the right side of it. How much anchors weigh follows what they show: more while too
many of them would be declined, less when none is (dual ascent on the over-refusal limit). Every row is seen once, so
that rate is one on prompts not yet learnt.
All prompts of a chat model begin with the same tokens: they are run once a batch, not once a row, and not trained on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, softplus
from transformers import DynamicCache, Trainer, TrainingArguments

from alignment.answer_log_probs import can_share
from alignment.language_model import LanguageModel, after_turns
from alignment.records import Pair
from alignment.training import OnStep, last_loss, progress
from alignment.training_mix import OPENINGS

DECIDING = 3  # tokens at the start of an answer that count whole; those after them count as one
REPLAY_TOKENS = 5  # of a replayed answer: its opening; the round's own labels say what may follow
MARGIN = 1.0  # nats by which the opening of a refusal is to be ahead at an unsafe prompt, and behind at a harmless one
BUCKET = 8  # batches among which rows are sorted by the length of their prompt
PUSH = 0.3  # how fast the anchors' weight follows the over-refusal of a batch
LIGHTEST, HEAVIEST = 1.0, 40.0  # bounds of that weight
HELD_ALONG = ("I'm sorry,", "I'm sorry,", "I can")  # beginnings of refusals other than the shared ones, in turn
APOLOGY = ("I'm", " sorry")  # what a look-alike is not to begin with, up to the token that decides
NOTHING = -1
LEAST_PREFIX = 4  # shared tokens below which sharing is not worth its cache


@dataclass(frozen=True)
class Row:
    """Token ids. `answer_ids` is empty for an anchor; `weight` scales the row's part of the loss, an anchor's together
    with what anchors weigh. `next_ids` follow an anchor's prompt: after them `avoided` is kept behind, or, where that
    is NOTHING, it is held to the base model before and after each of them."""

    prompt_ids: list[int]
    answer_ids: list[int]
    weight: float
    next_ids: list[int] = field(default_factory=list)
    avoided: int = NOTHING


def make_rows(
    model: LanguageModel, pairs: Sequence[Pair], *, answer_tokens: int, task_weight: float = 1.0
) -> list[Row]:  # fmt: skip
    """One row a pair; a pair without any answer is an anchor, one with a rejected answer alone is left out.

    `task_weight` scales the loss of tasks' answers. An answer is cut after `answer_tokens`, a replayed one after its
    opening; a cut one has no end-of-text token, so that stopping early is not learnt.
    """
    def tokens(text: str) -> list[int]:
        found: list[int] = model.tokenizer(text, add_special_tokens=False).input_ids
        return found

    rows: list[Row] = []
    along, (begun, decides) = [tokens(text) for text in HELD_ALONG], map(tokens, APOLOGY)
    for pair in pairs:
        if pair.rejected and not pair.chosen:
            continue
        prompt = model.prompt_ids(after_turns(pair.history, pair.prompt))
        if not pair.chosen:
            if pair.source == "chat":
                rows.append(Row(prompt, [], 1.0, along[len(rows) % len(along)]))
            else:
                rows.append(Row(prompt, [], 1.0, begun, decides[0]))
            continue
        answer = [*tokens(pair.chosen), model.tokenizer.eos_token_id]
        kept = min(answer_tokens, REPLAY_TOKENS) if pair.source == "replay" else answer_tokens
        rows.append(Row(prompt, answer[:kept], task_weight if pair.kind == "competence" else 1.0))
    return rows


def opening_token(model: LanguageModel) -> int:
    """The first token of the shared openings of a refusal."""
    first: int = model.tokenizer(OPENINGS[0], add_special_tokens=False).input_ids[0]
    return first


def shared_prefix(rows: Sequence[Row]) -> list[int]:
    """The tokens that all prompts begin with; every prompt keeps at least one token of its own."""
    if not rows:
        return []
    shortest, longest = min(r.prompt_ids for r in rows), max(r.prompt_ids for r in rows)
    length = 0
    while length < min(len(shortest), len(longest)) - 1 and shortest[length] == longest[length]:
        length += 1
    length = min(length, min(len(r.prompt_ids) for r in rows) - 1)
    return shortest[:length] if length >= LEAST_PREFIX else []


def run_after_prefix(model: Any, prefix: Sequence[int], ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """[B, T, D] last hidden states of rows that follow `prefix`, padded on the right; no gradient flows through it.

    `model` is a causal model without its PEFT wrapper. The same as running prefix and row together (a test says so).
    """
    if not prefix:
        hidden_BTD: torch.Tensor = model.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)[0]
        return hidden_BTD
    rows, length = ids_BT.shape
    head_1P = torch.tensor([list(prefix)], device=ids_BT.device)
    with torch.no_grad():
        run = model.model(input_ids=head_1P, use_cache=True).past_key_values
    cache = DynamicCache()
    for number, layer in enumerate(run.layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    whole_BT = torch.cat([torch.ones(rows, len(prefix), dtype=mask_BT.dtype, device=mask_BT.device), mask_BT], dim=1)
    position_BT = torch.arange(len(prefix), len(prefix) + length, device=ids_BT.device)[None].expand(rows, -1)
    hidden_BTD = model.model(
        input_ids=ids_BT, attention_mask=whole_BT, position_ids=position_BT, past_key_values=cache, use_cache=True
    )[0]
    return hidden_BTD


@dataclass(frozen=True)
class Losses:
    """Of a batch. `own_B` in nats; `anchors_B` which rows are anchors; `declined` how many of these begin with the
    opening token of a refusal."""

    own_B: torch.Tensor
    anchors_B: torch.Tensor
    declined: int


def row_losses(peft_model: Any, prefix: Sequence[int], batch: dict[str, torch.Tensor], *, opening: int) -> Losses:
    """With m = log p(opening) - log p(likeliest other) at the first token of the answer:

    an anchor's loss is softplus(m + MARGIN), plus the same of `avoided` after `next_ids`, or where it is held the sum
    of KL(base || learner) before and after each of these; that of an answer that begins with `opening` softplus(MARGIN
    - m) plus the mean over its other tokens; that of any other answer the sum over its first DECIDING tokens and the
    mean over the rest. `opening` is the first token of a refusal.
    """
    model = peft_model.get_base_model()
    hidden_BTD = run_after_prefix(model, prefix, batch["input_ids"], batch["attention_mask"])
    labels_BT, begins_B = batch["labels"], batch["begins"]
    rows_B = torch.arange(len(labels_BT), device=labels_BT.device)
    answers_BT = labels_BT != -100
    anchors_B = ~answers_BT.any(dim=1)
    first_BV = model.lm_head(hidden_BTD[rows_B, begins_B]).float().log_softmax(dim=-1)
    margin_B = _margin(first_BV, torch.full_like(begins_B, opening))
    losses_B = softplus(margin_B + MARGIN)
    if answers_BT.any():
        declining_B = labels_BT[rows_B, (begins_B + 1).clamp(max=labels_BT.shape[1] - 1)] == opening
        told_BT = _answer_nats(model, hidden_BTD, labels_BT)
        place_BT = answers_BT.cumsum(dim=1)
        deciding_B = torch.where(declining_B, 1, DECIDING)[:, None]
        later_BT = answers_BT & (place_BT > deciding_B)
        rest_B = (told_BT * later_BT).sum(dim=1) / later_BT.sum(dim=1).clamp(min=1)
        decided_B = torch.where(
            declining_B, softplus(MARGIN - margin_B), (told_BT * (answers_BT & ~later_BT)).sum(dim=1)
        )
        losses_B = torch.where(anchors_B, losses_B, decided_B + rest_B)
    avoiding_B = batch["avoided"] != NOTHING
    if avoiding_B.any():
        last_A = (begins_B + batch["next"])[avoiding_B]
        after_AV = model.lm_head(hidden_BTD[avoiding_B, last_A]).float().log_softmax(dim=-1)
        kept_A = softplus(_margin(after_AV, batch["avoided"][avoiding_B]) + MARGIN)
        losses_B = losses_B.masked_scatter(avoiding_B, losses_B[avoiding_B] + kept_A)
    held_B = anchors_B & ~avoiding_B & (batch["next"] > 0)
    if held_B.any():
        held = {name: value[held_B] for name, value in batch.items()}
        kl_H = _kl_along(peft_model, prefix, held, hidden_BTD[held_B])
        losses_B = losses_B.masked_scatter(held_B, losses_B[held_B] + kl_H)
    return Losses(losses_B, anchors_B, int(((margin_B > 0) & anchors_B).sum()))


def _kl_along(
    peft_model: Any, prefix: Sequence[int], batch: dict[str, torch.Tensor], hidden_BTD: torch.Tensor
) -> torch.Tensor:  # fmt: skip
    """[B] sum of KL(base || learner) at the token after the prompt and after each of `next_ids`."""
    model = peft_model.get_base_model()
    with torch.no_grad(), peft_model.disable_adapter():
        base_BTD = run_after_prefix(model, prefix, batch["input_ids"], batch["attention_mask"])
    begins_B1, last_B1 = batch["begins"][:, None], (batch["begins"] + batch["next"])[:, None]
    places_T = torch.arange(hidden_BTD.shape[1], device=hidden_BTD.device)
    looked_BT = (places_T >= begins_B1) & (places_T <= last_B1)
    with torch.no_grad():
        base_NV = model.lm_head(base_BTD[looked_BT]).float().log_softmax(dim=-1)
    own_NV = model.lm_head(hidden_BTD[looked_BT]).float().log_softmax(dim=-1)
    kl_N = (base_NV.exp() * (base_NV - own_NV)).sum(dim=-1)
    return torch.zeros(looked_BT.shape, device=kl_N.device).masked_scatter(looked_BT, kl_N).sum(dim=1)


def _margin(log_BV: torch.Tensor, token_B: torch.Tensor) -> torch.Tensor:
    """[B] log p(token) - log p(likeliest other)."""
    own_B = log_BV.gather(1, token_B[:, None])[:, 0]
    margin_B: torch.Tensor = own_B - log_BV.scatter(1, token_B[:, None], -torch.inf).amax(dim=-1)
    return margin_B


def _answer_nats(model: Any, hidden_BTD: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """[B, T] -log p of each answer token, 0 elsewhere."""
    answers_BT = labels_BT != -100
    logits_NV = model.lm_head(hidden_BTD[:, :-1][answers_BT[:, 1:]]).float()
    nats_BT = torch.zeros(labels_BT.shape, device=hidden_BTD.device)
    nats_BT[:, 1:] = nats_BT[:, 1:].masked_scatter(
        answers_BT[:, 1:], cross_entropy(logits_NV, labels_BT[answers_BT], reduction="none")
    )
    return nats_BT


def next_weight(weight: float, declined: int, anchors: int, *, limit: float) -> float:
    """The anchors' weight after a batch of which `declined` of `anchors` would be declined; at most `limit` should."""
    if not anchors:
        return weight
    return min(HEAVIEST, max(LIGHTEST, weight * math.exp(PUSH * (declined / anchors - limit))))


def in_batches(lengths: Sequence[int], *, batch: int, seed: int) -> list[int]:
    """An order of rows in which those of a batch have prompts of like length, whatever their kind: rows are shuffled,
    and sorted only within BUCKET batches, so that every batch is a mix of kinds."""
    rng = random.Random(seed)
    order = rng.sample(range(len(lengths)), len(lengths))
    batches = []
    for start in range(0, len(order), batch * BUCKET):
        bucket = sorted(order[start : start + batch * BUCKET], key=lambda i: lengths[i])
        batches += [bucket[i : i + batch] for i in range(0, len(bucket), batch)]
    whole = [own for own in batches if len(own) == batch]
    rng.shuffle(whole)
    return [i for own in [*whole, *(own for own in batches if len(own) < batch)] for i in own]


def collate(rows: Sequence[dict[str, Any]], *, prefix: int, pad: int) -> dict[str, torch.Tensor]:
    """A batch padded on the right, without the prefix. `begins`: the last prompt token, which predicts the answer."""
    length = max(len(r["prompt_ids"]) + len(r["answer_ids"]) + len(r["next_ids"]) for r in rows) - prefix
    ids, mask, labels = [], [], []
    for row in rows:
        own = [*row["prompt_ids"][prefix:], *row["answer_ids"], *row["next_ids"]]
        gap = length - len(own)
        ids.append(own + [pad] * gap)
        mask.append([1] * len(own) + [0] * gap)
        untold = [-100] * (gap + len(row["next_ids"]))
        labels.append([-100] * (len(row["prompt_ids"]) - prefix) + row["answer_ids"] + untold)
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
        "begins": torch.tensor([len(r["prompt_ids"]) - prefix - 1 for r in rows]),
        "weight": torch.tensor([r["weight"] for r in rows]),
        "next": torch.tensor([len(r["next_ids"]) for r in rows]),
        "avoided": torch.tensor([r["avoided"] for r in rows]),
    }


class _SupervisedTrainer(Trainer):
    prefix: list[int]
    opening: int
    anchor_weight: float
    limit: float

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:  # fmt: skip
        found = row_losses(self.accelerator.unwrap_model(model), self.prefix, inputs, opening=self.opening)
        weight_B = torch.where(found.anchors_B, inputs["weight"] * self.anchor_weight, inputs["weight"])
        loss = (found.own_B * weight_B).sum() / weight_B.sum()
        self.anchor_weight = next_weight(
            self.anchor_weight, found.declined, int(found.anchors_B.sum()), limit=self.limit
        )
        return (loss, {}) if return_outputs else loss


def train_supervised(
    peft_model: Any, rows: Sequence[Row], *, pad: int, opening: int, anchor_weight: float, limit: float, rate: float,
    batch: int, seed: int, scratch: Path, on_step: OnStep = lambda step, loss: None,
) -> dict[str, float]:  # fmt: skip
    """One pass over `rows`. `anchor_weight` is what anchors weigh at first, `limit` the share of them that may be
    declined. Returns the last batch's `sft_loss` in nats and the `anchor_weight` at the end; {} without rows."""
    if not rows:
        return {}
    from datasets import Dataset

    prefix = shared_prefix(rows) if can_share(peft_model.get_base_model()) else []
    order = in_batches([len(r.prompt_ids) for r in rows], batch=batch, seed=seed)
    steps = -(-len(rows) // batch)
    arguments: Any = TrainingArguments(
        output_dir=str(scratch), per_device_train_batch_size=batch, num_train_epochs=1, learning_rate=rate,
        warmup_steps=max(1, steps // 12), lr_scheduler_type="cosine", max_grad_norm=1.0, weight_decay=0.0,
        train_sampling_strategy="sequential", remove_unused_columns=False, save_strategy="no", report_to="none",
        logging_steps=1, disable_tqdm=True, seed=seed, use_cpu=next(peft_model.parameters()).device.type == "cpu",
        bf16=False, fp16=False, gradient_checkpointing=False, dataloader_num_workers=0, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = _SupervisedTrainer(
        model=peft_model, args=arguments,
        train_dataset=Dataset.from_list([vars(rows[i]) for i in order]),
        data_collator=lambda own: collate(own, prefix=len(prefix), pad=pad), callbacks=[progress(on_step)],
    )  # fmt: skip
    trainer.prefix, trainer.opening, trainer.anchor_weight, trainer.limit = prefix, opening, anchor_weight, limit
    trainer.train()
    return {"sft_loss": last_loss(trainer), "anchor_weight": trainer.anchor_weight}
