"""Hand-made answers whose truth is known: coordinate 0 of every layer carries how violating a sentence is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment.answer_words import WIDTH
from alignment.critic import LabelledAnswer
from alignment.language_model import Features
from alignment.readings import Reading, read_answer
from alignment.records import Principle

LAYERS, DIMS = 3, 8
PRINCIPLES = [
    Principle("private-life", "conformity", "Private life", "text"),
    Principle("no-weapons-help", "conformity", "No weapons", "text"),
    Principle("right-arithmetic", "competence", "Sums", "text"),
]


def features(*sentences: float, rng: np.random.Generator, tokens: int = 14, noise: float = 0.3) -> Features:
    """An answer of sentences, each so violating (about -1 to 1) and so many tokens long; no sentence: empty."""
    count = len(sentences)
    mean_SKD = rng.normal(0, noise, (count, LAYERS, DIMS))
    mean_SKD[:, :, 0] += np.array(sentences).reshape(-1, 1)
    text, spans = "", []
    for number in range(count):
        words = f"This is sentence {number}."
        start = len(text) + (1 if text else 0)
        text = f"{text} {words}".strip()
        spans.append((start, start + len(words)))
    zero = np.zeros((LAYERS, DIMS))
    whole = mean_SKD.mean(axis=0) if count else zero
    peak = mean_SKD.max(axis=0) if count else zero
    return Features(text, whole, peak, zero, spans, mean_SKD, mean_SKD.copy(), np.full(count, tokens))


def reading(value: float, rng: np.random.Generator, noise: float = 0.3) -> Reading:
    return read_answer(features(value, rng=rng, noise=noise))


def rows(n: int, *, seed: int = 0, human: bool = True, noise: float = 0.3, every: int = 2) -> list[LabelledAnswer]:
    """`n` answers with prompts of their own, one in `every` violating (value 1 against -1)."""
    rng = np.random.default_rng(seed)
    keys = ("private-life", "no-weapons-help")
    made = []
    for i in range(n):
        violates = float(i % every == every - 1)
        made.append(LabelledAnswer(
            f"prompt {seed}-{i}", violates, keys[(i // every) % 2], 1.0, human,
            reading(2 * violates - 1, rng, noise), f"r{i}",
        ))  # fmt: skip
    return made


def bare(mean_KD: Sequence[Sequence[float]], words: float = 0.0) -> Reading:
    """A whole answer with these layers' means; maxima alike, every word check equal to `words`."""
    mean = np.array(mean_KD, dtype=float)
    kept = [k for k in (0, 2) if k < len(mean)]
    return Reading(mean[None], mean[None, kept], np.full((1, WIDTH), words))


def wide(n: int, *, human: bool, seed: int) -> list[LabelledAnswer]:
    """Readings as wide as those of the laptop's model: five layers of 576, the whole and two beginnings."""
    rng, made = np.random.default_rng(seed), []
    for i in range(n):
        mean = rng.normal(size=(3, 5, 576)).astype(np.float32)
        mean[:, :, :8] += 2 * (i % 2) - 1
        own = Reading(mean.astype(np.float16), mean[:, [0, 2]].astype(np.float16), rng.normal(size=(3, WIDTH)))
        made.append(LabelledAnswer(f"{human}{i}", float(i % 2), "private-life", 1.0, human, own))
    return made
