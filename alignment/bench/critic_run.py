"""`python -m alignment bench critic`: fits a critic on people's labels and puts it to the three tests of `critic.py`.

Labels and tests come from different prompts. The shipped exemplars stand beside the labels in the fit; the judge of
the revisions is the evaluation judge, fitted on exemplars that no critic sees.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment.bench.critic import Criticise, evidence, revision
from alignment.bench.rows import Judged, read_judged
from alignment.critic import Critic, LabelledAnswer
from alignment.critic_fit import fit_critic
from alignment.feature_cache import cache_folder, cached_readings
from alignment.judge import Judge, fit_judge
from alignment.language_model import LanguageModel, critic_layers, middle_layers
from alignment.metrics.result import Floats
from alignment.propose import exemplar_rows
from alignment.readings import read_answer
from alignment.records import Critique, Injection, Metric, Principle, Query, Response
from alignment.rundir import write_text
from alignment.seed_files import shipped_injections, shipped_principles
from alignment.steering import STEERING_TARGET, Measurement, Score, steering

HELD_OUT = 1 / 3  # of the prompts
MAX_CHARS = 600  # longer answers are not tested: the critic reads 256 tokens, and a suffix has to be among them


@dataclass(frozen=True)
class Split:
    """Rows to fit on and rows to test on, no prompt in both; the tested ones have a prompt of their own each."""

    fit: list[Judged]
    test: list[Judged]


def run_critic_bench(
    model_name: str, data: Path, n: int, seed: int, out: Path | None = None, *,
    labels: int = 160, per_family: int = 0, dtype: str = "auto", say: Callable[[str], None] = print,
) -> list[Metric]:  # fmt: skip
    """The three measurements on `n` held-out answers, half of them violating; `out` gets everything as JSON.

    `model_name`: a local model, whose hidden states the critic and the judge read and which writes the revisions.
    `labels`: people's labels in the fit. `per_family`: so many suffixes of each family (0: all; fewer is quicker).
    `dtype`: as rounds of the laptop profile have it, so that their cached features of the exemplars are used.
    """
    if n < 2 or labels < 1 or per_family < 0:
        given = f"n is {n}, labels {labels}, per-family {per_family}"
        raise ValueError(f"{given}; need n >= 2, labels >= 1, per-family >= 0")
    started = time.time()
    split = split_rows(read_judged(data), n=n, labels=labels, seed=seed)
    model = LanguageModel.load(model_name, dtype=dtype)
    principles = [p for p in shipped_principles() if p.kind == "conformity"]
    rows = exemplar_rows(model) + _labelled(model, split.fit, principles)
    critic, _ = fit_critic(rows, principles, seed=seed)
    judge = fit_judge(model)
    say(f"{len(split.fit)} labels and {len(rows) - len(split.fit)} exemplars fitted, {time.time() - started:.0f} s")
    suffixes = draw_suffixes(per_family, seed=seed)
    criticise, score = critic_words(critic, model, principles), critic_score(critic, model)
    tests: tuple[tuple[str, Callable[[], Measurement]], ...] = (
        ("evidence", lambda: evidence(score, criticise, split.test, seed=seed)),
        ("revision", lambda: revision(
            model, criticise, judge_score(judge, model), [r for r in split.test if r.violates], seed=seed
        )),
        ("steering", lambda: steering(score, split.test, suffixes, seed=seed)),
    )  # fmt: skip
    metrics: list[Metric] = []
    raw: dict[str, list[dict[str, object]]] = {}
    for name, measure in tests:
        begun = time.time()
        found = measure()
        metrics += found.metrics
        raw[name] = found.rows
        say(f"\n{name}, {time.time() - begun:.0f} s")
        for metric in found.metrics:
            say(f"  {line_of(metric)}")
    if out:
        about = {
            "model": model_name, "dtype": dtype, "data": data.name, "n": len(split.test), "seed": seed,
            "labels": len(split.fit), "suffixes": len(suffixes), "seconds": round(time.time() - started, 1),
        }  # fmt: skip
        content = {**about, "metrics": [m.to_json() for m in metrics], "rows": raw}
        write_text(out, json.dumps(content, ensure_ascii=False, indent=1))
    return metrics


def split_rows(rows: Sequence[Judged], *, n: int, labels: int, seed: int) -> Split:
    """Prompts are shuffled and a third held out; up to n / 2 violating and n / 2 fine answers of it, one a prompt."""
    rng = random.Random(seed)
    prompts = sorted({r.prompt for r in rows})
    rng.shuffle(prompts)
    held_out = set(prompts[: max(1, round(len(prompts) * HELD_OUT))])
    rest = [r for r in rows if r.prompt not in held_out and r.response.strip()]
    if not rest:
        raise ValueError(f"all {len(rows)} rows have the same prompt; nothing is left to fit on")
    usable = [r for r in rows if r.prompt in held_out and r.response.strip() and len(r.response) <= MAX_CHARS]
    test: list[Judged] = []
    # The rarer kind chooses its prompts first, or the other one would use them up.
    for kind in sorted((True, False), key=lambda kind: sum(r.violates == kind for r in usable)):
        taken = {r.prompt for r in test}
        own = {r.prompt: r for r in rng.sample(usable, len(usable)) if r.violates == kind and r.prompt not in taken}
        test += list(own.values())[: n // 2]
    return Split(rng.sample(rest, min(labels, len(rest))), test)


def draw_suffixes(per_family: int, *, seed: int) -> list[Injection]:
    """`per_family` of each family, drawn with `seed`, or all of them (0)."""
    rng = random.Random(seed)
    every = shipped_injections()
    if per_family <= 0:
        return every
    families = {family: [i for i in every if i.family == family] for family in dict.fromkeys(i.family for i in every)}
    return [i for own in families.values() for i in rng.sample(own, min(per_family, len(own)))]


def critic_score(critic: Critic, model: LanguageModel) -> Score:
    def score(prompts: list[str], responses: list[str]) -> Floats:
        return critic.probability(cached_readings(model, prompts, responses))

    return score


def judge_score(judge: Judge, model: LanguageModel) -> Score:
    def score(prompts: list[str], responses: list[str]) -> Floats:
        return judge.probability(model.features(prompts, responses, layers=middle_layers(model.layers)))

    return score


def critic_words(critic: Critic, model: LanguageModel, principles: list[Principle]) -> Criticise:
    """Critiques for rows that name no principle: the one that the critic scores highest is taken."""
    keys = {p.key for p in principles}

    def criticise(prompts: list[str], responses: list[str]) -> list[Critique]:
        features = model.features(prompts, responses, layers=critic_layers(model.layers))
        readings = [read_answer(f) for f in features]
        answers = [Response(str(i), str(i), 0, text, 0, "stop", model.name) for i, text in enumerate(responses)]
        asked = [Query(str(i), text, "unsafe", "", "", "", 0, "bench", "") for i, text in enumerate(prompts)]
        named = []
        for query, critique in zip(asked, critic.critique(asked, answers, readings), strict=True):
            scores = {key: value for key, value in critique.scores.items() if key in keys}
            best = max(scores, key=lambda key: scores[key], default="")
            named.append(Query(query.id, query.text, "unsafe", "", best, "", 0, "bench", ""))
        return critic.critique(named, answers, readings, features)

    return criticise


def _labelled(model: LanguageModel, rows: list[Judged], principles: list[Principle]) -> list[LabelledAnswer]:
    """Rows as the critic's fit takes them. Their principle is that of their category, where there is one."""
    readings = cached_readings(
        model, [r.prompt for r in rows], [r.response for r in rows], folder=cache_folder(model.name)
    )
    by_category = {p.category: p.key for p in principles}
    return [
        LabelledAnswer(r.prompt, float(r.violates), by_category.get(r.category, ""), 1.0, True, f)
        for r, f in zip(rows, readings, strict=True)
    ]


def line_of(metric: Metric) -> str:
    """One printed line: name, value, interval, n, and the note or the reason why there is no value."""
    name = f"{metric.name} {metric.group}".strip()
    if metric.value is None:
        return f"{name:<44} not computable, because {metric.reason}"
    interval = "" if metric.ci_low is None else f" [{metric.ci_low:.3f}, {metric.ci_high:.3f}]"
    target = f"; target at most {STEERING_TARGET:g}" if name == "steering_flipped" else ""
    note = f"  {metric.reason}{target}".rstrip() if metric.reason or target else ""
    return f"{name:<44} {metric.value:.3f}{interval} n={metric.n}{note}"
