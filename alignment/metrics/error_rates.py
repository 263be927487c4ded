"""How often each person errs where nobody knows the truth: Dawid and Skene (1979) for two verdicts.

Every answer truly violates or not; a rater says "violates" of a violating answer with their sensitivity,
"fine" of a fine one with their specificity, independently of the other raters. EM from the majority vote,
as crowd-kit's `DawidSkene` does it (a test holds the two together). Ours: the batched form (all bootstrap
draws in one sparse product), truths that a lead decided, when there is a value, and the interval.

Two votes an answer never tell how common violations are: with the true share of violations the error
rates slide along a line that fits equally well. A third vote, or a lead's decision where two differ,
fixes it; without enough of these there is no value.

Axes: R raters, I answers, D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.metrics.bootstrap import DRAWS, percentile_interval, resample_weights
from alignment.metrics.rates import wilson
from alignment.metrics.result import Floats, Interval, measured, not_computable
from alignment.records import Metric

STEPS = 100
TOLERANCE = 1e-5  # largest change of an error rate at which EM has arrived
EPS = 1e-10  # crowd-kit's floor of a count
MIN_SHARED = 20  # answers with two judgements or more
MIN_DECIDED = 5  # disagreements that a lead decided, where fewer than MIN_SHARED answers have a third judgement
MIN_RATERS = 3
MIN_OWN = 10  # shared answers that a person judged
MIN_KIND = 5.0  # expected number of violating (or fine) answers among them


@dataclass(frozen=True)
class Fit:
    """Error rates of every rater in every draw, and each answer's P(violates)."""

    sensitivity_RD: Floats
    specificity_RD: Floats
    violating_RD: Floats  # expected number of violating answers among those that the rater judged
    fine_RD: Floats
    posterior_ID: Floats


def fit(ratings_RI: ArrayLike, weights_ID: ArrayLike, *, known_I: ArrayLike | None = None, steps: int = STEPS) -> Fit:
    """Dawid-Skene by EM, one fit a column of `weights_ID` (how often an answer was drawn; 1 for the data itself).

    Ratings are 1 (violates), 0 (fine) or nan (not rated); every answer needs one. `known_I` holds truths 1
    or 0, nan where there is none. A rater without any answer of one kind gets 1/2 there.
    """
    from scipy import sparse  # here: only fits need it

    ratings = np.atleast_2d(np.asarray(ratings_RI, dtype=np.float64))
    weights = np.asarray(weights_ID, dtype=np.float64)
    raters, answers = ratings.shape
    if weights.ndim != 2 or len(weights) != answers:
        raise ValueError(f"weights_ID has shape {weights.shape}; pass one row for each of {answers} answers")
    said_yes, said_no = ratings == 1, ratings == 0
    if not (said_yes | said_no).any(axis=0).all():
        raise ValueError("an answer without a rating was passed; leave it out")
    votes = sparse.csr_array(np.concatenate([said_yes, said_no]).astype(np.float64))  # [2R, I]
    votes_T = votes.T.tocsr()
    known = np.full(answers, np.nan) if known_I is None else np.asarray(known_I, dtype=np.float64)
    fixed = ~np.isnan(known)
    total_D, counts = weights.sum(axis=0), votes @ weights  # [2R, D]

    share = said_yes.sum(axis=0) / (said_yes | said_no).sum(axis=0)
    posterior = np.repeat(np.where(fixed, known, share)[:, None], weights.shape[1], axis=1)
    sensitivity = specificity = violating = fine = np.zeros((raters, weights.shape[1]))
    for step in range(steps + 1):
        # M: how often each verdict falls on answers of each kind.
        drawn = weights * posterior
        prior = np.clip(drawn.sum(axis=0) / total_D, EPS, 1 - EPS)
        on_violating = votes @ drawn
        on_fine = np.maximum(counts - on_violating, 0.0)
        before = sensitivity, specificity
        sensitivity, violating = _rate(on_violating[:raters], on_violating[raters:])
        specificity, fine = _rate(on_fine[raters:], on_fine[:raters])
        moved = max(np.abs(a - b).max(initial=0.0) for a, b in zip(before, (sensitivity, specificity), strict=True))
        if step == steps or moved < TOLERANCE:
            break
        # E: the log odds of each answer, votes added up.
        weight_of = np.concatenate([
            np.log(sensitivity) - np.log1p(-specificity),  # of saying "violates"
            np.log1p(-sensitivity) - np.log(specificity),  # of saying "fine"
        ])  # fmt: skip
        logit = np.log(prior / (1 - prior)) + votes_T @ weight_of
        posterior = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
        posterior[fixed] = known[fixed, None]
    return Fit(sensitivity, specificity, violating, fine, posterior)


