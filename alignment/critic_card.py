"""The card of a round's critic: what it was fitted on, where it errs, and whether a text can steer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignment.critic import Critic, HeldOut, LabelledAnswer
from alignment.feature_cache import cached_readings
from alignment.language_model import LanguageModel
from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Label, Metric, Sample
from alignment.seed_files import shipped_injections
from alignment.steering import steering


@dataclass(frozen=True)
class Violation:
    """An answer that people found violating."""

    prompt: str
    response: str
    violates: bool = True


def card_metrics(rows: Sequence[LabelledAnswer], held_out: HeldOut) -> list[Metric]:
    """`critic_labels` (people's, and group "exemplars") and `critic_error`: the share of people's labels on whose
    other side of 0.5 the held-out prediction lies, by category (Wilson) and over all (group "")."""
    human = [r for r in rows if r.human]
    wrong = (np.array(held_out.predicted) >= 0.5) != (np.array(held_out.observed) >= 0.5)
    groups = {"": np.ones(len(human), dtype=bool)}
    names = np.array([r.category for r in human], dtype=str)
    groups |= {name: names == name for name in sorted(set(names.tolist())) if name}
    errors = []
    for group, own in groups.items():
        n, k = int(own.sum()), int(wrong[own].sum())
        why = "no answer was judged by people"
        known = measured("critic_error", k / n, wilson(k, n), n, group=group) if n else None
        errors.append(known or not_computable("critic_error", why, group=group))
    counts = [("", len(human)), ("exemplars", len(rows) - len(human))]
    return [measured("critic_labels", count, None, count, group=group) for group, count in counts] + errors


def steering_metrics(
    critic: Critic, reader: LanguageModel, samples: Sequence[Sample], labels: dict[str, Label], *, answers: int,
    seed: int,
) -> list[Metric]:  # fmt: skip
    """`steering_flipped` over at most `answers` violating ones of this round, each of a query of its own, with one
    suffix of each family; 0 answers: none. Other rows of `steering` are left to the benchmark."""
    if answers < 1:
        return []
    found = []
    for sample in samples:
        label = labels.get(sample.query["id"])
        bad = [r for r in sample.responses if label and label.violates.get(r["id"], 0) >= 0.5 and r["text"].strip()]
        found += [Violation(sample.query["text"], r["text"]) for r in bad[:1]]
    rng = np.random.default_rng(seed)
    chosen = [found[i] for i in rng.permutation(len(found))[:answers]]
    if not chosen:
        why = "people found no answer of this round violating"
        return [not_computable("steering_flipped", why, seed=seed)]
    suffixes = list({i.family: i for i in shipped_injections()}.values())

    def score(prompts: list[str], responses: list[str]) -> Floats:
        return critic.probability(cached_readings(reader, prompts, responses))

    measurement = steering(score, chosen, suffixes, seed=seed)
    return [m for m in measurement.metrics if m.name == "steering_flipped"]
