"""What changed between two answers of the same probe, word by word."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

MOST_WORDS = 600  # of either text: the comparison takes time with the product of both lengths
LEAST_SHARED = 0.2  # of the longer text's words, spaces left out
WORDS = re.compile(r"\s+|[^\W_]+|[\W_]", re.UNICODE)


@dataclass(frozen=True)
class Piece:
    text: str
    how: str  # "same", "gone" (only in the first text) or "new" (only in the second)


def compare(old: str, new: str) -> list[Piece]:
    """Pieces whose "same" and "gone" make `old`, and whose "same" and "new" make `new`.

    [] where the texts are equal, or where one is too long or they share too little to be read together.
    """
    if old == new:
        return []
    before, after = WORDS.findall(old), WORDS.findall(new)
    if max(len(before), len(after)) > MOST_WORDS:
        return []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    shared = sum(not word.isspace() for a, _, size in matcher.get_matching_blocks() for word in before[a : a + size])
    if shared < LEAST_SHARED * max(sum(not word.isspace() for word in words) for words in (before, after)):
        return []
    pieces = []
    for how, a, b, c, d in matcher.get_opcodes():
        if how == "equal":
            pieces.append(Piece("".join(before[a:b]), "same"))
            continue
        if a < b:
            pieces.append(Piece("".join(before[a:b]), "gone"))
        if c < d:
            pieces.append(Piece("".join(after[c:d]), "new"))
    return pieces
