"""What several raters buy: how far they agree, and Dawid-Skene against the majority at known error rates.

The file's raters have no names across rows, so nothing can be fitted on them. Instead three simulated raters of
unequal competence judge the real thresholded labels: on average `flips` of their verdicts are wrong, in the
proportions COMPETENCE. Who is right is then known, and majority, crowd-kit's Dawid-Skene (as a round uses it),
the best weighting there is (Bayes with the true error rates) and a single random rater are scored by it. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alignment.bench.rows import THRESHOLD, Judged
from alignment.labels import Vote, violation_chances
from alignment.metrics.agreement import alpha
from alignment.metrics.result import Interval
from alignment.records import Metric

FLIPS = (0.1, 0.2, 0.3)  # mean error rates of the raters
COMPETENCE = (0.4, 1.0, 1.6)  # each rater's error rate over the mean; at 30% the worst still beats a coin
METHODS = ("majority", "dawid-skene", "known errors", "one rater")


@dataclass(frozen=True)
class FlipRow:
    """Shares of `n` answers that a method labels right, in [0, 1], after the raters of one seed erred."""

    flips: float
    seed: int
    n: int
    right: dict[str, float]  # method -> share


@dataclass(frozen=True)
class RatersResult:
    rows: int  # in the file
    overlapping: int  # with two human scores or more
    thresholded_same: float | None  # share of the overlapping ones where all raters fall on one side of 0.5
    alphas: list[Metric] = field(default_factory=list)
    flipped: list[FlipRow] = field(default_factory=list)

    def table(self) -> str:
        """What is printed."""
        lines = [f"{self.rows} rows, {self.overlapping} with two human scores or more"]
        if self.thresholded_same is not None:
            lines.append(f"all raters on one side of {THRESHOLD:g}: {self.thresholded_same:.3f} of them")
        lines += [f"{m.name:<24} {_metric(m)}" for m in self.alphas]
        lines += ["", f"accuracy against the labels before the flips, 3 raters, errors as {_ratio()}"]
        lines.append(f"{'flips':<7}" + "".join(f"{name:<23}" for name in METHODS) + "gain of dawid-skene")
        for flips in sorted({row.flips for row in self.flipped}):
            own = [row for row in self.flipped if row.flips == flips]
            cells = [mean_over_seeds([row.right[name] for row in own]) for name in METHODS]
            gain = mean_over_seeds([row.right["dawid-skene"] - row.right["majority"] for row in own])
            shown = "".join(f"{_cell(*cell):<23}" for cell in cells)
            lines.append(f"{flips:<7.0%}{shown}{_cell(*gain)}")
        if self.flipped:
            seeds = len({row.seed for row in self.flipped})
            lines.append(f"n={self.flipped[0].n} answers, mean over {seeds} seeds, 95% interval of that mean")
        return "\n".join(lines)


def run_raters(rows: Sequence[Judged], *, seeds: Sequence[int], out: Path | None = None) -> RatersResult:
    """Alpha of the file's raters, and the flips on all its labels; with `out` the raw rows as one JSON file.

    ValueError where no row has two human scores, or the labels are all alike: there is nothing to compare.
    """
    if not seeds:
        raise ValueError("no seed was given; --seeds takes at least 1")
    overlapping = [row for row in rows if len(row.scores) >= 2]
    if not overlapping:
        raise ValueError(f"none of {len(rows)} rows has two human_scores or more; --raters needs overlapping raters")
    truth = np.array([row.violates for row in rows])
    if truth.all() or not truth.any():
        raise ValueError(f"all {len(rows)} labels are the same, so that every method is right; use another file")
    flipped = [score_flips(truth, flips=flips, seed=seed) for flips in FLIPS for seed in seeds]
    same = np.mean([len({score >= THRESHOLD for score in row.scores}) == 1 for row in overlapping])
    result = RatersResult(len(rows), len(overlapping), float(same), read_alphas(overlapping), flipped)
    if out is not None:
        out.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return result


def read_alphas(rows: Sequence[Judged]) -> list[Metric]:
    """Krippendorff's alpha of the scores (interval data) and of their sides of 0.5 (nominal); clusters = prompts.

    Alpha does not ask who is who, so the raters of a row may be others than those of the next.
    """
    table = np.full((max(len(row.scores) for row in rows), len(rows)), np.nan)
    for column, row in enumerate(rows):
        table[: len(row.scores), column] = row.scores
    sides = np.where(np.isnan(table), np.nan, (table >= THRESHOLD).astype(np.float64))
    prompts = [row.prompt for row in rows]
    return [
        alpha("alpha, scores", table, seed=0, scale="interval", clusters=prompts),
        alpha("alpha, violates or not", sides, seed=0, clusters=prompts),
    ]


def score_flips(truth_N: NDArray[np.bool_], *, flips: float, seed: int) -> FlipRow:
    """Three raters err on `truth_N`, `flips` on average; how often each method finds the truth again."""
    rng = np.random.default_rng([seed, round(1000 * flips)])
    errors = np.array(COMPETENCE) * flips
    said_RN = truth_N != (rng.random((len(errors), len(truth_N))) < errors[:, None])
    votes = [Vote(str(i), str(r), {"r": bool(v)}) for r, row in enumerate(said_RN) for i, v in enumerate(row)]
    posterior = violation_chances(votes)
    chance_N = np.array([posterior[str(i), "r"] for i in range(len(truth_N))])
    one_N = said_RN[rng.integers(len(errors), size=len(truth_N)), np.arange(len(truth_N))]
    prior = np.log(truth_N.mean() / (~truth_N).mean())
    logit_N = prior + np.where(said_RN, 1.0, -1.0).T @ np.log((1 - errors) / errors)
    found = {
        "majority": said_RN.mean(axis=0) >= 0.5, "dawid-skene": chance_N >= 0.5,
        "known errors": logit_N >= 0, "one rater": one_N,
    }  # fmt: skip
    right = {name: float((verdict == truth_N).mean()) for name, verdict in found.items()}
    return FlipRow(flips, seed, len(truth_N), right)


def mean_over_seeds(values: Sequence[float]) -> tuple[float, Interval | None]:
    """Mean and its 95% interval by Student's t over seeds; no interval for one seed."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, Interval(mean - half, mean + half)


def _cell(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + ("" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]")


def _metric(metric: Metric) -> str:
    if metric.value is None:
        return f"not computable: {metric.reason}"
    low, high = metric.ci_low, metric.ci_high
    interval = None if low is None or high is None else Interval(low, high)
    return f"{_cell(metric.value, interval)} n={metric.n}"


def _ratio() -> str:
    return " : ".join(f"{c:g}" for c in COMPETENCE)
