"""A forward pass that scores answers, and nothing else, for the preference trainers. Needs torch.

TRL runs prompt and answer twice a pair, once for the chosen and once for the rejected answer, and scores every
position against the whole vocabulary. Here the prompt of a pair is run once, with both answers behind it that do not
see each other, and only the answers' positions meet the vocabulary. The result is the same (a test says so).
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from trl.trainer.utils import FusedCausalLMOutput

# Decoder-only, every layer full attention, no scaling of the logits: what is done here is right for these.
SHARING_TYPES = ("llama", "qwen2", "qwen3", "smollm3")
SHARING_ATTENTION = ("sdpa", "eager")  # these take any mask
KEPT_LOGITS = 2**28  # logits (1 GB of float32) kept for the backward pass; above, slices are computed twice
IGNORED = -100


def can_share(model: Any) -> bool:
    """True where `score_answers_only` is known to be right for a model (without its PEFT wrapper)."""
    config = model.config
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in SHARING_TYPES
        and config._attn_implementation in SHARING_ATTENTION
        and layers == {"full_attention"}
    )


def score_answers_only(model: Any, *, paired: bool) -> None:
    """Replaces what `model(..., labels=..., fused_lm_head=True)` does, in the form that TRL's trainers expect.

    Takes input_ids, attention_mask, labels [B, T], padded on the right, labels -100 outside the answers. `paired`:
    rows b and B/2 + b have one prompt. Gives `log_probs` [B, T-1] in nats, zero outside the answers; the fields that
    TRL only logs are zero. Without `fused_lm_head` the model is as it was.
    """
    before = model.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return before(*args, **kwargs)
        ids_BT, labels_BT = kwargs["input_ids"], kwargs["labels"]
        if paired:
            log_probs_BT = _shared_prompts(self, ids_BT, kwargs["attention_mask"], labels_BT)
        else:
            hidden_BTD = self.model(input_ids=ids_BT, attention_mask=kwargs["attention_mask"], use_cache=False)[0]
            answers_BT = labels_BT[:, 1:] != IGNORED
            own_N = _label_log_probs(self, hidden_BTD[:, :-1][answers_BT], labels_BT[:, 1:][answers_BT])
            log_probs_BT = _placed(own_N, answers_BT)
        zero_BT = torch.zeros_like(log_probs_BT)
        return FusedCausalLMOutput(log_probs=log_probs_BT, entropy=zero_BT, mean_logits=zero_BT, is_top1=zero_BT.bool())

    model.forward = types.MethodType(forward, model)


def _shared_prompts(model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """[B, T-1]. A pair becomes one row: the prompt without its last token, then that token and the chosen answer,
    then that token and the rejected one, at the positions that they have in rows of their own."""
    half = len(ids_BT) // 2
    lengths = mask_BT.sum(dim=1).tolist()
    begins = (labels_BT != IGNORED).int().argmax(dim=1).tolist()  # where the answer begins
    if min(begins) < 1:
        raise ValueError("a row of the batch has no answer behind its prompt; leave such rows out")
    rows, positions, segments = [], [], []
    for b in range(half):
        prompt = begins[b] - 1
        row, position, segment = [ids_BT[b, :prompt]], [torch.arange(prompt)], [torch.zeros(prompt)]
        for which, r in ((1, b), (2, half + b)):
            own = lengths[r] - begins[r]
            # The answer's last token predicts nothing, so it is not run.
            row.append(ids_BT[r, prompt : prompt + own])
            position.append(torch.arange(prompt, prompt + own))
            segment.append(torch.full((own,), float(which)))
        rows.append(torch.cat(row))
        positions.append(torch.cat(position))
        segments.append(torch.cat(segment))
    pad = torch.nn.utils.rnn.pad_sequence
    device = ids_BT.device
    packed_BL = pad(rows, batch_first=True)
    position_BL = pad(positions, batch_first=True).to(device)
    segment_BL = pad(segments, batch_first=True, padding_value=3.0).to(device)
    length = packed_BL.shape[1]
    seen_BLL = (segment_BL[:, None, :] == 0) | (segment_BL[:, None, :] == segment_BL[:, :, None])
    seen_BLL &= torch.ones(length, length, dtype=torch.bool, device=device).tril()
    dtype = model.dtype
    bias_B1LL = torch.zeros(seen_BLL.shape, dtype=dtype, device=device).masked_fill(~seen_BLL, torch.finfo(dtype).min)
    hidden_BLD = model.model(
        input_ids=packed_BL, attention_mask=bias_B1LL[:, None], position_ids=position_BL, use_cache=False
    )[0]
    answers_BT = labels_BT[:, 1:] != IGNORED
    # In the order of `labels_BT[:, 1:][answers_BT]`: all chosen answers, then all rejected ones.
    hidden_ND = torch.cat([hidden_BLD[segment_BL == 1], hidden_BLD[segment_BL == 2]])
    return _placed(_label_log_probs(model, hidden_ND, labels_BT[:, 1:][answers_BT]), answers_BT)


def _label_log_probs(model: Any, hidden_ND: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """[N] log-probability of each label. Memory-bounded: above KEPT_LOGITS, slices are computed again backwards."""

    def score(hidden_nD: torch.Tensor, labels_n: torch.Tensor) -> torch.Tensor:
        return -cross_entropy(model.get_output_embeddings()(hidden_nD).float(), labels_n, reduction="none")

    size = max(1, KEPT_LOGITS // model.config.vocab_size)
    if len(labels_N) <= size:
        return score(hidden_ND, labels_N)
    slices = zip(hidden_ND.split(size), labels_N.split(size), strict=True)
    return torch.cat([checkpoint(score, h, own, use_reentrant=False) for h, own in slices])


def _placed(own_N: torch.Tensor, where_BT: torch.Tensor) -> torch.Tensor:
    return torch.zeros(where_BT.shape, dtype=own_N.dtype, device=own_N.device).masked_scatter(where_BT, own_N)
