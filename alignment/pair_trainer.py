"""TRL's DPOTrainer with three things of ours: noise a pair, the reference computed once, batches of like length.

Needs torch and TRL: import it inside a function. The losses are TRL's own.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from datasets import Dataset
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from alignment.answer_log_probs import IGNORED, can_share, score_answers_only

REFERENCE_BATCH = 16  # pairs a forward pass of the reference: no gradients, so more fit than in training


class NoisyPairs(DataCollatorForPreference):
    """TRL's batch and `smoothing` [B], the label smoothing of each pair."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch["smoothing"] = torch.tensor([example["smoothing"] for example in examples], dtype=torch.float32)
        return batch


class PairTrainer(DPOTrainer):
    """Trains on `draws`, indices into `train_dataset`, whose rows are all different.

    A row has `prompt`, `chosen`, `rejected` (chat turns) and `smoothing` (see `PreferenceObjective.smoothing`; in use
    only under TRL's "robust" loss). The reference is the model as it is when the trainer is made: its
    log-probabilities are computed once a row, not once a step.
    """

    def __init__(self, *, draws: list[int], seed: int, **options: Any) -> None:
        tokenizer, args = options["processing_class"], options["args"]
        # Batches are made here, so they must come in this order.
        args.train_sampling_strategy = "sequential"
        collator = NoisyPairs(pad_token_id=tokenizer.pad_token_id, max_length=args.max_length)
        # TRL drops rows whose prompt fills `max_length`; `row` tells which are left.
        rows: Dataset = options.pop("train_dataset")
        rows = rows.add_column("row", list(range(len(rows))))
        super().__init__(**options, train_dataset=rows, data_collator=collator)
        base = options["model"].get_base_model()
        if can_share(base):
            score_answers_only(base, paired=True)
        unique: Any = self.train_dataset
        if not len(unique):
            raise ValueError(f"every prompt of the pairs has {args.max_length} tokens or more; none can be trained on")
        place = {row: at for at, row in enumerate(unique["row"])}
        kept = [place[row] for row in draws if row in place]
        lengths = [
            len(prompt) + len(chosen) + len(rejected)
            for prompt, chosen, rejected in zip(
                unique["prompt_ids"], unique["chosen_ids"], unique["rejected_ids"], strict=True
            )
        ]
        order = by_length(kept, lengths, batch=args.per_device_train_batch_size, seed=seed)
        self.train_dataset = self._with_reference(unique, lengths).select(order)
        self.precompute_ref_logps = True  # from here on TRL reads the two columns

    def _with_reference(self, rows: Dataset, lengths: list[int]) -> Dataset:
        found: list[tuple[float, float]] = [(0.0, 0.0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: lengths[i])
        model: Any = self.model
        training = model.training
        model.eval()
        for start in range(0, len(order), REFERENCE_BATCH):
            part = order[start : start + REFERENCE_BATCH]
            batch = self._prepare_inputs(self.data_collator([rows[i] for i in part]))
            batch.pop("smoothing")
            labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORED)
            # Not TRL's `compute_ref_log_probs`: it goes through its copy of the adapter, and PEFT frees every weight
            # of an adapter that it switches back to. The model has not moved yet, so it is its own reference.
            with torch.no_grad(), self.accelerator.autocast():
                found_2B = model(**batch, labels=labels, fused_lm_head=True, use_cache=False).log_probs.sum(dim=1)
            chosen_B, rejected_B = found_2B.chunk(2)
            for i, chosen, rejected in zip(part, chosen_B.tolist(), rejected_B.tolist(), strict=True):
                found[i] = (chosen, rejected)
        model.train(training)
        rows = rows.add_column("ref_chosen_logps", [own[0] for own in found])
        return rows.add_column("ref_rejected_logps", [own[1] for own in found])

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if "smoothing" not in columns:
            columns.append("smoothing")

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        # TRL's formula takes a number; a tensor [B] in its place gives every pair its own.
        self.label_smoothing = inputs["smoothing"]
        return super()._compute_loss(
            model, {name: value for name, value in inputs.items() if name != "smoothing"}, return_outputs
        )


def by_length(draws: list[int], lengths: list[int], *, batch: int, seed: int) -> list[int]:
    """The draws in batches of like length, the batches in random order; the last one may be short (ours).

    Less padding, at a price: pairs of like length always meet. Every draw is still used exactly once.
    """
    rng = random.Random(seed)
    shuffled = rng.sample(draws, len(draws))
    ordered = sorted(shuffled, key=lambda i: lengths[i])
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    short = [own for own in batches if len(own) < batch]
    whole = [own for own in batches if len(own) == batch]
    rng.shuffle(whole)
    return [i for own in [*whole, *short] for i in own]
