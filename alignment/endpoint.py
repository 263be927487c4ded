"""Any role as an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted model): it answers, nothing more."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignment.language_model import Generated, LanguageModel, Prompt, as_messages
from alignment.records import CritiqueStatus

if TYPE_CHECKING:
    import httpx

MISCONFIGURED = (401, 403, 404)  # a wrong key, model or address: no request of the run can succeed


class EndpointError(ValueError):
    """The endpoint could not be used; the message says what to do."""


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt. `text` is "" unless `status` is "ok"; `words` say what went wrong."""

    status: CritiqueStatus
    text: str = ""
    words: str = ""
    cut: bool = False  # the token limit ended it


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
        prompts: Sequence[Prompt],
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

        def ask(job: int) -> Generated:
            try:
                answer = self._post(client, prompts[job // copies], max_new_tokens, temperature, seed + job)
                choice = answer["choices"][0]
                text = choice["message"].get("content") or ""
            except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
                raise EndpointError(f"endpoint {self.url} did not answer: {error}; is the server up?") from error
            tokens = int((answer.get("usage") or {}).get("completion_tokens") or len(text.split()))
            return Generated(text.strip(), tokens, "length" if choice.get("finish_reason") == "length" else "stop")

        with self._client() as client, ThreadPoolExecutor(batch) as pool:
            flat = []
            for job, generated in enumerate(pool.map(ask, range(len(prompts) * copies))):
                flat.append(generated)
                if on_batch:
                    on_batch((job + 1) // copies)
        return [flat[i * copies : (i + 1) * copies] for i in range(len(prompts))]

    def replies(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0, batch: int = 8
    ) -> list[Reply]:
        """One reply a prompt, in order. What fails is a state of that reply and leaves the others alone.

        Greedy at temperature 0; above it each is sampled with `seed` + its place.

        "timeout": nothing came in time, or the server failed or was not there; "refused": the endpoint says that it
        declined or withheld the answer; "empty"; "unparseable": not a chat completion. Raises EndpointError only
        where no request can succeed (key, model or address are wrong).
        """
        with self._client() as client, ThreadPoolExecutor(batch) as pool:
            jobs = enumerate(prompts)
            return list(pool.map(lambda j: self._reply(client, j[1], max_new_tokens, temperature, seed + j[0]), jobs))

    def _reply(
        self, client: httpx.Client, prompt: Prompt, max_new_tokens: int, temperature: float, seed: int
    ) -> Reply:
        import httpx

        try:
            choice = self._post(client, prompt, max_new_tokens, temperature, seed)["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            text = (message.get("content") or "").strip()
        except httpx.TimeoutException:
            return Reply("timeout", words=f"no answer within {self.timeout:g} s")
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            if code in MISCONFIGURED:
                raise EndpointError(
                    f"endpoint {self.url} answered {code}; check its address, the model {self.model_name!r} and the key"
                ) from error
            if code == 400 and "content_filter" in error.response.text:
                return Reply("refused", words="withheld by the endpoint's content filter")
            return Reply("timeout", words=f"the server answered {code}")
        except httpx.HTTPError as error:
            return Reply("timeout", words=f"the server could not be reached: {error}")
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            return Reply("unparseable", words="the reply is no chat completion")
        if message.get("refusal") or finish == "content_filter":
            return Reply("refused", words=str(message.get("refusal") or "withheld by the endpoint's content filter"))
        return Reply("ok", text, cut=finish == "length") if text else Reply("empty", words="the reply is empty")

    def _client(self) -> httpx.Client:
        import httpx

        key = os.environ.get("OVERSIGHT_ENDPOINT_KEY", "")
        return httpx.Client(timeout=self.timeout, headers={"Authorization": f"Bearer {key}"} if key else {})

    def _post(self, client: httpx.Client, prompt: Prompt, max_new_tokens: int, temperature: float, seed: int) -> Any:
        body = {
            "model": self.model_name,
            "messages": as_messages(prompt),
            "max_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        reply = client.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
        reply.raise_for_status()
        return reply.json()


Generator = LanguageModel | Endpoint


def load_generator(name: str, *, adapter: str = "", dtype: str = "float32", device: str = "") -> Generator:
    if name.startswith(("http://", "https://")):
        return Endpoint(name)
    return LanguageModel.load(name, adapter=adapter, dtype=dtype, device=device)
