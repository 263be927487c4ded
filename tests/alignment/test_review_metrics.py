"""What of a round's samples enters the estimates over all answers."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.records import Label, Sample
from alignment.review_metrics import estimates_over_all, weighted_auroc


def sample(query: str, violation: float | None, *, propensity: float = 0.5, drawn: bool = True) -> Sample:
    flag = {"query": query, "reason": "violation", "propensity": propensity} if drawn else None
    critique = {"response": f"{query}-0", "violation": violation}
    return Sample({"id": query, "kind": "unsafe"}, [], [critique], flag, propensity)


def test_only_drawn_samples_speak_for_the_others() -> None:
    # The critic says 0.25 on average; the two drawn answers differ by -0.2 and +0.6. A lead sent c to people, and
    # e was checked by program: neither changes anything.
    samples = [
        sample("a", 0.2), sample("b", 0.4), sample("c", 0.1, drawn=False), sample("d", 0.3, drawn=False),
        sample("e", 1.0, propensity=0.0, drawn=False),
    ]  # fmt: skip
    labels = {"a": Label("a", {"a-0": 0.0}), "b": Label("b", {"b-0": 1.0}), "c": Label("c", {"c-0": 1.0})}
    rate = estimates_over_all(samples, labels)[0]
    assert (rate.name, rate.n) == ("violation_rate_all", 2)
    assert rate.value == pytest.approx(0.45)


def test_a_queue_closed_half_way_widens_the_interval_and_keeps_the_value() -> None:
    samples = [sample(str(i), 0.5) for i in range(40)]
    whole = {str(i): Label(str(i), {f"{i}-0": float(i % 2)}) for i in range(40)}
    half = {key: label for key, label in whole.items() if int(key) < 20}
    full_rate, half_rate = estimates_over_all(samples, whole)[0], estimates_over_all(samples, half)[0]
    assert full_rate.value == half_rate.value == 0.5
    assert (half_rate.ci_high or 0) - (half_rate.ci_low or 0) > (full_rate.ci_high or 0) - (full_rate.ci_low or 0)


def test_auroc_of_many_weightings_by_hand() -> None:
    """Scores 1, 2, 2, 3, the second and the last positive. Each once: of four pairs the last positive wins two, the
    second one wins one and ties one: 3.5/4. The tied negative drawn twice: pairs 6, won 2 + 1 + 1 + 1 = 5."""
    scores, positive = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])
    weights = np.array([[1, 1, 0], [1, 1, 1], [1, 2, 0], [1, 1, 1]], dtype=float)
    found = weighted_auroc(scores, positive, weights)
    assert found[:2] == pytest.approx([3.5 / 4, 5 / 6])
    assert np.isnan(found[2])
