"""Lets a small model learn *when* to decline, along what it already knows (ours).

Supervised training on a few dozen answers finds the easy way first: decline everything. Yet the model's
middle layers separate unsafe prompts from harmless look-alikes linearly. So the first rows of LoRA's A in
the upper layers start as directions that separate the two kinds: what training does along them acts with one
sign on unsafe prompts and with the other on harmless ones. A linear probe first, then training of everything,
carries over to other prompts better than either (Kumar et al. 2022). B starts at zero, so that the model is
unchanged at first. A competence round leaves those rows and their columns of B alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from alignment.language_model import LanguageModel

AVERAGED = "v_proj"  # whose output attention averages over the prompt; what the other readers see counts at its end
READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # modules whose input is the residual stream
GAIN = 4.0  # how far apart the classes lie along the new rows, in spreads of LoRA's own random rows
RIDGE = 0.7  # shrinkage of the pooled covariance towards its diagonal; measured on prompts of unseen styles
LINE = 0.6  # where the sign changes, between the mean harmless prompt (0) and the mean unsafe one (1)
LEAST = 8  # prompts of either kind, below which there is no telling the kinds apart


def is_reader(name: str, layers: int) -> bool:
    """True for a module that reads the residual stream above a third of the depth."""
    parts = name.split(".")
    layer = next((int(part) for part in parts if part.isdigit()), -1)
    return parts[-1] in READERS and layer >= layers // 3


def set_contrast_rows(
    model: LanguageModel, peft_model: Any, unsafe: Sequence[str], harmless: Sequence[str], *, rows: int, seed: int
) -> int:
    """Sets the first `rows` rows of every reader's lora_A; returns how many modules were set.

    Each row is a linear discriminant (shrunken covariance, one bootstrap draw of the prompts a row) on the
    module's own inputs: at the last token before the answer, or for `AVERAGED` their mean over the prompt, which tells
    the kinds apart better than any one token. 0 where there are too few prompts of a kind.
    """
    if min(len(unsafe), len(harmless)) < LEAST or rows < 1:
        return 0
    import torch

    inputs = _prompt_inputs(model, peft_model, [*unsafe, *harmless])
    truth_N = np.array([True] * len(unsafe) + [False] * len(harmless))
    directions: dict[str, np.ndarray] = {}
    count = 0
    for name, module in peft_model.named_modules():
        if not hasattr(module, "lora_A") or not is_reader(name, model.layers):
            continue
        source = _source(name)
        x_ND = inputs[source]
        if source not in directions:
            directions[source] = _discriminants(x_ND, truth_N, rows=rows, seed=seed)
        weight = module.lora_A["default"].weight
        spread = float((x_ND @ weight.detach().float().cpu().numpy().T).std())
        along_NR = x_ND @ directions[source].T
        apart_R = along_NR[truth_N].mean(axis=0) - along_NR[~truth_N].mean(axis=0)
        scaled = directions[source] * (GAIN * spread / np.maximum(apart_R, 1e-9))[:, None]
        with torch.no_grad():
            weight[:rows] = torch.as_tensor(scaled, dtype=weight.dtype, device=weight.device)
        count += 1
    return count


def spare_contrast(peft_model: Any, *, layers: int, rows: int) -> None:
    """Keeps what a competence round trains away from the contrast rows of A and their columns of B.

    Call it on freshly loaded weights: the masks stay with the parameters.
    """
    for name, module in peft_model.named_modules():
        if hasattr(module, "lora_A") and is_reader(name, layers):
            module.lora_A["default"].weight.register_hook(partial(_without, axis=0, start=0, stop=rows))
            module.lora_B["default"].weight.register_hook(partial(_without, axis=1, start=0, stop=rows))


def _without(gradient: Any, *, axis: int, start: int, stop: int) -> Any:
    kept = gradient.clone()
    kept.narrow(axis, start, stop - start).zero_()
    return kept


def _discriminants(x_ND: np.ndarray, truth_N: np.ndarray, *, rows: int, seed: int) -> np.ndarray:
    """[rows, D]: (S + ridge)^-1 (mean unsafe - mean harmless) of bootstrap draws, without their part along a point
    between the classes. LoRA has no bias: so a clearly unsafe prompt gives a positive product, any other a negative.
    The point lies nearer to the unsafe, because prompts of unseen styles look more unsafe than they are (measured)."""
    rng = np.random.default_rng(seed)
    unsafe, harmless = np.flatnonzero(truth_N), np.flatnonzero(~truth_N)
    found = []
    for _ in range(rows):
        one, other = x_ND[rng.choice(unsafe, len(unsafe))], x_ND[rng.choice(harmless, len(harmless))]
        mean_1, mean_0 = one.mean(axis=0), other.mean(axis=0)
        centred = np.concatenate([one - mean_1, other - mean_0])
        covariance = centred.T @ centred / len(centred)
        diagonal = np.diag(covariance).copy()
        shrunk = (1 - RIDGE) * covariance + RIDGE * np.diag(diagonal) + 1e-6 * diagonal.mean() * np.eye(len(diagonal))
        found.append(np.linalg.solve(shrunk, mean_1 - mean_0))
    rows_RD = np.stack(found)
    middle_D = LINE * x_ND[truth_N].mean(axis=0) + (1 - LINE) * x_ND[~truth_N].mean(axis=0)
    centred_RD: np.ndarray = rows_RD - np.outer(rows_RD @ middle_D / (middle_D @ middle_D), middle_D)
    return centred_RD


def _source(module: str) -> str:
    """Which inputs a reader's rows are found on: all readers of one block read the same, at other tokens."""
    block, _, reader = module.rpartition(".")
    return f"{block} mean" if reader == AVERAGED else block


