"""A chat model: it answers, and it shows its hidden states. Axes: B batch, T tokens, K layers, D width."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alignment.tiny_model import TINY, tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
MAX_PROMPT_TOKENS = 768
MAX_FEATURE_TOKENS = 256  # tokens of a response that features are read from (about 800 characters)
Prompt = str | list[dict[str, str]]  # one request, or a conversation {"role", "content"} that ends with the user
SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+|\n+|$)")


def fast_dtype(device: str) -> str:
    """ "bfloat16" on an accelerator and where the processor multiplies matrices in it (AMX), else "float32".

    Measured on two cores, SmolLM2-135M: with AVX512-BF16 but without AMX, forward passes run at 512 tokens a second in
    bfloat16 and 821 in float32, LoRA training at 181 and 336; without either, one thread's matrix product took 45
    times as long.
    """
    import torch

    if device != "cpu":
        return "bfloat16"
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


@dataclass(frozen=True)
class Generated:
    text: str
    tokens: int
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class Features:
    """One (prompt, response) as the base model reads it, without any adapter.

    `text` is the response. `mean_KD` and `peak_KD`: mean and maximum over its tokens at each layer;
    `last_prompt_KD`: the token before it. `spans`: [start, end) of each of its S sentences in characters;
    `sentence_mean_SKD`, `sentence_peak_SKD`, `sentence_tokens_S`: the same over each sentence's tokens.
    """

    text: str
    mean_KD: np.ndarray
    peak_KD: np.ndarray
    last_prompt_KD: np.ndarray
    spans: list[tuple[int, int]]
    sentence_mean_SKD: np.ndarray
    sentence_peak_SKD: np.ndarray
    sentence_tokens_S: np.ndarray


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    """The prompt as chat messages, in a list of its own."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def after_turns(history: list[dict[str, str]], text: str) -> Prompt:
    """The text, or the conversation that ends with it where turns come before."""
    return [*history, {"role": "user", "content": text}] if history else text


