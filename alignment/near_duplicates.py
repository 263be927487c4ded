"""Texts that are too much alike: word 3-grams and Jaccard's similarity."""

from __future__ import annotations

from alignment.operators import words


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Word 3-grams; a shorter text is one shingle."""
    tokens = words(text)
    return frozenset(tuple(tokens[i : i + 3]) for i in range(max(1, len(tokens) - 2)))


class NearDuplicates:
    """Remembers texts; `add` says False where one with Jaccard similarity above `limit` is known already."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._known: list[frozenset[tuple[str, ...]]] = []
        self._by_shingle: dict[tuple[str, ...], list[int]] = {}

    def add(self, text: str) -> bool:
        new = shingles(text)
        if self._like(new):
            return False
        for shingle in new:
            self._by_shingle.setdefault(shingle, []).append(len(self._known))
        self._known.append(new)
        return True

    def like(self, text: str) -> bool:
        """Whether one like it is known."""
        return self._like(shingles(text))

    def _like(self, new: frozenset[tuple[str, ...]]) -> bool:
        shared: dict[int, int] = {}
        for shingle in new:
            for i in self._by_shingle.get(shingle, ()):
                shared[i] = shared.get(i, 0) + 1
        return any(count / (len(new) + len(self._known[i]) - count) > self.limit for i, count in shared.items())