def _prompt_inputs(model: LanguageModel, peft_model: Any, prompts: list[str]) -> dict[str, np.ndarray]:
    """Block name ("...layers.12.mlp") -> its input at the last prompt token, and "...layers.12.self_attn mean" -> the
    mean of it over the prompt's own tokens (without those that all prompts share); [N, D] in the prompts' order."""
    import torch

    from alignment.answer_log_probs import can_share
    from alignment.supervised import Row, collate, run_after_prefix, shared_prefix

    seen: dict[str, torch.Tensor] = {}  # of the forward pass that ran last

    def keep(name: str, module: Any, args: tuple[Any, ...]) -> None:
        seen[name] = args[0]

    first = ("q_proj", "gate_proj")  # one reader a block is enough to see what all its readers get
    handles = [
        module.register_forward_pre_hook(partial(keep, name.rpartition(".")[0]))
        for name, module in peft_model.named_modules()
        if hasattr(module, "lora_A") and is_reader(name, model.layers) and name.endswith(first)
    ]
    base = peft_model.get_base_model()
    rows = [Row(model.prompt_ids(p), [], 1.0) for p in prompts]
    prefix = shared_prefix(rows) if can_share(base) else []
    ending = len(shared_prefix([Row(r.prompt_ids[::-1], [], 1.0) for r in rows]))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt_ids))
    found: dict[str, list[np.ndarray]] = {}
    try:
        for start in range(0, len(order), 24):
            part = [rows[i] for i in order[start : start + 24]]
            batch = collate([vars(r) for r in part], prefix=len(prefix), pad=model.tokenizer.pad_token_id)
            batch = {name: value.to(model.device) for name, value in batch.items()}
            with torch.inference_mode(), peft_model.disable_adapter():
                run_after_prefix(base, prefix, batch["input_ids"], batch["attention_mask"])
            begins_B = batch["begins"]
            at_B = torch.arange(len(begins_B), device=model.device)
            places_T = torch.arange(batch["input_ids"].shape[1], device=model.device)
            own_BT = (places_T <= (begins_B - ending).clamp(min=0)[:, None]).double()
            for name, input_BTD in seen.items():
                found.setdefault(name, []).append(input_BTD[at_B, begins_B].double().cpu().numpy())
                if name.endswith("self_attn"):
                    mean_BD = (input_BTD.double() * own_BT[..., None]).sum(dim=1) / own_BT.sum(dim=1, keepdim=True)
                    found.setdefault(f"{name} mean", []).append(mean_BD.cpu().numpy())
    finally:
        for handle in handles:
            handle.remove()
    back = np.argsort(order)
    return {name: np.concatenate(parts)[back] for name, parts in found.items()}
