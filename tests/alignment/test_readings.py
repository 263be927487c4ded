"""Beginnings of answers, and answers without a sentence: means and maxima by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.answer_words import WIDTH, read_words
from alignment.language_model import Features
from alignment.readings import BEGINNINGS, LEAST, Readings, member_names, read_answer, read_without
from tests.alignment.made_answers import features


def by_hand() -> Features:
    """Two layers of width 1, three sentences of 12, 4 and 8 tokens."""
    mean_S, peak_S, tokens_S = np.array([1.0, 4.0, -2.0]), np.array([2.0, 9.0, 0.0]), np.array([12, 4, 8])
    text = "One one. Two two. Three."
    # The second layer is ten times the first. Whole: (12 * 1 + 4 * 4 - 8 * 2) / 24 = 0.5.
    mean_SKD = np.stack([mean_S, 10 * mean_S], axis=1)[:, :, None]
    peak_SKD = np.stack([peak_S, 10 * peak_S], axis=1)[:, :, None]
    whole, peak = np.array([[0.5], [5.0]]), np.array([[9.0], [90.0]])
    return Features(text, whole, peak, np.zeros((2, 1)), [(0, 8), (9, 17), (18, 24)], mean_SKD, peak_SKD, tokens_S)


def test_the_whole_and_its_beginnings_by_hand() -> None:
    reading = read_answer(by_hand())
    # Beginnings after 12 and 16 tokens: (12 * 1) / 12 = 1 and (12 * 1 + 4 * 4) / 16 = 1.75. The last end is the whole.
    assert reading.mean_RKD[:, 0, 0] == pytest.approx([0.5, 1.0, 1.75])
    assert reading.mean_RKD[:, 1, 0] == pytest.approx([5.0, 10.0, 17.5])
    assert reading.peak_RPD[:, 0, 0] == pytest.approx([9.0, 2.0, 9.0])
    assert reading.peak_RPD.shape == (3, 1, 1)  # of the third layer there is none
    texts = ["One one. Two two. Three.", "One one.", "One one. Two two."]
    assert np.array_equal(reading.words_RW, np.stack([read_words(t) for t in texts]))
    assert len(reading.whole.mean_RKD) == 1
    assert reading.whole.mean_RKD[0, 0, 0] == 0.5


def test_an_answer_without_a_sentence_by_hand() -> None:
    seen = by_hand()
    without = [read_without(seen, s) for s in range(3)]
    # (4 * 4 - 8 * 2) / 12 = 0, (12 * 1 - 8 * 2) / 20 = -0.2, (12 * 1 + 4 * 4) / 16 = 1.75.
    assert [r.mean_RKD[0, 0, 0] for r in without] == pytest.approx([0.0, -0.2, 1.75])
    assert [r.peak_RPD[0, 0, 0] for r in without] == pytest.approx([9.0, 2.0, 9.0])
    assert np.array_equal(without[1].words_RW[0], read_words("One one.  Three."))


def test_the_only_sentence_left_out_leaves_nothing() -> None:
    without = read_without(features(3.0, rng=np.random.default_rng(0)), 0)
    assert not without.mean_RKD.any()
    assert not without.peak_RPD.any()
    assert np.array_equal(without.words_RW[0], read_words(""))


def beginnings(*tokens: int) -> list[int]:
    """After how many tokens the beginnings end: sentence s has mean s, so that a beginning's mean tells its end."""
    count = len(tokens)
    mean_SKD = np.zeros((count, 1, count))
    mean_SKD[np.arange(count), 0, np.arange(count)] = 1.0
    spans = [(10 * s, 10 * s + 9) for s in range(count)]
    zero = np.zeros((1, count))
    seen = Features("a" * 10 * count, zero, zero, zero, spans, mean_SKD, mean_SKD, np.array(tokens))
    means_RD = read_answer(seen).mean_RKD[1:, 0]
    return [int(np.cumsum(tokens)[np.flatnonzero(m).max()]) for m in means_RD]


def test_beginnings_are_few_long_enough_at_places_of_their_own_and_never_the_whole() -> None:
    assert beginnings(30) == []
    assert beginnings(11, 30) == []  # shorter than LEAST
    assert beginnings(12, 30) == [12]
    assert beginnings(5, 6, 1, 3, 40) == [12, 15]
    # Aims at 12, 25.8, 55.4 and 119 tokens: 60 is nearest to both of the last.
    assert beginnings(12, 12, 12, 12, 12, 12) == [12, 24, 60]
    # What is appended moves none of them.
    assert beginnings(*[12] * 18) == [12, 24, 60, 120]
    assert beginnings(*[20] * 5) == [20, 40, 60, 80]
    rng = np.random.default_rng(0)
    for _ in range(50):
        tokens = rng.integers(1, 30, rng.integers(1, 20)).tolist()
        found = beginnings(*tokens)
        assert len(found) <= BEGINNINGS
        assert all(LEAST <= end < sum(tokens) for end in found)
        assert found == sorted(set(found))


def test_readings_lie_under_one_another_and_members_see_their_part() -> None:
    rng = np.random.default_rng(0)
    long, short = read_answer(features(1.0, -1.0, 0.5, rng=rng)), read_answer(features(1.0, rng=rng))
    readings = Readings.of([long, short])
    assert readings.owner_R.tolist() == [0, 0, 0, 1]
    assert member_names(long) == ["layer 1", "layer 2", "layer 3", "peak 1", "peak 2", "words"]
    assert np.array_equal(readings.inputs("layer 2")[3], short.mean_RKD[0, 1])
    assert np.array_equal(readings.inputs("peak 2")[0], long.peak_RPD[0, 1])  # the maxima of the third layer
    assert readings.inputs("words").shape == (4, WIDTH)
    assert np.array_equal(readings.inputs("all")[0], long.mean_RKD[0].reshape(-1))


def test_an_empty_answer_has_a_reading() -> None:
    reading = read_answer(features(rng=np.random.default_rng(0)))
    assert [len(part) for part in (reading.mean_RKD, reading.peak_RPD, reading.words_RW)] == [1, 1, 1]
    assert not reading.mean_RKD.any()
