"""How far people's judgements can be relied on: agreement, error rates, tests, time, and pull of the critic.

Agreement (Krippendorff's alpha) and error rates (Dawid-Skene) rest on *blind first* judgements: what each
person said before the critic's verdict or anybody's opinion was on the page, whatever they made of it
later. An item is one answer of a sample. Late judgements count, tests and leads' decisions do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from alignment.automation_bias import automation_bias, list_switches
from alignment.judgements import Figures, GoldAnswer, Judgement, RaterFigures
from alignment.metrics.agreement import alpha
from alignment.metrics.bootstrap import DRAWS
from alignment.metrics.error_rates import error_rates
from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Metric

KEPT = 40  # newest tests and switches listed of each person
# A worker has other things to do: judgements times draws stay below this, but for FEWEST_DRAWS.
MOST_DRAWN = 10_000_000
FEWEST_DRAWS = 100


def compute_figures(judgements: Sequence[Judgement], *, seed: int, draws: int = DRAWS) -> Figures:
    """All figures of one experiment; `judgements` oldest first. Raters in alphabetical order.

    Empty input: no raters, and metrics that say why they have no value. A second judgement of the same
    sample by the same person for the same purpose is an error: `Judgement` holds all of them.
    """
    _check_unique(judgements)
    draws = min(draws, max(FEWEST_DRAWS, MOST_DRAWN // max(1, len(judgements))))
    blind = [j for j in judgements if j.blind and j.purpose == "review" and j.first]
    by_rater: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_rater.setdefault(judgement.rater, []).append(judgement)
    names = sorted(by_rater)
    table, clusters, truth = tabulate(blind, names)
    rates = error_rates(table, clusters=clusters, known_I=truth, groups=names, seed=seed, draws=draws)
    others = (~np.isnan(table)).sum(axis=0) >= 2
    raters = []
    for row, (name, (sensitivity, specificity)) in enumerate(zip(names, rates, strict=True)):
        own = by_rater[name]
        golds = list_gold_answers(own)
        raters.append(
            RaterFigures(
                rater=name,
                judgements=len(own),
                shared=int((others & ~np.isnan(table[row])).sum()),
                seconds=quartiles([j.seconds for j in own if j.seconds is not None]),
                gold=gold_accuracy(golds, group=name),
                sensitivity=sensitivity,
                specificity=specificity,
                bias=automation_bias(own, group=name),
                golds=golds[-KEPT:],
                switches=list_switches(own)[-KEPT:],
            )
        )
    return Figures(
        raters=raters,
        alpha=blind_alpha(blind, seed=seed, draws=draws),
        alpha_by_round=_alphas(blind, lambda j: j.round, seed=seed, draws=draws),
        alpha_by_principle=_alphas(blind, lambda j: j.principle, seed=seed, draws=draws),
        bias=automation_bias(judgements),
        seed=seed,
        draws=draws,
    )


def blind_alpha(blind: Sequence[Judgement], *, seed: int, draws: int = DRAWS, group: str = "") -> Metric:
    """Krippendorff's alpha (nominal) of first judgements, answers of one sample drawn together."""
    table, clusters, _ = tabulate(blind, sorted({j.rater for j in blind}))
    return alpha("blind_alpha", table, clusters=clusters, seed=seed, draws=draws, group=group)


def tabulate(blind: Iterable[Judgement], names: Sequence[str]) -> tuple[Floats, list[str], Floats]:
    """(ratings [raters, answers] of 1, 0 and nan; the sample of each answer; what a lead decided, nan = nothing)."""
    rows = list(blind)
    place = {name: row for row, name in enumerate(names)}
    items = {key: at for at, key in enumerate(dict.fromkeys((j.sample, answer) for j in rows for answer in j.first))}
    table = np.full((len(names), len(items)), np.nan)
    truth = np.full(len(items), np.nan)
    for judgement in rows:
        for answer, violates in judgement.first.items():
            at = items[judgement.sample, answer]
            table[place[judgement.rater], at] = violates
            if answer in judgement.decided:
                truth[at] = judgement.decided[answer]
    return table, [sample for sample, _ in items], truth


def list_gold_answers(judgements: Iterable[Judgement]) -> list[GoldAnswer]:
    """First verdicts on answers whose label was known, in the order of the judgements."""
    return [
        GoldAnswer(j.sample, answer, said, j.expected[answer])
        for j in judgements
        if j.purpose == "gold"
        for answer, said in j.first.items()
        if answer in j.expected
    ]


def gold_accuracy(golds: Sequence[GoldAnswer], *, group: str = "") -> Metric:
    """Share of known answers judged as expected, first try, with Wilson's interval. None given: no value."""
    if not golds:
        return not_computable("gold_accuracy", "no gold sample came their way", group=group)
    right = sum(gold.said == gold.expected for gold in golds)
    return measured("gold_accuracy", right / len(golds), wilson(right, len(golds)), len(golds), group=group)


def quartiles(seconds: Sequence[float]) -> list[float] | None:
    """[lower quartile, median, upper quartile], linear between neighbours; None for an empty input."""
    return [float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75])] if seconds else None


def _alphas(
    blind: Sequence[Judgement], key: Callable[[Judgement], int | str], *, seed: int, draws: int
) -> list[Metric]:
    groups: dict[int | str, list[Judgement]] = {}
    for judgement in blind:
        groups.setdefault(key(judgement), []).append(judgement)
    # A principle may be "" (a competence task without one): that is no group to report.
    ordered = sorted((group for group in groups if group != ""), key=lambda g: (isinstance(g, str), g))
    return [blind_alpha(groups[group], seed=seed, draws=draws, group=str(group)) for group in ordered]


def _check_unique(judgements: Iterable[Judgement]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for j in judgements:
        key = (j.rater, j.sample, j.purpose)
        if key in seen:
            raise ValueError(
                f"{j.rater!r} has two {j.purpose} judgements of {j.sample!r}; pass first and standing as one"
            )
        seen.add(key)
