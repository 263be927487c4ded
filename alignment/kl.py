"""How far the learner has moved from its base model: exact KL, in nats, along the learner's own answers.

For a prompt x and an answer y of T tokens, the KL of an answer is

    sum over t of sum over v of p(v | x, y_<t) (log p(v | x, y_<t) - log q(v | x, y_<t)),

p the learner, q the same model without its adapter, v the whole vocabulary. By the chain rule of KL, its mean over
answers sampled from p at temperature 1 is an unbiased estimate of KL(p || q) of whole answers, and varies less than
the mean log-ratio. Along greedy or cut answers, as probes have them, it is the KL met on the way (ours). The answers
are read from their text, so the choice to stop is not counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alignment.language_model import LanguageModel, Prompt
from alignment.metrics.bootstrap import bootstrap_interval
from alignment.metrics.result import measured, not_computable, same_length
from alignment.records import Metric

if TYPE_CHECKING:
    import torch

PER_ANSWER, PER_TOKEN = "kl_to_base", "kl_to_base_per_token"
SCALING = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
HELD_LOGITS = 2**24  # logits of either model held at once: 64 MB of float32


def kl_to_base(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    *,
    groups: Sequence[str] = (),
    per_group: int = 0,
    seed: int = 0,
    model_name: str = "new",
) -> list[Metric]:
    """`kl_to_base` and `kl_to_base_per_token` of all answers (group "") and of each of `groups` (one name an answer).

    `per_group` above 0 reads that many answers of each group, drawn by `seed`: reading costs two forward passes an
    answer. Both are 0 for a model without an adapter.
    """
    names = list(groups) or [""] * len(answers)
    if len(prompts) != len(answers) or len(names) != len(answers):
        raise ValueError(f"{len(prompts)} prompts, {len(names)} groups for {len(answers)} answers; pass one per answer")
    scaled = [name for name in SCALING if getattr(model.model.config, name, None) not in (None, 1)]
    if scaled:
        why = f"this kind of model changes its logits after its head ({scaled[0]}), which is not read here"
        return [not_computable(name, why, model=model_name) for name in (PER_ANSWER, PER_TOKEN)]
    kept = list(range(len(answers)))
    if per_group > 0:
        rng = random.Random(f"{seed}:kl")
        of = {name: [i for i in kept if names[i] == name] for name in dict.fromkeys(names)}
        kept = sorted(i for own in of.values() for i in rng.sample(own, min(per_group, len(own))))
    tokens = token_kl(model, [prompts[i] for i in kept], [answers[i] for i in kept])
    return kl_metrics(
        [own.sum() for own in tokens], [len(own) for own in tokens], [names[i] for i in kept],
        seed=seed, model_name=model_name,
    )  # fmt: skip


def kl_metrics(
    nats: Sequence[float], tokens: Sequence[int], groups: Sequence[str], *, seed: int = 0, model_name: str = "new"
) -> list[Metric]:
    """Two metrics for the whole and for each group: mean nats an answer, and all nats over all tokens; both >= 0.

    `nats` [n] and `tokens` [n] of each answer; answers without a token are left out. Intervals: bootstrap over
    answers. No answer: no value.
    """
    nats_N, tokens_N = np.asarray(nats, dtype=np.float64), np.asarray(tokens, dtype=np.int64)
    same_length(nats=nats_N, tokens=tokens_N, groups=np.asarray(groups, dtype=object))
    found = []
    for group in dict.fromkeys(["", *groups]):
        own = [i for i, name in enumerate(groups) if tokens_N[i] and group in ("", name)]
        x, t = nats_N[own], tokens_N[own]
        if not len(x):
            why = "the learner gave no answer with a token in it"
            found += [not_computable(name, why, group=group, model=model_name) for name in (PER_ANSWER, PER_TOKEN)]
            continue
        mean, rate = _mean_of(x, np.ones_like(x)), _mean_of(x, t.astype(np.float64))
        for name, value, statistic in (
            (PER_ANSWER, x.mean(), mean),
            (PER_TOKEN, x.sum() / t.sum(), rate),
        ):
            interval = bootstrap_interval(statistic, len(x), seed=seed)
            found.append(measured(name, value, interval, len(x), seed=seed, group=group, model=model_name))
    return found


def _mean_of(x: NDArray[np.float64], per: NDArray[np.float64]) -> Any:
    return lambda indices: float(x[indices].sum() / per[indices].sum())


def token_kl(
    model: LanguageModel, prompts: Sequence[Prompt], answers: Sequence[str], *, batch: int = 8
) -> list[NDArray[np.float64]]:
    """KL(learner || base) in nats at each token of each answer, in the order given; [tokens] an answer."""
    import torch

    own = [model.tokenizer(answer, add_special_tokens=False).input_ids for answer in answers]
    rows = [model.prompt_ids(prompt) + ids for prompt, ids in zip(prompts, own, strict=True)]
    causal = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(rows)
    order = sorted((i for i in range(len(rows)) if own[i]), key=lambda i: len(rows[i]))

    def states(part: list[int]) -> torch.Tensor:
        """[N, D]: where each answer token was chosen, one answer after the other."""
        ids_BT, mask_BT = model.pad([rows[i] for i in part])
        last_BTD = causal.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
        return torch.cat([last_BTD[b, -len(own[i]) - 1 : -1] for b, i in enumerate(part)])

    was_training = model.model.training
    model.model.eval()
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        with torch.inference_mode():
            learner_ND = states(part)
            with model.base():
                base_ND = states(part)
            kl_N = _slices(causal, learner_ND, base_ND)
        at = 0
        for i in part:
            found[i] = kl_N[at : at + len(own[i])]
            at += len(own[i])
    model.model.train(was_training)
    return found


def _slices(causal: Any, learner_ND: torch.Tensor, base_ND: torch.Tensor) -> NDArray[np.float64]:
    """[N] from the last hidden states; neither model's logits are ever held for more than HELD_LOGITS numbers."""
    import torch

    head = causal.get_output_embeddings()
    size = max(1, HELD_LOGITS // head.weight.shape[0])
    parts = []
    for p_ND, q_ND in zip(learner_ND.split(size), base_ND.split(size), strict=True):
        log_p_NV, log_q_NV = head(p_ND).float().log_softmax(-1), head(q_ND).float().log_softmax(-1)
        parts.append((log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1).clamp(min=0))  # rounding can go below 0
    return torch.cat(parts).double().cpu().numpy()
