"""One verifiable task, and the split it belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

from alignment.records import Record

Split = Literal["train", "probe"]
Checker = Literal["number", "choice", "mentions", "word", "contains", "numbered", "count", "json"]
PROBE_SHARE = 4  # one task in four is a probe


@dataclass(frozen=True)
class Task(Record):
    """A prompt whose answer `checkers.check` verifies.

    `answer` is text: a number, an option, a word, a list, or JSON. `given` holds the numbers or options that
    the prompt itself names, so that an echo of the question is not taken for the answer; `options` all
    that a choice may name. `key` names what is asked, free of wording: equal keys are the same task. `worked` is an
    answer in full where `answer` is only what the checker looks for ("5" for a list of five).
    """

    prompt: str
    answer: str
    checker: Checker
    level: int
    family: str
    key: str
    given: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    worked: str = ""

    @property
    def example(self) -> str:
        """An answer that `checkers.check` accepts, to be learnt from."""
        return self.worked or self.answer


def split_of(key: str) -> Split:
    """ "probe" for a quarter of all keys, by SHA-256: the same on every machine and in every run."""
    return "probe" if hashlib.sha256(key.encode()).digest()[0] % PROBE_SHARE == 0 else "train"
