"""Texts whose words are spread as in language: the n-th most frequent word comes about 1/n as often."""

from __future__ import annotations

import numpy as np

SYLLABLES = [c + v for c in ["ch", "st", *"bdfgklmnprstvz"] for v in "aeiou"]
VOCABULARY = 20_000


def make_vocabulary(size: int = VOCABULARY) -> list[str]:
    """Distinct made-up words, the most frequent first and shortest, as in language."""
    words, length = [], 1
    count = len(SYLLABLES)
    while len(words) < size:
        for number in range(count**length):
            parts, rest = [], (number * 2_654_435_761) % count**length  # a fixed shuffle: its factor is odd
            for _ in range(length):
                rest, digit = divmod(rest, count)
                parts.append(SYLLABLES[digit])
            words.append("".join(parts))
            if len(words) == size:
                break
        length += 1
    return list(dict.fromkeys(words))


class Writer:
    """Writes texts of about so many words, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.words = np.array(make_vocabulary(), dtype=object)
        share = 1 / np.arange(1, len(self.words) + 1)
        self.upto = np.cumsum(share / share.sum())

    def write(self, count: int, words: int) -> list[str]:
        """`count` texts of `words` words, give or take a third."""
        lengths = self.rng.integers(max(1, words * 2 // 3), words * 4 // 3 + 1, count)
        drawn = self.words[np.searchsorted(self.upto, self.rng.random(int(lengths.sum())) * self.upto[-1])].tolist()
        texts, start = [], 0
        for length in lengths.tolist():
            text = " ".join(drawn[start : start + length])
            texts.append(text[0].upper() + text[1:] + ".")
            start += length
        return texts
