"""How long the critic's parts take: choosing from a large pool, fitting again, judging what has been read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alignment.bench.replay import AUDIT_SHARE, Answers, split_by_prompt
from alignment.critic import LabelledAnswer
from alignment.critic_fit import fit_critic
from alignment.policies import Pool
from alignment.propose import place
from alignment.records import Query, Response
from alignment.selection import select

POOL, BUDGET = 5000, 16


@dataclass(frozen=True)
class Timing:
    """The best of `runs`, in seconds for `items` items; `target` seconds at most."""

    what: str
    seconds: float
    items: int
    runs: int
    target: float

    def line(self) -> str:
        met = "met" if self.seconds <= self.target else "not met"
        target = f"target {self.target:g} s, {met}; best of {self.runs}"
        return f"{self.what:<44} {self.seconds:8.3f} s for {self.items} ({target})"


def time_critic(answers: Answers, *, labels: int) -> list[Timing]:
    """Selection of 16 from 5,000 (the file's answers, repeated with noise), a fit, and critiques from the cache."""
    pool, held = split_by_prompt(answers.rows, 0)
    own = pool[:labels]
    labelled = [
        LabelledAnswer(answers.rows[i].prompt, float(answers.rows[i].violates), "", 1.0, True, answers.readings[i])
        for i in own
    ] + answers.exemplars
    unlabelled = [answers.readings[i] for i in pool]
    critic, _ = fit_critic(labelled, [], seed=0, unlabelled=unlabelled)
    rng = np.random.default_rng(0)
    which = rng.integers(0, len(answers.rows), POOL)
    places = np.stack([place(r) for r in answers.readings])
    p, members = critic.judge(answers.readings)
    many = Pool(
        p[which], members[:, which], places[which] + rng.normal(0, 0.1, (POOL, places.shape[1])) * places.std(axis=0),
        np.zeros(POOL, dtype=bool),
    )  # fmt: skip
    asked = [Query(str(i), answers.rows[i].prompt, "unsafe", "", "", "", 0, "bench", "") for i in held]
    said = [Response(str(i), str(i), 0, answers.rows[i].response, 0, "stop", "") for i in held]
    read = [answers.readings[i] for i in held]
    return [
        _time(f"choose {BUDGET} of {POOL} (mix)", POOL, 1.0,
              lambda: select(many, budget=BUDGET, audit_share=AUDIT_SHARE, rng=np.random.default_rng(0))),
        _time(f"fit on {len(own)} labels and {len(answers.exemplars)} exemplars", len(own), 5.0,
              lambda: fit_critic(labelled, [], seed=0, unlabelled=unlabelled)),
        _time("critique, features cached", len(held), len(held) / 20, lambda: critic.critique(asked, said, read)),
    ]  # fmt: skip


def _time(what: str, items: int, target: float, run: Callable[[], object], runs: int = 3) -> Timing:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return Timing(what, min(seconds), items, runs, target)
