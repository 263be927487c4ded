"""`python -m alignment bench oversight`: how much each human label buys, by policy, on labels that people gave.

Prompts are split anew for each seed, a third of them held out. The reference critic (one middle layer's mean,
logistic) is fitted in the same run under random choice. No setting is chosen on the held-out third.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alignment.bench.replay import Answers, Score, reference, replay
from alignment.bench.rows import Judged, read_judged
from alignment.bench.speed import Timing, time_critic
from alignment.feature_cache import cache_folder, cached_readings
from alignment.language_model import LanguageModel, critic_layers, middle_layers
from alignment.policies import POLICIES
from alignment.propose import exemplar_rows
from alignment.readings import Reading
from alignment.rundir import write_text

BATCH = 64  # answers read between two lines of progress
T975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}  # Student's, by seeds
DEFAULT, RANDOM, REFERENCE = "mix", "random", "reference"


@dataclass(frozen=True)
class Efficiency:
    """Labels that another critic needs for the same AUROC, divided by the labels used.

    `ratio` is the least it can be where `at_least` (the other never got there with all labels of the pool), or the
    most it can be where `at_most` (it was there with its fewest). The interval is over resampled seeds.
    """

    against: str
    labels: int
    ratio: float
    low: float
    high: float
    at_least: bool
    at_most: bool


def run_oversight(
    data: Path, *, model_name: str, labels: Sequence[int], seeds: int, policies: Sequence[str], dtype: str,
    out: Path | None = None, say: Callable[[str], None] = print,
) -> list[Score]:  # fmt: skip
    """Prints the tables and writes every raw row to `out` (JSON). ValueError names an unknown policy or a bad file."""
    unknown = sorted(set(policies) - set(POLICIES))
    if unknown:
        raise ValueError(f"policy {', '.join(unknown)} is not known; there are all, {', '.join(POLICIES)}")
    if seeds < 1 or not labels or min(labels) < 1:
        raise ValueError(f"labels are {list(labels)} and seeds {seeds}; both are 1 or more")
    started = time.time()
    rows = read_judged(data)
    positive = sum(r.violates for r in rows)
    say(f"{len(rows)} answers to {len({r.prompt for r in rows})} prompts, {positive / len(rows):.1%} violating")
    answers = read_answers(rows, model_name, dtype, say)
    asked = list(dict.fromkeys([RANDOM, *policies]))
    scores: list[Score] = []
    for seed in range(seeds):
        # Beyond the marks too, so that one can see how many labels the others need.
        wide = sorted({*labels, *(m for m in (20, 40, 80, 160, 320, 480, 640) if m <= len(rows) * 2 // 3)})
        scores += reference(answers, seed, wide)
        for policy in asked:
            scores += replay(answers, policy, seed, wide if policy == RANDOM else labels)
        if DEFAULT in asked:
            scores += replay(answers, DEFAULT, seed, labels, exemplars=False)
        say(f"split {seed + 1} of {seeds} done after {time.time() - started:.0f} s")
    ratios = [
        efficiency(scores, policy, against, count)
        for policy in asked if policy != RANDOM for against in (RANDOM, REFERENCE) for count in labels
    ]  # fmt: skip
    timings = time_critic(answers, labels=min(320, len(rows) // 2))
    parts = (table(scores, labels), member_lines(scores), ratio_lines(ratios, asked), [t.line() for t in timings])
    for line in [line for part in parts for line in (*part, "")]:
        say(line)
    if out:
        write(out, data, rows, scores, ratios, timings, time.time() - started)
        say(f"every row: {out}")
    return scores


def read_answers(rows: list[Judged], model_name: str, dtype: str, say: Callable[[str], None]) -> Answers:
    """The critic's readings and the reference critic's features of every row, read in one pass and kept by content."""
    model = LanguageModel.load(model_name, dtype=dtype)
    layers = (*critic_layers(model.layers), middle_layers(model.layers)[-1])
    both: list[Reading] = []
    began = time.time()
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        both += cached_readings(
            model, [r.prompt for r in part], [r.response for r in part], layers=layers, folder=cache_folder(model.name)
        )
        if time.time() - began > 10:
            say(f"read {len(both)} of {len(rows)} answers")
            began = time.time()
    own = [Reading(r.mean_RKD[:, :-1], r.peak_RPD, r.words_RW) for r in both]
    return Answers(rows, own, np.stack([r.mean_RKD[0, -1] for r in both]), exemplar_rows(model))


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half width of the 95% t interval over seeds, nan for one seed)."""
    known = np.array([v for v in values if not np.isnan(v)])
    if len(known) < 2:
        return float(known.mean()) if len(known) else float("nan"), float("nan")
    return float(known.mean()), T975.get(len(known), 2.2) * float(known.std(ddof=1)) / len(known) ** 0.5


