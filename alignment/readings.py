"""What the critic's members see of answers: each whole, and as far as several of its sentence ends.

In a causal model the states of an answer's beginning do not depend on what follows, so an answer is judged by
the worst of its beginnings: text appended to it cannot take back what an earlier one has said. Axes: R readings,
K layers, D width, W word checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alignment.answer_words import read_words
from alignment.language_model import MAX_FEATURE_TOKENS, Features

Floats = NDArray[np.float64]
BEGINNINGS = 4  # at most, beside the whole
LEAST = 12  # tokens of the shortest beginning; less is noise
PEAKS = (0, 2)  # layers, of those read, whose maxima are kept


@dataclass(frozen=True)
class Reading:
    """One answer with its beginnings: row 0 of each array is the whole. A tuple of arrays that a cache can keep."""

    mean_RKD: np.ndarray  # float16 or float32
    peak_RPD: np.ndarray
    words_RW: np.ndarray

    @property
    def whole(self) -> Reading:
        return Reading(self.mean_RKD[:1], self.peak_RPD[:1], self.words_RW[:1])


def read_answer(features: Features) -> Reading:
    """The whole and at most BEGINNINGS sentence ends, at tokens that grow geometrically."""
    means, peaks, words = [features.mean_KD], [_peaks(features.peak_KD)], [read_words(features.text)]
    tokens = np.cumsum(features.sentence_tokens_S)
    for s in _ends(tokens):
        share_S = features.sentence_tokens_S[: s + 1] / tokens[s]
        means.append(np.einsum("s,skd->kd", share_S, features.sentence_mean_SKD[: s + 1]))
        peaks.append(_peaks(features.sentence_peak_SKD[: s + 1].max(axis=0)))
        words.append(read_words(features.text[: features.spans[s][1]]))
    return Reading(np.stack(means), np.stack(peaks), np.stack(words))


def read_without(features: Features, sentence: int) -> Reading:
    """As `read_answer` of the answer without one sentence: its tokens are left out, the others keep their states."""
    rest = np.arange(len(features.spans)) != sentence
    start, end = features.spans[sentence]
    gone = end - start
    tokens_S = features.sentence_tokens_S[rest]
    zero = np.zeros_like(features.mean_KD)
    share_S = tokens_S / max(int(tokens_S.sum()), 1)
    return read_answer(
        replace(
            features,
            text=features.text[:start] + features.text[end:],
            mean_KD=np.einsum("s,skd->kd", share_S, features.sentence_mean_SKD[rest]),
            peak_KD=features.sentence_peak_SKD[rest].max(axis=0) if rest.any() else zero,
            spans=[(a, b) if b <= start else (a - gone, b - gone) for a, b in features.spans if (a, b) != (start, end)],
            sentence_mean_SKD=features.sentence_mean_SKD[rest],
            sentence_peak_SKD=features.sentence_peak_SKD[rest],
            sentence_tokens_S=tokens_S,
        )
    )


def _ends(tokens_S: NDArray[np.int64]) -> list[int]:
    """Indices of the sentences whose ends lie nearest to 12, 26, 55 and 119 tokens; never the last one.

    Places that do not depend on the length of the whole: text appended to an answer does not move them.
    """
    usable = [s for s in range(len(tokens_S) - 1) if tokens_S[s] >= LEAST]
    if len(usable) <= BEGINNINGS:
        return usable
    aims = LEAST * (MAX_FEATURE_TOKENS / LEAST) ** (np.arange(BEGINNINGS) / BEGINNINGS)
    return sorted({min(usable, key=lambda s: abs(np.log(tokens_S[s] / aim))) for aim in aims})


def _peaks(peak_KD: np.ndarray) -> np.ndarray:
    return peak_KD[[k for k in PEAKS if k < len(peak_KD)]]


@dataclass(frozen=True)
class Readings:
    """The readings of N answers under one another; `owner_R` says whose each is."""

    mean_RKD: Floats
    peak_RPD: Floats
    words_RW: Floats
    owner_R: NDArray[np.int64]

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Readings:
        return cls(
            np.concatenate([r.mean_RKD for r in readings]).astype(np.float64),
            np.concatenate([r.peak_RPD for r in readings]).astype(np.float64),
            np.concatenate([r.words_RW for r in readings]).astype(np.float64),
            np.repeat(np.arange(len(readings)), [len(r.words_RW) for r in readings]),
        )

    def inputs(self, member: str) -> Floats:
        """[R, D'] what `member` sees: "layer k" and "peak k" (1-based), "words", or "all" the layers' means."""
        kind, _, number = member.partition(" ")
        if kind == "layer":
            return self.mean_RKD[:, int(number) - 1]
        if kind == "peak":
            return self.peak_RPD[:, int(number) - 1]
        return self.words_RW if kind == "words" else self.mean_RKD.reshape(len(self.mean_RKD), -1)


def member_names(reading: Reading) -> list[str]:
    layers, peaks = reading.mean_RKD.shape[1], reading.peak_RPD.shape[1]
    names = [f"layer {k + 1}" for k in range(layers)] + [f"peak {k + 1}" for k in range(peaks)]
    return [*names, "words"]
