"""Experts err as often as they are set to: rates within a binomial interval of 4 standard errors."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from alignment.labels import soften
from alignment.records import Flag, Label, Query, Response, Sample
from alignment.simulate import Expert, poll


def make_samples(n: int, *, critic: float | None = None) -> tuple[list[Sample], dict[str, bool]]:
    """n samples with one answer each; every second one violates."""
    samples, truth = [], {}
    for i in range(n):
        query = Query(f"q{i}", "text", "unsafe", "privacy", "private-life", "question", 1, "seed", "s")
        response = Response(f"r{i}", query.id, 0, "an answer", 2, "stop", "tiny")
        flag = Flag(query.id, "audit" if i % 10 == 0 else "violation", 0.5, 0.5, "why")
        critiques: list[dict[str, Any]] = [{"response": response.id, "violation": critic}]
        samples.append(Sample(asdict(query), [asdict(response)], critiques, asdict(flag), 0.5))
        truth[response.id] = i % 2 == 0
    return samples, truth


def said(labels: list[Label], truth: dict[str, bool], *, of: bool) -> tuple[int, int]:
    """(how many answers whose truth is `of` were said to violate, how many there are)."""
    verdicts = [p for label in labels for r, p in label.violates.items() if truth[r] == of]
    return sum(p >= 0.5 for p in verdicts), len(verdicts)


def near(found: tuple[int, int], rate: float) -> bool:
    k, n = found
    return abs(k / n - rate) <= 4 * math.sqrt(max(rate * (1 - rate), 0.001) / n)


@pytest.mark.parametrize(
    ("expert", "on_violating", "on_fine"),
    [
        (Expert(sensitivity=0.9, specificity=0.7), 0.9, 0.3),
        # Leans to "violates" one time in five: 0.8 * 0.9 + 0.2 and 0.8 * 0.1 + 0.2.
        (Expert(sensitivity=0.9, specificity=0.9, bias=0.2), 0.92, 0.28),
        (Expert(sensitivity=0.9, specificity=0.9, bias=-0.2), 0.72, 0.08),
        # The critic says "violates" of everything: 0.5 * 0.9 + 0.5 and 0.5 * 0.1 + 0.5.
        (Expert(sensitivity=0.9, specificity=0.9, anchoring=0.5), 0.95, 0.55),
    ],
)
def test_rates_are_as_set(expert: Expert, on_violating: float, on_fine: float) -> None:
    samples, truth = make_samples(4000, critic=0.8)
    labels = poll(samples, truth, [expert], seed=1, overlap=1)
    assert near(said(labels, truth, of=True), on_violating)
    assert near(said(labels, truth, of=False), on_fine)


def test_errors_grow_within_a_sitting_and_a_rest_ends_it() -> None:
    expert = Expert(sensitivity=1.0, specificity=1.0, fatigue=0.05, sitting=20)
    assert expert.chance(True) == expert.chance(True, judged=20) == 1.0
    # After 10: a coin with chance 1 - 0.95^10 = 0.401, so right with 0.7994.
    assert expert.chance(True, judged=10) == pytest.approx(0.7994, abs=1e-4)
    assert expert.chance(False, judged=10) == pytest.approx(0.2006, abs=1e-4)
    samples, truth = make_samples(4000)
    labels = poll(samples, truth, [expert], seed=2, overlap=1)
    early = [label for i, label in enumerate(labels) if i % 20 < 5]
    late = [label for i, label in enumerate(labels) if i % 20 >= 15]
    assert said(early, truth, of=True)[0] / 500 > said(late, truth, of=True)[0] / 500 + 0.1


def test_overlap_disputes_and_the_lead() -> None:
    experts = [Expert("ada", 0.9, 0.9), Expert("ben", 0.7, 0.7), Expert("cleo", 0.8, 0.8)]
    samples, truth = make_samples(2000)
    labels = poll(samples, truth, experts, seed=3, overlap=2, overlap_share=0.4, lead=Expert("lead", 1.0, 1.0))
    shared = [label for label in labels if label.reviews == 2]
    assert near((len(shared), len(labels)), 0.4)
    disputed = [label for label in shared if len(set(label.votes[f"r{label.query[1:]}"])) == 2]
    assert all(label.decided and label.violates == {r: float(truth[r]) for r in label.violates} for label in disputed)
    assert not any(label.decided for label in labels if label not in disputed)
    # Pairs err 0.1, 0.3 and 0.2: they differ with chance (0.34 + 0.26 + 0.38) / 3.
    assert near((len(disputed), len(shared)), (0.34 + 0.26 + 0.38) / 3)
    assert {label.source for label in labels} == {"simulated"}
    assert sum(label.audit for label in labels) == 200
    assert "softened by Dawid-Skene over 3 people" in soften(labels)[1]


def test_the_same_seed_gives_the_same_labels_and_bad_settings_are_named() -> None:
    samples, truth = make_samples(50)
    experts = [Expert("ada"), Expert("ben")]
    assert poll(samples, truth, experts, seed=5) == poll(samples, truth, experts, seed=5)
    with pytest.raises(ValueError, match=r"specificity of ada is 1\.2"):
        Expert("ada", specificity=1.2)
    with pytest.raises(ValueError, match="3 people a sample of 2"):
        poll(samples, truth, experts, seed=5, overlap=3)
