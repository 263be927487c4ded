"""A model asked in words as one more member of the critic, where a round names a `judge`.

What it says joins the heads' weighted mean. Where it gives no verdict the critique has none either and the sample
goes to people. The critique keeps its P as the member "asked", so that the learn phase asks nobody again.
Combination and weight are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from alignment.config import RoundConfig
from alignment.critic import ASKED, Critic, HeldOut, LabelledAnswer, log_odds
from alignment.critic_fit import HOLD
from alignment.endpoint import Generator, load_generator
from alignment.generative_judge import Verdict, judge_answers
from alignment.heads import Floats, fit_platt
from alignment.language_model import LanguageModel
from alignment.metrics.result import measured
from alignment.records import Metric, Principle, Query, Response, Sample

LEAST_SPREAD = 1.0  # log-odds; a judge that hardly leaves 0.5 is not made loud


def load_asked(config: RoundConfig, reader: LanguageModel) -> Generator | None:
    """The judge of the round; "critic" is the model that the heads read. None where the round names none."""
    if not config.judge:
        return None
    if config.judge == "critic":
        return reader
    return load_generator(config.judge, dtype=config.dtype, device=config.device)


def ask(
    judge: Generator, queries: list[Query], responses: list[Response], principles: dict[str, Principle], *, batch: int
) -> list[Verdict | None]:
    """One Verdict a response on the principle of its query, in order; None for what a program checks."""
    places = [i for i, query in enumerate(queries) if query.kind != "competence"]
    asked = [
        (queries[i].text, responses[i].text, principles.get(key := queries[i].principle) or _unknown(key))
        for i in places
    ]
    found: list[Verdict | None] = [None] * len(queries)
    for i, verdict in zip(places, judge_answers(judge, asked, batch=batch), strict=True):
        found[i] = verdict
    return found


def describe_failures(name: str, responses: list[Response], verdicts: list[Verdict | None]) -> str:
    """What the log says where answers that are not empty got no verdict; "" where all did."""
    tried = [v for r, v in zip(responses, verdicts, strict=True) if v is not None and r.text.strip()]
    states = Counter(v.status for v in tried if v.status != "ok")
    failed = sum(states.values())
    if not failed:
        return ""
    how = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    said = "none" if failed == len(tried) else f"{len(tried) - failed}"
    return f"The judge {name} judged {said} of {len(tried)} answers ({how}); the rest go to people"


def said_before(samples: Iterable[Sample]) -> dict[str, Verdict]:
    """What the judge said of each answer in the propose phase, by response id; answers it was not asked about are
    missing. A failed critique stays failed."""
    found = {}
    for critique in (c for s in samples for c in s.critiques):
        p = critique["members"].get(ASKED)
        if critique["status"] != "ok":
            found[critique["response"]] = Verdict(critique["status"])
        elif p is not None:
            found[critique["response"]] = Verdict("ok", p, float(log_odds(p)))
    return found


def spread_of(verdicts: Iterable[Verdict | None]) -> float:
    """Root mean square of the log-odds, about 0 because 0 is undecided; at least LEAST_SPREAD."""
    odds = [v.log_odds for v in verdicts if v is not None and v.log_odds is not None]
    return max(float(np.sqrt(np.mean(np.square(odds)))), LEAST_SPREAD) if odds else LEAST_SPREAD


def fit_asked(
    critic: Critic, held_out: HeldOut, rows: Sequence[LabelledAnswer], said: dict[str, Verdict], share: float
) -> tuple[Critic, HeldOut, list[Metric]]:
    """(critic with the judge's weight, held-out predictions that it has joined, its `critic_member_weight`).

    The weight is `fit_share` of the heads' mean and the judge's log-odds over their spread, on the answers that people
    judged (`rows`, whose human ones are those of `held_out`) and it was asked about. As in Platt's calibration,
    predictions are made with the weight that was fitted on them. Nothing asked: all as it was, and no metric.
    """
    usable = {response: v.log_odds for response, v in said.items() if v.log_odds is not None}
    if not usable:
        return critic, held_out, []
    critic = replace(critic, asked_weight=share, asked_spread=spread_of(said.values()))
    at = [i for i, response in enumerate(held_out.ids) if response in usable]
    predicted = np.array(held_out.predicted)[at]
    odds = np.array([usable[held_out.ids[i]] for i in at], dtype=np.float64)
    note = "nobody judged an answer that it was asked about: the weight stays as it was"
    if at:
        human = [row for row in rows if row.human]
        heads, judge = (log_odds(predicted) - critic.offset) / critic.slope, odds / critic.asked_spread
        soft, weight = np.array(held_out.observed)[at], np.array([human[i].weight for i in at])
        critic, note = replace(critic, asked_weight=fit_share(heads, judge, soft, weight, share)), ""
    joined = list(held_out.predicted)
    for i, p in zip(at, critic.join(predicted, odds), strict=True):
        joined[i] = float(p)
    metric = measured("critic_member_weight", critic.asked_weight, None, len(at), group=ASKED, note=note)
    return critic, replace(held_out, predicted=joined), [metric]


def fit_share(heads_N: Floats, judge_N: Floats, soft_N: Floats, weight_N: Floats, share: float) -> float:
    """The judge's weight w in [0, 1], a hundredth exact: -log likelihood of `soft_N` in [0, 1] by the calibrated mean
    (1 - w) heads + w judge, plus HOLD (w - share)^2 / 2, least.

    Both columns are logits of unit spread. The hold is on the share itself: a stack of free weights, held in
    proportion to their size, gives a noisy share where neither column knows anything. Ours.
    """
    weight_N = weight_N / weight_N.mean()

    def loss(w: float) -> float:
        mean_N = (1 - w) * heads_N + w * judge_N
        slope, offset = fit_platt(mean_N, soft_N, weight_N)
        z_N = slope * mean_N + offset
        return float(weight_N @ (np.logaddexp(0, z_N) - soft_N * z_N)) + HOLD * (w - share) ** 2 / 2

    return min((float(w) for w in np.linspace(0, 1, 101)), key=loss)


def _unknown(key: str) -> Principle:
    """A principle that the constitution no longer has is asked about by its name."""
    return Principle(key, "conformity", key.replace("-", " "), "")
