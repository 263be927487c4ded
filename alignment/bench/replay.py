"""One replay of sparse review on labels that people gave: choose a batch, reveal its labels, fit, score, repeat.

Everything but the score on the held-out third is computed from revealed labels and unlabelled pool answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alignment.bench.rows import Judged
from alignment.critic import Critic, HeldOut, LabelledAnswer
from alignment.critic_fit import fit_critic
from alignment.metrics.calibration import BINS
from alignment.metrics.result import Floats
from alignment.mix import learn_mix
from alignment.policies import SIGNALS, Mix, Pool
from alignment.propose import place
from alignment.readings import Reading
from alignment.selection import Choice, select

AUDIT_SHARE = 0.2  # as in a round
FIRST, GROWTH = 20, 0.5  # labels of the first batch; each later one is at most this share of those before it
REFERENCE_STRENGTH = 0.003
FLOOR_DRAWS = 200


@dataclass(frozen=True)
class Answers:
    """The rows of a file with what the models read of them. Axes: N rows, D width."""

    rows: list[Judged]
    readings: list[Reading]
    reference_ND: NDArray[np.float32]  # the reference critic's features
    exemplars: list[LabelledAnswer]

    @property
    def violates(self) -> NDArray[np.int64]:
        return np.array([int(r.violates) for r in self.rows])


@dataclass(frozen=True)
class Score:
    """One fit, scored on the held-out third. `auroc` nan where that holds one class only."""

    policy: str
    seed: int
    labels: int
    auroc: float
    balanced_accuracy: float  # at the threshold that is best on cross-validated predictions
    ece: float
    ece_floor: float  # what the same predictions would have were they perfectly calibrated, on so few answers
    brier: float
    positives: int  # violating among the labels
    members: dict[str, float] = field(default_factory=dict)  # AUROC of each member of the critic alone


def split_by_prompt(rows: Sequence[Judged], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(pool, held out): indices; a third of the prompts, drawn with `seed`, is held out with all its answers."""
    prompts = sorted({r.prompt for r in rows})
    if len(prompts) < 6:
        raise ValueError(f"the file has {len(prompts)} different prompts; a split by prompt needs 6 or more")
    rng = np.random.default_rng(seed)
    held = {prompts[i] for i in rng.permutation(len(prompts))[: len(prompts) // 3]}
    out = np.array([r.prompt in held for r in rows])
    return rng.permutation(np.flatnonzero(~out)), np.flatnonzero(out)


def batches(marks: Sequence[int]) -> list[int]:
    """Label counts at which the critic is fitted: every mark, and steps between that grow with the labels."""
    counts, now = [], 0
    for mark in sorted(set(marks)):
        while now < mark:
            now = min(mark, now + max(FIRST, int(now * GROWTH)))
            counts.append(now)
    return counts


def replay(
    answers: Answers, policy: str, seed: int, marks: Sequence[int], *, exemplars: bool = True
) -> list[Score]:
    """Scores at each of `marks` that the pool is large enough for."""
    pool, held = split_by_prompt(answers.rows, seed)
    rng = np.random.default_rng([seed, 1])
    prior = answers.exemplars if exemplars else []
    unlabelled = [answers.readings[i] for i in pool]
    chosen: dict[int, float] = {}  # row -> its chance of being drawn
    critic = fit_critic(prior, [], seed=seed, unlabelled=unlabelled)[0] if prior else None
    mix, scores = Mix(), []
    for count in batches([m for m in marks if m <= len(pool)]):
        rest = np.array([i for i in pool if i not in chosen])
        choices, seen = _choose(answers, critic, rest, list(chosen), policy, mix, count - len(chosen), rng)
        chosen |= {int(i): c.propensity for i, c in zip(rest, choices, strict=True) if c.chosen}
        if policy == "mix" and critic is not None:
            mix = _learn(answers, rest, choices, seen, mix)
        critic, held_out = fit_critic(_labelled(answers, chosen) + prior, [], seed=seed, unlabelled=unlabelled)
        if count in marks:
            name = policy if exemplars else f"{policy}, no exemplars"
            scores.append(_score(answers, critic, held_out, held, name, seed, chosen))
    return scores


def reference(answers: Answers, seed: int, marks: Sequence[int]) -> list[Score]:
    """The reference critic under random choice: standardised mean of one middle layer, logistic, fixed strength."""
    from sklearn.linear_model import LogisticRegression

    pool, held = split_by_prompt(answers.rows, seed)
    y, scores = answers.violates, []
    for count in sorted({m for m in marks if m <= len(pool)}):
        own = pool[:count]
        if len(set(y[own])) < 2:
            continue
        x = answers.reference_ND.astype(np.float64)
        x = (x - x[own].mean(axis=0)) / np.maximum(x[own].std(axis=0), 1e-6)
        fitted = LogisticRegression(C=REFERENCE_STRENGTH, class_weight="balanced", max_iter=500).fit(x[own], y[own])
        p = fitted.predict_proba(x[held])[:, 1]
        scores.append(Score("reference", seed, count, *measure(p, y[held], 0.5), int(y[own].sum())))
    return scores


def measure(p: Floats, y: NDArray[np.int64], threshold: float) -> tuple[float, float, float, float, float]:
    """(AUROC, balanced accuracy, ECE over 10 equal bins, its floor, Brier) of predictions [N]; nan for a missing class.

    The floor is the mean ECE of FLOOR_DRAWS sets of verdicts drawn from the predictions themselves.
    """
    from sklearn.metrics import roc_auc_score

    both = 0 < y.sum() < len(y)
    called = p >= threshold
    balanced = (called[y == 1].mean() + (~called)[y == 0].mean()) / 2 if both else float("nan")
    which = np.minimum((p * BINS).astype(int), BINS - 1)

    def ece(verdicts: Floats) -> float:
        return float(np.abs(np.bincount(which, weights=verdicts - p, minlength=BINS)).sum() / len(p))

    rng = np.random.default_rng(0)
    floor = float(np.mean([ece((rng.random(len(p)) < p).astype(np.float64)) for _ in range(FLOOR_DRAWS)]))
    auroc = float(roc_auc_score(y, p)) if both else float("nan")
    return auroc, float(balanced), ece(y.astype(np.float64)), floor, float(((p - y) ** 2).mean())


def best_threshold(held_out: HeldOut) -> float:
    """The cut with the best balanced accuracy on cross-validated predictions; 0.5 where a class is missing."""
    p, y = np.array(held_out.predicted), np.array(held_out.observed) >= 0.5
    if y.all() or not y.any():
        return 0.5
    cuts = np.unique(np.concatenate([[0.5], (np.sort(p)[1:] + np.sort(p)[:-1]) / 2]))
    worth = [(p[y] >= c).mean() + (p[~y] < c).mean() for c in cuts]
    best = np.flatnonzero(np.isclose(worth, max(worth)))
    return float(cuts[best[np.abs(cuts[best] - 0.5).argmin()]])


def _choose(
    answers: Answers, critic: Critic | None, rest: NDArray[np.int64], labelled: list[int], policy: str, mix: Mix,
    budget: int, rng: np.random.Generator,
) -> tuple[list[Choice], Floats]:  # fmt: skip
    own = [answers.readings[i] for i in rest]
    p, members = critic.judge(own) if critic else (np.full(len(rest), 0.5), np.full((1, len(rest)), 0.5))
    places = np.stack([place(r) for r in own])
    known = np.stack([place(answers.readings[i]) for i in labelled]) if labelled else places[:0]
    pool = Pool(p, members, places, np.zeros(len(rest), dtype=bool), labelled=known)
    return select(pool, budget=budget, audit_share=AUDIT_SHARE, rng=rng, mix=mix, policy=policy), p


def _learn(answers: Answers, rest: NDArray[np.int64], choices: list[Choice], seen: Floats, mix: Mix) -> Mix:
    drawn = [k for k, c in enumerate(choices) if c.chosen and set(c.signals) == set(SIGNALS)]
    signals = np.array([[choices[k].signals[name] for name in SIGNALS] for k in drawn]).reshape(-1, len(SIGNALS))
    found = [abs(float(answers.rows[rest[k]].violates) - seen[k]) for k in drawn]
    return learn_mix(signals, [choices[k].propensity for k in drawn], found, mix)


def _labelled(answers: Answers, chosen: dict[int, float]) -> list[LabelledAnswer]:
    return [
        LabelledAnswer(answers.rows[i].prompt, float(answers.rows[i].violates), "", 1.0, True, answers.readings[i],
                       propensity=chance)
        for i, chance in chosen.items()
    ]  # fmt: skip


def _score(
    answers: Answers, critic: Critic, held_out: HeldOut, held: NDArray[np.int64], name: str, seed: int,
    chosen: dict[int, float],
) -> Score:  # fmt: skip
    p, each = critic.judge([answers.readings[i] for i in held])
    y = answers.violates[held]
    alone = {member: measure(own, y, 0.5)[0] for member, own in zip(critic.members, each, strict=True)}
    positives = int(answers.violates[list(chosen)].sum())
    return Score(name, seed, len(chosen), *measure(p, y, best_threshold(held_out)), positives, alone)
