"""Any role as an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted model): it answers, nothing more."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from alignment.language_model import Generated, LanguageModel


class EndpointError(ValueError):
    """The endpoint could not be used; the message says what to do."""


class Endpoint:
    """`name` is `http(s)://host/v1#model`. The key comes from OVERSIGHT_ENDPOINT_KEY, never from a config file."""

    def __init__(self, name: str, *, timeout: float = 60.0) -> None:
        self.url, _, self.model_name = name.partition("#")
        if not self.model_name:
            raise EndpointError(f"endpoint {name!r} names no model; write it as http://host:8000/v1#model-name")
        self.name = name
        self.timeout = timeout

    def generate(
        self,
        prompts: list[str],
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        copies: int = 1,
        batch: int = 8,
        on_batch: Callable[[int], None] | None = None,
    ) -> list[list[Generated]]:
        """As LanguageModel.generate; `batch` requests run at once."""
        import httpx

        key = os.environ.get("OVERSIGHT_ENDPOINT_KEY", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}

        def ask(job: int) -> Generated:
            body = {
                "model": self.model_name,
                "messages": [{"role": "user", "content": prompts[job // copies]}],
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": seed + job,
            }
            try:
                reply = client.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
                reply.raise_for_status()
                choice = reply.json()["choices"][0]
                text = choice["message"].get("content") or ""
            except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
                raise EndpointError(f"endpoint {self.url} did not answer: {error}; is the server up?") from error
            tokens = int((reply.json().get("usage") or {}).get("completion_tokens") or len(text.split()))
            return Generated(text.strip(), tokens, "length" if choice.get("finish_reason") == "length" else "stop")

        with httpx.Client(timeout=self.timeout, headers=headers) as client, ThreadPoolExecutor(batch) as pool:
            flat = []
            for job, generated in enumerate(pool.map(ask, range(len(prompts) * copies))):
                flat.append(generated)
                if on_batch:
                    on_batch((job + 1) // copies)
        return [flat[i * copies : (i + 1) * copies] for i in range(len(prompts))]


Generator = LanguageModel | Endpoint


def load_generator(name: str, *, adapter: str = "", dtype: str = "float32", device: str = "") -> Generator:
    if name.startswith(("http://", "https://")):
        return Endpoint(name)
    return LanguageModel.load(name, adapter=adapter, dtype=dtype, device=device)
