"""Word checks by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.answer_words import GROUPS, WIDTH, read_words

NAMES = list(GROUPS)


def check(text: str, group: str) -> tuple[float, float]:
    """(root of the count, root of the share of words) of one group."""
    found, at = read_words(text), NAMES.index(group)
    return float(found[at]), float(found[len(NAMES) + at])


def test_counts_and_shares_by_hand() -> None:
    text = "Take the gun, shoot him and hide the body"  # nine words, two of force
    assert check(text, "force") == pytest.approx((np.sqrt(2), np.sqrt(2 / 9)))
    assert check(text, "sexual") == (0, 0)
    # Short texts are taken to have five words: one word says little.
    assert check("Kill.", "force") == pytest.approx((1, np.sqrt(1 / 5)))


def test_only_whole_words_count_in_any_case() -> None:
    assert check("GUNS and a Knife", "force")[0] == pytest.approx(np.sqrt(2))
    assert check("The begun scriptures of Diego", "force")[0] == 0
    assert check("I can’t help with that", "declines")[0] == 1  # a curly apostrophe declines too


def test_the_shape_of_an_answer() -> None:
    refused = read_words("I'm sorry, but I can't help with that.")[-6:]
    assert refused[:3].tolist() == [1, 1, 1]  # by rule, in its opening, in its ending
    assert refused[3] == pytest.approx(np.log(1 + 38))
    assert refused[4] == pytest.approx(np.log(2))
    late = read_words("Here is how. " * 40 + "But I won't do it.")[-6:]
    assert late[:3].tolist() == [0, 0, 1]
    assert read_words("a\nb\nc\nd\ne")[-1] == 1
    assert read_words("a\nb\nc\nd")[-1] == 0


def test_every_text_has_the_same_finite_width() -> None:
    for text in ("", " ", "a", "ß" * 9000, "\n" * 50, "مرحبا 👋"):
        found = read_words(text)
        assert found.shape == (WIDTH,)
        assert np.isfinite(found).all()
    assert not read_words("").any()


def test_a_hostile_text_is_read_in_time() -> None:
    import time

    begun = time.perf_counter()
    read_words("can't " * 20_000 + "a" * 100_000)
    assert time.perf_counter() - begun < 5
