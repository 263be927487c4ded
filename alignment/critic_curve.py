"""The critic's learning curve: how well it tells answers apart with a part of people's labels. Ours.

It says where the next labels lead (`stopping.forecast`), so it has to be cheap, not exact: one member stands for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alignment.critic import LabelledAnswer
from alignment.critic_fit import PRIOR, group_folds, held_out_logits, prepare
from alignment.heads import STRENGTH
from alignment.readings import Reading

SHARES = (0.25, 0.5, 0.75, 1.0)  # of people's labels
DRAWS = 6  # a share
FEWEST = 20  # people's labels below which there is no curve


def learning_curve(
    rows: Sequence[LabelledAnswer], *, seed: int, unlabelled: Sequence[Reading] = ()
) -> list[tuple[int, float]]:
    """[(people's labels, held-out AUROC in [0, 1])], DRAWS a share of SHARES; empty with too few, or of one class.

    A draw is an order of the prompts and folds of its own. A share keeps the prompts first in that order, so that
    a draw's smaller sets lie within its larger ones; each fold is predicted by a member that learnt from the kept
    labels outside it and from the rows that are not people's. All of people's answers are predicted at every share.
    Of k labels a fit sees about four fifths; that moves every point alike. k is the share times all labels: where
    prompts have several, a draw has a few more or fewer.
    """
    from sklearn.metrics import roc_auc_score

    human = np.array([row.human for row in rows], dtype=bool)
    violates = np.array([row.violates for row in rows])[human] >= 0.5
    if len(violates) < FEWEST or violates.all() or not violates.any():
        return []
    material = prepare([replace(row, reading=_middle(row.reading)) for row in rows], [_middle(r) for r in unlabelled])
    points = []
    for draw in range(DRAWS):
        place = _places(material.groups, human, seed=seed + draw)
        folds = group_folds(material.groups, seed=seed + draw)
        for share in SHARES:
            kept = human & (place < math.ceil(share * (place.max() + 1)))
            # A label of weight 0 is not learnt from, and still predicted.
            weighed = replace(material, weight=np.where(kept | ~human, material.weight, 0.0))
            logit = held_out_logits(weighed, folds, STRENGTH, PRIOR, only=["layer 1"])[0, material.whole]
            points.append((round(share * len(violates)), float(roc_auc_score(violates, logit[human]))))
    return sorted(points)


def _places(groups: NDArray[np.str_], human: NDArray[np.bool_], *, seed: int) -> NDArray[np.int64]:
    """[N] where a row's prompt stands in a random order of people's prompts; -1 for rows that are not people's."""
    names = sorted(set(groups[human].tolist()))
    order = np.random.default_rng(seed).permutation(len(names))
    place_of = {name: int(place) for name, place in zip(names, order, strict=True)}
    return np.array([place_of[g] if h else -1 for g, h in zip(groups.tolist(), human.tolist(), strict=True)])


def _middle(reading: Reading) -> Reading:
    """The whole answer at the middle of the layers read, and nothing else: "layer 1" of it is the member."""
    middle = reading.mean_RKD.shape[1] // 2
    return Reading(reading.mean_RKD[:1, middle : middle + 1], reading.peak_RPD[:1, :0], reading.words_RW[:1])
