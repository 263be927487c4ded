"""Starts an adapter where the model already tells unsafe requests from harmless ones (ours).

Supervised training on a few dozen answers finds the easy way first: decline everything. Yet the model's
middle layers separate unsafe prompts from look-alikes linearly. So the first rows of LoRA's A in the upper
layers are set to directions that separate this round's own prompts; B stays zero, hence the model is
unchanged at the start, but the first gradients can already tell the two kinds apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.heads import fit_head

if TYPE_CHECKING:
    from alignment.language_model import LanguageModel

READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # modules whose input is the residual stream
GAIN = 4.0  # how far apart the classes lie along the new rows, in spreads of LoRA's own random rows
STRENGTH = 0.01


def set_contrast_rows(
    model: LanguageModel, peft_model: Any, unsafe: Sequence[str], harmless: Sequence[str], *, rows: int, seed: int
) -> int:
    """Sets `rows` rows of every reader's lora_A above a third of the depth; returns how many modules were set.

    Each row is the ridge-logistic direction of a bootstrap draw of the prompts, on the module's own inputs at
    the last token before the answer. With fewer than 8 prompts of either kind nothing is done.
    """
    if min(len(unsafe), len(harmless)) < 8 or rows < 1:
        return 0
    import torch

    inputs = _last_token_inputs(model, peft_model, [*unsafe, *harmless])
    truth = np.array([1.0] * len(unsafe) + [0.0] * len(harmless))
    rng = np.random.default_rng(seed)
    draws = [rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth))).astype(float) for _ in range(rows)]
    directions: dict[str, np.ndarray] = {}
    count = 0
    for name, module in peft_model.named_modules():
        if name.rsplit(".", 1)[-1] not in READERS or not hasattr(module, "lora_A"):
            continue
        source = name.rsplit(".", 1)[0]  # all readers of one block read the same input
        if source not in inputs:
            continue
        x_ND = inputs[source]
        if source not in directions:
            heads = [fit_head(x_ND, truth, draw, strength=STRENGTH) for draw in draws]
            directions[source] = np.stack([h.coef_D / h.scale_D for h in heads])
        weight = module.lora_A["default"].weight
        own_spread = float((x_ND @ weight[rows:].detach().float().cpu().numpy().T).std())
        along = x_ND @ directions[source].T
        apart = np.abs(along[truth == 1].mean(axis=0) - along[truth == 0].mean(axis=0))
        scaled = directions[source] * (GAIN * own_spread / np.maximum(apart, 1e-9))[:, None]
        with torch.no_grad():
            weight[:rows] = torch.as_tensor(scaled, dtype=weight.dtype, device=weight.device)
        count += 1
    return count


def _last_token_inputs(model: LanguageModel, peft_model: Any, prompts: list[str]) -> dict[str, np.ndarray]:
    """Block name ("...layers.12.mlp") -> its input at the last prompt token, [N, D], for the upper layers."""
    import torch

    found: dict[str, list[np.ndarray]] = {}
    handles = []

    def keep(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            found.setdefault(name, []).append(args[0][:, -1].detach().float().cpu().numpy())

        return hook

    for name, module in peft_model.named_modules():
        parent, _, leaf = name.rpartition(".")
        if leaf in ("q_proj", "gate_proj") and hasattr(module, "lora_A"):
            layer = next((int(part) for part in parent.split(".") if part.isdigit()), 0)
            if layer >= model.layers // 3:
                handles.append(module.register_forward_pre_hook(keep(parent)))
    try:
        encoded = [model.prompt_ids(p) for p in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        for start in range(0, len(order), 24):
            ids_BT, mask_BT = model.pad([encoded[i] for i in order[start : start + 24]])
            with torch.inference_mode():
                peft_model.get_base_model().model(input_ids=ids_BT, attention_mask=mask_BT)
    finally:
        for handle in handles:
            handle.remove()
    back = np.argsort(order)
    return {name: np.concatenate(parts)[back] for name, parts in found.items()}