def error_rates(
    ratings_RI: ArrayLike,
    *,
    clusters: Sequence[str],
    seed: int,
    known_I: ArrayLike | None = None,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> list[tuple[Metric, Metric]]:
    """(sensitivity, specificity) of each rater, in [0, 1]; n is the number of shared answers they judged.

    Only answers with two judgements or more count. Interval: bootstrap over `clusters` [I] (all answers to
    one query belong together), widened to Wilson's interval on the expected counts, since a rater without
    an error has none in any draw either (ours). No value below the minimums above, each named in the reason.
    """
    ratings = np.atleast_2d(np.asarray(ratings_RI, dtype=np.float64))
    names = list(groups) if groups is not None else [""] * len(ratings)
    known = np.full(ratings.shape[1], np.nan) if known_I is None else np.asarray(known_I, dtype=np.float64)
    shared = (~np.isnan(ratings)).sum(axis=0) >= 2
    table, truth = ratings[:, shared], known[shared]
    own_R = (~np.isnan(table)).sum(axis=1)
    why = why_unfit(table, truth)
    if why:
        return [_neither(why, int(n), seed, name) for n, name in zip(own_R, names, strict=True)]
    kept = [cluster for cluster, is_shared in zip(clusters, shared, strict=True) if is_shared]
    whole = fit(table, np.ones((table.shape[1], 1)), known_I=truth)
    drawn = _draw(table, truth, kept, seed=seed, draws=draws)
    rows = []
    for r, name in enumerate(names):
        n = int(own_R[r])
        if n < MIN_OWN:
            rows.append(
                _neither(f"they judged {n} answers that others judged too; {MIN_OWN} are needed", n, seed, name)
            )
            continue
        sensitivity = _metric(
            "sensitivity", whole.sensitivity_RD[r, 0], whole.violating_RD[r, 0], drawn[0][r], n, seed, name, "violating"
        )
        specificity = _metric(
            "specificity", whole.specificity_RD[r, 0], whole.fine_RD[r, 0], drawn[1][r], n, seed, name, "fine"
        )
        rows.append((sensitivity, specificity))
    return rows


# --- Parts ------------------------------------------------------------------------------------------


def _rate(right: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    """Share right with crowd-kit's floor on both counts, and their sum. The floor keeps shares inside (0, 1)."""
    up, down = np.maximum(right, EPS), np.maximum(wrong, EPS)
    return up / (up + down), right + wrong


def why_unfit(table_RI: Floats, truth_I: Floats) -> str:
    """Why no fit of these shared answers can be trusted; "" where it can."""
    rated = ~np.isnan(table_RI)
    answers, people = table_RI.shape[1], int(rated.any(axis=1).sum())
    if answers < MIN_SHARED:
        return f"{answers} answers were judged by two or more people; {MIN_SHARED} are needed"
    if people < MIN_RATERS:
        return f"{people} people share answers; {MIN_RATERS} are needed"
    differ = (table_RI == 1).any(axis=0) & (table_RI == 0).any(axis=0)
    if not differ.any():
        return "nobody contradicted anybody, so there are no errors to tell apart"
    triple = int((rated.sum(axis=0) >= 3).sum())
    decided = int((differ & ~np.isnan(truth_I)).sum())
    if triple < MIN_SHARED and decided < MIN_DECIDED:
        return (
            f"{triple} answers have three judgements ({MIN_SHARED} are needed) "
            f"and {decided} disagreements were decided ({MIN_DECIDED} would do instead)"
        )
    return ""


def _draw(
    table_RI: Floats, truth_I: Floats, clusters: Sequence[str], *, seed: int, draws: int
) -> tuple[Floats, Floats]:
    """Sensitivity and specificity [R, D] in every draw; nan where a rater was drawn with no answer of the kind."""
    blocks = resample_weights(table_RI.shape[1], seed=seed, draws=draws, clusters=clusters)
    fits = [fit(table_RI, weights, known_I=truth_I) for weights in blocks]
    parts: list[NDArray[np.float64]] = []
    for rates, counts in (("sensitivity_RD", "violating_RD"), ("specificity_RD", "fine_RD")):
        rate = np.concatenate([getattr(one, rates) for one in fits], axis=1)
        count = np.concatenate([getattr(one, counts) for one in fits], axis=1)
        parts.append(np.where(count > 0.5, rate, np.nan))
    return parts[0], parts[1]


def _metric(name: str, value: float, count: float, draws_D: Floats, n: int, seed: int, group: str, kind: str) -> Metric:
    if count < MIN_KIND:
        why = f"about {count:.0f} of the {n} shared answers they judged are {kind}; {MIN_KIND:.0f} are needed"
        return not_computable(name, why, n=n, seed=seed, group=group)
    certain = wilson(min(value * count, count), count)
    drawn = percentile_interval(draws_D)
    if drawn is None:
        return measured(name, value, None, n, seed=seed, group=group, note="no interval: too few answers of the kind")
    interval = Interval(min(drawn.low, certain.low), max(drawn.high, certain.high))
    return measured(name, value, interval, n, seed=seed, group=group)


def _neither(why: str, n: int, seed: int, group: str) -> tuple[Metric, Metric]:
    return (
        not_computable("sensitivity", why, n=n, seed=seed, group=group),
        not_computable("specificity", why, n=n, seed=seed, group=group),
    )
