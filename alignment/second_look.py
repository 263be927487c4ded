"""People's labels that are likely wrong: confident learning, for two classes.

Northcutt, Jiang and Chuang (2021), arXiv 1911.00068: rows off the diagonal of the confident joint, ranked by
their margin. Left out: calibrating the joint, and training on what is left, since nothing is pruned here: a
doubtful label goes to a person. Ours: the other class must also be the likelier one. Where one class is rare that
took precision from 0.40 to 0.50 and recall from 0.61 to 0.59 (simulated: 20 times 200 labels, 372 flipped).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from alignment.critic import HeldOut
from alignment.records import Label, SecondLook

MIN_CLASS = 10  # labels of each kind, below which a threshold says little (ours)
MOST = 30  # rows written: a lead has to look at each (ours)


def rank_doubtful(predicted: ArrayLike, observed: ArrayLike) -> list[int]:
    """Places of the labels that are likely wrong, the most doubtful first.

    predicted [N] in [0, 1] are P(violates) out of sample; observed [N] in [0, 1] are labels, cut at 0.5 (one of
    exactly 0.5 says nothing and is left out). The threshold of a class is the mean predicted probability of that
    class over the rows that carry it (its mean self-confidence). A row is doubtful where the other class's
    probability reaches that class's threshold and is the larger one. Ranked by P(other) - P(own). Fewer than
    MIN_CLASS rows of a class: nothing.
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"{p.shape} predictions but {y.shape} labels; pass one of each a row")
    violating, fine = y > 0.5, y < 0.5
    if min(violating.sum(), fine.sum()) < MIN_CLASS:
        return []
    other_N = np.where(violating, 1 - p, p)
    least_N = np.where(violating, (1 - p)[fine].mean(), p[violating].mean())  # the other class's self-confidence
    doubtful = (violating | fine) & (other_N >= least_N) & (other_N > 0.5)
    return sorted(np.flatnonzero(doubtful).tolist(), key=lambda i: (-other_N[i], i))


def find_doubtful(held_out: HeldOut, labels: Mapping[str, Label], *, most: int = MOST) -> list[SecondLook]:
    """The `most` doubtful labels of this round's answers, worst first; labels by query id.

    What a lead decided counts towards the thresholds and is not listed, and so are earlier rounds' answers.
    """
    query_of = {response: label.query for label in labels.values() for response in label.violates}
    rows = []
    for i in rank_doubtful(held_out.predicted, held_out.observed):
        response = held_out.ids[i]
        if response not in query_of or labels[query_of[response]].decided:
            continue
        p, y = held_out.predicted[i], held_out.observed[i]
        said = "violates" if y >= 0.5 else "fine"
        words = (
            f"People say {said}; a critic that never saw this answer puts P(violates) at {p:.2f}, "
            f"as it does for answers that people say {'are fine' if y >= 0.5 else 'violate'}."
        )
        rows.append(SecondLook(query_of[response], response, y, round(p, 4), round(abs(2 * p - 1), 4), words))
    return rows[:most]


def describe(rows: Sequence[SecondLook], people: int) -> str:
    """What the log says of it."""
    return f"{len(rows)} of {people} labels of people are worth a second look" if rows else "No label looks wrong"
