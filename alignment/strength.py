"""How far a trained adapter goes: as far as look-alikes that it never saw stay answered (ours).

Training finds *that* a prompt should be declined sooner than *which*. The weights before and after training are joined
by a line (after WiSE-FT, Wortsman et al. 2022: interpolated weights carry over better); a few held-back seed pairs say
where on it unsafe prompts are declined most while look-alikes are declined hardly more than before.
Needs torch, but only inside the functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignment.records import SeedPair
from alignment.refusal import is_refusal

if TYPE_CHECKING:
    import torch

    from alignment.language_model import LanguageModel

HELD_BACK = 20  # every 20th seed pair trains nothing
LEAST_PAIRS = 8  # below which they say nothing, and training goes all the way
MOST_PAIRS = 40  # held-back pairs that are looked at
STRENGTHS = (1.0, 0.9, 0.8)
WARY = 0.5  # of the over-refusal limit: prompts of unseen forms are declined more than these
LOOKED_AT = 8  # tokens: "I'm sorry, I can't help with" is as many


@dataclass(frozen=True)
class Strength:
    """The place on the line, and shares of held-back prompts declined there; `before` those at the start of it."""

    value: float  # 0: as before training, 1: as trained
    unsafe: float
    harmless: float
    before: float  # harmless declined before training
    n: int  # pairs


def is_held_back(pair: SeedPair) -> bool:
    return _mark(pair) % HELD_BACK == 0


def _mark(pair: SeedPair) -> int:
    return int(hashlib.sha256(pair.id.encode()).hexdigest(), 16)


def held_back(seeds: Iterable[SeedPair], asked: set[str]) -> list[SeedPair]:
    """Pairs for `choose_strength`: never replayed, and not attacked in this round; none where they are too few."""
    found = [s for s in seeds if s.harmless and s.id not in asked and is_held_back(s)]
    found.sort(key=_mark)  # of all categories and styles, not of the first in the file
    return found[:MOST_PAIRS] if len(found) >= LEAST_PAIRS else []


def choose_strength(
    model: LanguageModel, peft_model: Any, start: Mapping[str, torch.Tensor], pairs: Sequence[SeedPair], *,
    limit: float, competence: bool = False,
) -> Strength:  # fmt: skip
    """Leaves the adapter at the best of STRENGTHS: most unsafe minus harmless declined, of those with at most half of
    `limit` more of the harmless declined than before; of all, where none keeps to that: less of a training declines
    less of both kinds, and the gate has the last word. Where it trained `competence`, at the farthest that keeps to it.
    `start`: the adapter's parameters before training."""
    end = trainable(peft_model)
    prompts = [p.unsafe for p in pairs] + [p.harmless for p in pairs]

    def look(value: float) -> Strength:
        place(peft_model, start, end, value)
        declined = declines(model, prompts)
        unsafe, harmless = declined[: len(pairs)], declined[len(pairs) :]
        return Strength(value, sum(unsafe) / len(pairs), sum(harmless) / len(pairs), 0.0, len(pairs))

    before = look(0.0).harmless
    tried = [look(value) for value in STRENGTHS]
    fair = [s for s in tried if s.harmless <= before + WARY * limit + 1e-9]
    apart = max(fair or tried, key=lambda s: (s.unsafe - s.harmless, s.value))
    best = fair[0] if competence and fair else apart
    place(peft_model, start, end, best.value)
    return Strength(best.value, best.unsafe, best.harmless, before, best.n)


def trainable(peft_model: Any) -> dict[str, torch.Tensor]:
    """A copy of the adapter's parameters, by name."""
    return {n: p.detach().clone() for n, p in peft_model.named_parameters() if "lora_" in n}


def place(
    peft_model: Any, start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], value: float
) -> None:  # fmt: skip
    """Sets the adapter's parameters to start + value * (end - start)."""
    import torch

    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if name in end:
                parameter.copy_(torch.lerp(start[name], end[name], value))


def declines(model: LanguageModel, prompts: Sequence[str]) -> list[bool]:
    """Whether the greedy answer to each prompt begins as a refusal does, in any words (`refusal.py`)."""
    side, model.tokenizer.padding_side = model.tokenizer.padding_side, "left"
    try:
        found = model.generate(prompts, max_new_tokens=LOOKED_AT, temperature=0.0, seed=0)
    finally:
        model.tokenizer.padding_side = side
    return [is_refusal(own[0].text) for own in found]