def efficiency(scores: Sequence[Score], policy: str, against: str, labels: int, *, draws: int = 500) -> Efficiency:
    """`Efficiency` from mean curves over seeds; the other's curve is made monotone and read between marks in log n."""
    seeds = sorted({s.seed for s in scores})
    own = {s.seed: s.auroc for s in scores if s.policy == policy and s.labels == labels}
    other = {(s.seed, s.labels): s.auroc for s in scores if s.policy == against}
    counts = sorted({n for _, n in other})

    def ratio(drawn: Iterable[int]) -> float:
        drawn = list(drawn)
        reached = np.mean([own[s] for s in drawn])
        curve = np.maximum.accumulate([np.mean([other[s, n] for s in drawn if (s, n) in other]) for n in counts])
        return float(np.exp(np.interp(reached, curve + 1e-9 * np.arange(len(curve)), np.log(counts)))) / labels

    usable = [s for s in seeds if s in own]
    if not usable or not counts:
        return Efficiency(against, labels, float("nan"), float("nan"), float("nan"), at_least=False, at_most=False)
    rng = np.random.default_rng(0)
    found = [ratio(rng.choice(usable, len(usable))) for _ in range(draws)]
    value = ratio(usable)
    low, high = (float(q) for q in np.quantile(found, [0.025, 0.975]))
    ends = (counts[-1] / labels, counts[0] / labels)
    return Efficiency(against, labels, value, low, high, value >= ends[0] * 0.999, value <= ends[1] * 1.001)


def table(scores: Sequence[Score], labels: Sequence[int]) -> list[str]:
    """One line a policy and label count: mean and 95% half width over seeds."""
    names = list(dict.fromkeys(s.policy for s in scores))
    heads = "".join(f"{head:<16}" for head in ("AUROC", "balanced", "ECE", "its floor", "Brier"))
    lines = [f"{'policy':<20}{'labels':>7}{'n':>4}  {heads}"]
    for name in names:
        for count in sorted(set(labels)):
            own = [s for s in scores if s.policy == name and s.labels == count]
            if own:
                kinds = ("auroc", "balanced_accuracy", "ece", "ece_floor", "brier")
                cells = [over_seeds([getattr(s, kind) for s in own]) for kind in kinds]
                shown = "".join(f"{m:.3f} ±{h:.3f}    " for m, h in cells)
                lines.append(f"{name:<20}{count:>7}{len(own):>4}  {shown}")
    return lines


def member_lines(scores: Sequence[Score]) -> list[str]:
    """AUROC of each member alone and of all together under random choice, by labels: where the features end."""
    own = [s for s in scores if s.policy == RANDOM]
    counts = sorted({s.labels for s in own})
    names = list(dict.fromkeys(name for s in own for name in s.members))
    lines = [f"{'random choice, AUROC of':<26}" + "".join(f"{f'{n} labels':<16}" for n in counts)]
    for name in [*names, "all together"]:
        cells = []
        for count in counts:
            values = [s.members.get(name, s.auroc) for s in own if s.labels == count]
            mean, half = over_seeds(values)
            cells.append(f"{mean:.3f} ±{half:.3f}    ")
        lines.append(f"{name:<26}" + "".join(cells))
    return lines


def ratio_lines(ratios: Sequence[Efficiency], policies: Sequence[str]) -> list[str]:
    names = [p for p in policies if p != RANDOM]
    per = len(ratios) // max(len(names), 1)
    lines = ["label efficiency: labels that random choice needs for the same AUROC, divided by labels used"]
    for place, ratio in enumerate(ratios):
        against = "the same critic" if ratio.against == RANDOM else "the reference critic"
        sign = ">=" if ratio.at_least else "<=" if ratio.at_most else "  "
        lines.append(
            f"{names[place // per]:<20}{ratio.labels:>5} labels, {against:<21}{sign}{ratio.ratio:6.2f}"
            f"  [{ratio.low:.2f}, {ratio.high:.2f}]"
        )
    return lines


def write(
    out: Path, data: Path, rows: Sequence[Judged], scores: Sequence[Score], ratios: Sequence[Efficiency],
    timings: Sequence[Timing], seconds: float,
) -> None:  # fmt: skip
    content = {
        "data": data.name, "rows": len(rows), "seconds": round(seconds, 1), "scores": [asdict(s) for s in scores],
        "efficiency": [asdict(r) for r in ratios], "timings": [asdict(t) for t in timings],
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(content, indent=1) + "\n")
