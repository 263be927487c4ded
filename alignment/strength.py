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
from alignment.training_mix import OPENINGS

if TYPE_CHECKING:
    import torch

    from alignment.language_model import LanguageModel

HELD_BACK = 20  # every 20th seed pair trains nothing
LEAST_PAIRS = 8  # below which they say nothing, and training goes all the way
MOST_PAIRS = 60  # held-back pairs that are looked at
STRENGTHS = (1.2, 1.0, 0.8, 0.6)  # further than trained may be better, too
NEAR = (1.0, 0.8, 0.6)  # in a competence round, whose tasks are learnt at 1


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
    """Leaves the adapter at the best of STRENGTHS: most unsafe minus harmless declined, of those with at most `limit`
    more of the harmless declined than before; of all, where none keeps to the limit: less of a training declines less
    of both kinds, and the gate has the last word. Where it trained `competence`, at the farthest of NEAR that keeps to
    the limit. `start`: the adapter's parameters before training."""
    end = trainable(peft_model)
    prompts = [p.unsafe for p in pairs] + [p.harmless for p in pairs]

    def look(value: float) -> Strength:
        place(peft_model, start, end, value)
        declined = declines(model, peft_model, prompts)
        unsafe, harmless = declined[: len(pairs)], declined[len(pairs) :]
        return Strength(value, sum(unsafe) / len(pairs), sum(harmless) / len(pairs), 0.0, len(pairs))

    before = look(0.0).harmless
    tried = [look(value) for value in (NEAR if competence else STRENGTHS)]
    fair = [s for s in tried if s.harmless <= before + limit + 1e-9]
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


def declines(model: LanguageModel, peft_model: Any, prompts: Sequence[str], *, batch: int = 32) -> list[bool]:
    """Whether the greedy answer to each prompt begins as the openings of a refusal do."""
    import torch

    from alignment.answer_log_probs import can_share
    from alignment.supervised import Row, collate, run_after_prefix, shared_prefix

    opening = opening_ids(model)
    rows = [Row(model.prompt_ids(p), opening, 1.0) for p in prompts]
    base = peft_model.get_base_model()
    prefix = shared_prefix(rows) if can_share(base) else []
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt_ids))
    found = [False] * len(rows)
    with torch.inference_mode():
        for first in range(0, len(order), batch):
            part = order[first : first + batch]
            own = collate([vars(rows[i]) for i in part], prefix=len(prefix), pad=model.tokenizer.pad_token_id)
            own = {name: value.to(model.device) for name, value in own.items()}
            hidden_BTD = run_after_prefix(base, prefix, own["input_ids"], own["attention_mask"])
            for b, i in enumerate(part):
                begin = int(own["begins"][b])
                likeliest_O = base.lm_head(hidden_BTD[b, begin : begin + len(opening)]).argmax(dim=-1)
                found[i] = likeliest_O.tolist() == opening
    return found


def opening_ids(model: LanguageModel) -> list[int]:
    """The tokens that the shared openings of a refusal begin with."""
    return common_start([model.tokenizer(o, add_special_tokens=False).input_ids for o in OPENINGS])


def common_start(texts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all of `texts` begin with; at least the first token of the first."""
    length = 0
    while all(length < len(t) for t in texts) and len({t[length] for t in texts}) == 1:
        length += 1
    return list(texts[0][: max(1, length)])