class LanguageModel:
    """Wraps a causal language model and its tokenizer. Loading and the methods need torch."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def load(cls, name: str, *, adapter: str | Path = "", dtype: str = "float32", device: str = "") -> LanguageModel:
        """Loads `name` ("tiny", a folder or a Hub id) in safetensors form only, and an adapter on top of it.

        `dtype` is a torch one by name, or "auto": see `fast_dtype`.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = fast_dtype(device) if dtype == "auto" else dtype
        if name == TINY:
            model, tokenizer = tiny_model(), tiny_tokenizer()
        else:
            try:
                tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
                model = AutoModelForCausalLM.from_pretrained(
                    name, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
                )
            except OSError as error:
                raise ValueError(f"model {name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
        if adapter:
            from peft import PeftModel

            if not (Path(adapter) / "adapter_model.safetensors").exists():
                raise ValueError(f"adapter {adapter} has no adapter_model.safetensors; only safetensors are loaded")
            model = PeftModel.from_pretrained(model, str(adapter))
        model.to(device).eval()
        return cls(model, tokenizer, name=name)

    @property
    def layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @contextmanager
    def base(self) -> Iterator[None]:
        """Within it the model answers without its adapter, as the base model would."""
        if not hasattr(self.model, "disable_adapter"):
            yield
            return
        with self.model.disable_adapter():
            yield

    def chat_text(self, prompt: Prompt, system: str = "") -> str:
        messages = as_messages(prompt)
        if system:
            messages.insert(0, {"role": "system", "content": system})
        text: str = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids up to where the answer begins. A prompt that is too long keeps its start and its end."""
        ids: list[int] = self.tokenizer(self.chat_text(prompt), add_special_tokens=False).input_ids
        if len(ids) > MAX_PROMPT_TOKENS:
            half = MAX_PROMPT_TOKENS // 2
            ids = ids[:half] + ids[-half:]
        return ids

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        copies: int = 1,
        batch: int = 48,
        on_batch: Callable[[int], None] | None = None,
    ) -> list[list[Generated]]:
        """`copies` sampled answers for each prompt (greedy at temperature 0), in the prompts' order.

        Prompts are batched by length to waste little on padding; `on_batch` gets the number done.
        """
        import torch

        encoded = [self.prompt_ids(p) for p in prompts]
        jobs = sorted((i for i in range(len(prompts)) for _ in range(copies)), key=lambda i: len(encoded[i]))
        answers: list[list[Generated]] = [[] for _ in prompts]
        sampling: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            sampling = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0}
        for start in range(0, len(jobs), batch):
            part = jobs[start : start + batch]
            ids_BT, mask_BT = self.pad([encoded[i] for i in part])
            torch.manual_seed(seed * 100_003 + start)
            with torch.inference_mode():
                out_BT = self.model.generate(
                    input_ids=ids_BT,
                    attention_mask=mask_BT,
                    max_new_tokens=max_new_tokens,
                    pad_token_id=self.tokenizer.pad_token_id,
                    eos_token_id=self.tokenizer.eos_token_id,
                    **sampling,
                )
            for row, i in zip(out_BT[:, ids_BT.shape[1] :].tolist(), part, strict=True):
                stop = self.tokenizer.eos_token_id in row
                row = row[: row.index(self.tokenizer.eos_token_id)] if stop else row
                text = self.tokenizer.decode(row, skip_special_tokens=True).replace("\x00", "").strip()
                answers[i].append(Generated(text, len(row), "stop" if stop else "length"))
            if on_batch:
                on_batch(min(len(prompts), (start + len(part)) // copies))
        return answers

    def features(
        self, prompts: Sequence[Prompt], responses: list[str], *, layers: tuple[int, ...], batch: int = 24
    ) -> list[Features]:
        """Hidden states of the base model (an adapter is switched off) for each prompt and response.

        `layers` are indices into hidden_states, 0 being the embeddings. An empty response gives zeros.
        """
        import torch

        items = [self._with_response(p, r) for p, r in zip(prompts, responses, strict=True)]
        order = sorted(range(len(items)), key=lambda i: len(items[i][0]))
        found: list[Features | None] = [None] * len(items)
        backbone = (self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model).model
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            ids_BT, mask_BT = self.pad([items[i][0] for i in part])
            with torch.inference_mode(), self.base():
                states = backbone(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True).hidden_states
            # Only the wanted layers leave the device, as float32.
            chosen_KBTD = torch.stack([states[layer] for layer in layers]).float().cpu().numpy()
            for b, i in enumerate(part):
                ids, begin, offsets = items[i]
                own_KTD = chosen_KBTD[:, b, ids_BT.shape[1] - len(ids) :]
                found[i] = _pool(own_KTD, begin, offsets, responses[i])
        return [f for f in found if f is not None]

    def _with_response(self, prompt: Prompt, response: str) -> tuple[list[int], int, list[tuple[int, int]]]:
        prompt_ids = self.prompt_ids(prompt)
        encoded = self.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
        ids = encoded.input_ids[:MAX_FEATURE_TOKENS]
        return prompt_ids + ids, len(prompt_ids), encoded.offset_mapping[:MAX_FEATURE_TOKENS]

    def pad(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, mask), each [B, T], padded on the left so that the last column is always a real token."""
        import torch

        longest = max(len(r) for r in rows)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(r)) + r for r in rows], device=self.device)
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows], device=self.device)
        return ids, mask


def _pool(own_KTD: np.ndarray, begin: int, offsets: list[tuple[int, int]], response: str) -> Features:
    last_prompt_KD = own_KTD[:, begin - 1]
    none = np.zeros((0, *last_prompt_KD.shape), dtype=np.float32)
    if own_KTD.shape[1] == begin:
        zero = np.zeros_like(last_prompt_KD)
        return Features(response, zero, zero, last_prompt_KD, [], none, none, np.zeros(0, dtype=np.int64))
    response_KTD = own_KTD[:, begin:]
    spans, means, peaks, tokens = [], [], [], []
    for match in SENTENCE.finditer(response):
        text = match.group()
        start = match.start() + len(text) - len(text.lstrip())
        end = match.start() + len(text.rstrip())
        inside = [t for t, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
        if inside and end > start:
            spans.append((start, end))
            means.append(response_KTD[:, inside].mean(axis=1))
            peaks.append(response_KTD[:, inside].max(axis=1))
            tokens.append(len(inside))
    return Features(
        response, response_KTD.mean(axis=1), response_KTD.max(axis=1), last_prompt_KD, spans,
        np.stack(means) if means else none, np.stack(peaks) if peaks else none, np.array(tokens, dtype=np.int64),
    )  # fmt: skip


def middle_layers(count: int) -> tuple[int, ...]:
    """Layers at about a third, a half and three quarters of the depth: 10, 16, 22 of 30. The evaluation judge's."""
    return _at(count, (1 / 3, 8 / 15, 11 / 15))


def critic_layers(count: int) -> tuple[int, ...]:
    """Five layers from two fifths to two thirds of the depth: 12, 14, 16, 18, 20 of 30. The critic's."""
    return _at(count, (6 / 15, 7 / 15, 8 / 15, 9 / 15, 10 / 15))


def _at(count: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(max(1, round(count * share)) for share in shares)
