"""The attacker model rewrites requests: all of a chunk in one batch, two tries each, and every failure counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from alignment.endpoint import Endpoint, Reply
from alignment.language_model import Generated, Prompt
from alignment.operators import keeps_subject
from alignment.refusal import is_refusal

TRIES = 2
REWRITE_TOKENS = 40
# What may go wrong with a try, in words for the log, the worst first.
FAILURES = {
    "timeout": "timed out", "refused": "declined", "empty": "empty", "unparseable": "no chat completion",
    "cut": "cut by the token limit", "lost": "off the subject", "same": "unchanged",
}  # fmt: skip


class Rewriter(Protocol):
    """A model or an endpoint; the second fails one request at a time (`Endpoint.replies`)."""

    @property
    def name(self) -> str: ...

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, seed: int, copies: int = 1
    ) -> list[list[Generated]]: ...


@dataclass(frozen=True)
class Wanted:
    """`instruction` is what the model is asked; its answer has to stay with the subject of `original`."""

    instruction: str
    original: str


def rewrite(
    model: Rewriter, wanted: Sequence[Wanted], *, max_new_tokens: int, seed: int
) -> tuple[list[str | None], Counter[str]]:
    """(the rewriting of each, or None where no try was usable; how often each of FAILURES came for those None).

    A request without a usable try counts once, by its last try. EndpointError where no request can succeed.
    """
    if not wanted:
        return [], Counter()
    tries = _ask(model, [w.instruction for w in wanted], max_new_tokens=min(REWRITE_TOKENS, max_new_tokens), seed=seed)
    texts: list[str | None] = []
    failed: Counter[str] = Counter()
    for one, replies in zip(wanted, tries, strict=True):
        states = [_check(reply, one.original) for reply in replies]
        kept = next((text for text, state in states if state == "ok"), None)
        texts.append(kept)
        if kept is None:
            failed[states[-1][1]] += 1
    return texts, failed


def describe_rewriting(name: str, kept: int, failed: Counter[str], fallbacks: Counter[str]) -> str:
    """What the log says of a chunk's rewritings; "" where none was wanted. `fallbacks` stood in for attacks."""
    wanted = kept + failed.total()
    if not wanted:
        return ""
    said = f"{name} wrote {kept} of {wanted} rewritings"
    if failed:
        said += " (" + ", ".join(f"{failed[state]} {words}" for state, words in FAILURES.items() if failed[state]) + ")"
    if fallbacks:
        said += "; in place of the others: " + ", ".join(f"{n} {name}" for name, n in sorted(fallbacks.items()))
    return said


def _ask(model: Rewriter, prompts: list[str], *, max_new_tokens: int, seed: int) -> list[list[Reply]]:
    if isinstance(model, Endpoint):
        twice = [prompt for prompt in prompts for _ in range(TRIES)]
        flat = model.replies(twice, max_new_tokens=max_new_tokens, temperature=0.9, seed=seed)
        return [flat[i * TRIES : (i + 1) * TRIES] for i in range(len(prompts))]
    made = model.generate(prompts, max_new_tokens=max_new_tokens, temperature=0.9, seed=seed, copies=TRIES)
    return [[Reply("ok" if g.text else "empty", g.text, cut=g.finish == "length") for g in own] for own in made]


def _check(reply: Reply, original: str) -> tuple[str, str]:
    """(text, "ok") or ("", which of FAILURES)."""
    if reply.status != "ok":
        return "", reply.status
    text = reply.text.split("\n")[0].strip().strip('"').strip()
    if is_refusal(reply.text):
        return "", "refused"
    if reply.cut:
        return "", "cut"
    if text.casefold() == original.strip().casefold():
        return "", "same"
    return (text, "ok") if keeps_subject(text, original) else ("", "lost")
