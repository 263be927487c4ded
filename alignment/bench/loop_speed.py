"""Tokens a second where there is a GPU: generation and training as rounds do them, beside the plain Hugging Face loop.

Plain generation takes the prompts as they come, in batches of the same size; ours sorts them by length first. Plain
training is TRL's own trainer (`train.py`). Ours (the comparison).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignment.bench.train import run_train_bench
from alignment.config import RoundConfig
from alignment.language_model import LanguageModel
from alignment.seed_files import shipped_seeds

BATCH = 48
PROMPTS = 384
PAIRS, STEPS = 256, 20


@dataclass(frozen=True)
class Rate:
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second; 0 where no time passed."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class Speed:
    what: str
    own: Rate
    plain: Rate

    @property
    def ratio(self) -> float:
        """Ours over plain's; above 1 is faster. nan where plain has none."""
        return self.own.rate / self.plain.rate if self.plain.rate > 0 else float("nan")

    def line(self) -> str:
        words = f"{self.own.rate:,.0f} tokens/s, plain Hugging Face loop {self.plain.rate:,.0f}"
        return f"{self.what}: {words}, {self.ratio:.2f} times"


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def measure_speeds(
    config: RoundConfig, *, prompts: int = PROMPTS, pairs: int = PAIRS, steps: int = STEPS, batch: int = BATCH,
    say: Callable[[str], None] = print,
) -> list[Speed]:  # fmt: skip
    """Generation of `max_new_tokens` for that many seed prompts, and `steps` of preference training."""
    model = LanguageModel.load(config.learner, dtype=config.dtype, device=config.device)
    asked = [pair.unsafe for pair in shipped_seeds()[:prompts]]
    ways = (_own, _plain)
    for way in ways:
        way(model, asked[:batch], config, batch)  # the first batch pays for starting up
    own, plain = (_timed(model, way, asked, config, batch) for way in ways)
    del model
    runs = run_train_bench(
        config.learner, pairs=pairs, steps=steps, seed=config.seed, repeats=1, batch=config.batch, dtype=config.dtype,
        say=lambda line: None,
    )  # fmt: skip
    trained = {run.how: Rate(run.tokens, run.seconds) for run in runs}
    found = [Speed("generation", own, plain), Speed("training", trained["ours"], trained["plain"])]
    for speed in found:
        say(speed.line())
    return found


def _timed(
    model: LanguageModel, way: Callable[[LanguageModel, Sequence[str], RoundConfig, int], int], prompts: Sequence[str],
    config: RoundConfig, batch: int,
) -> Rate:  # fmt: skip
    began = time.perf_counter()
    tokens = way(model, prompts, config, batch)  # tokens reach Python, so the device is done
    return Rate(tokens, time.perf_counter() - began)


def _own(model: LanguageModel, prompts: Sequence[str], config: RoundConfig, batch: int) -> int:
    answers = model.generate(
        prompts, max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed, batch=batch
    )
    return sum(own[0].tokens for own in answers)


def _plain(model: LanguageModel, prompts: Sequence[str], config: RoundConfig, batch: int) -> int:
    import torch

    tokenizer, tokens = model.tokenizer, 0
    torch.manual_seed(config.seed)
    for start in range(0, len(prompts), batch):
        texts = [model.chat_text(prompt) for prompt in prompts[start : start + batch]]
        rows = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            out_BT = model.model.generate(
                input_ids=rows.input_ids, attention_mask=rows.attention_mask, max_new_tokens=config.max_new_tokens,
                do_sample=config.temperature > 0, temperature=config.temperature or None, top_p=0.95, top_k=0,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        tokens += count_answer_tokens(out_BT[:, rows.input_ids.shape[1] :].tolist(), tokenizer.eos_token_id)
    return tokens


def count_answer_tokens(rows: Sequence[Sequence[int]], end: int) -> int:
    """Tokens up to the end token, which does not count, as `LanguageModel.generate` counts them."""
    return sum(row.index(end) if end in row else len(row) for row in rows)
