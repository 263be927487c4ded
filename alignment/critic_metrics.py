"""What a fitted critic's members are worth to it: their weights, and whether they err on the same answers."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from alignment.critic import Critic, HeldOut
from alignment.metrics.bootstrap import percentile_interval, resample_weights
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Metric

FEWEST = 10  # answers; a correlation of fewer says nothing
SPREAD = 1e-9  # variance below which errors are all the same, and correlate with nothing


def member_metrics(critic: Critic, held_out: HeldOut, *, seed: int) -> list[Metric]:
    """`critic_member_weight` a member, and `critic_error_correlation` a pair ("a|b") and over all pairs ("").

    A weight is in [0, 1] and has no interval; its n is the answers that it was fitted on. A correlation is
    Pearson's, in [-1, 1], of the held-out errors (prediction minus people's label) of two members; interval:
    bootstrap over answers, as if the answers to one prompt were independent, which narrows it.
    """
    n, names = len(held_out.predicted), list(critic.members)
    heads = 1 - critic.asked_weight  # of a member asked in words, whose own row is made where it is fitted
    rows = [measured("critic_member_weight", heads * critic.weights[name], None, n, group=name) for name in names]
    return rows + _correlations(names, held_out.errors_MN, seed=seed)


def _correlations(names: list[str], errors_MN: Floats, *, seed: int) -> list[Metric]:
    metric, n = "critic_error_correlation", errors_MN.shape[1]
    pairs = list(combinations(range(len(names)), 2))
    groups = [f"{names[a]}|{names[b]}" for a, b in pairs]
    if not pairs:
        return [not_computable(metric, "the critic has a single member", n=n, seed=seed)]
    if n < FEWEST:
        why = f"people have judged {n} answers that the critic learns from; {FEWEST} are needed"
        return [not_computable(metric, why, n=n, seed=seed, group=group) for group in [*groups, ""]]
    value_P = _pearson(errors_MN, np.ones((n, 1)), pairs)[:, 0]
    drawn_PD = np.concatenate([_pearson(errors_MN, w, pairs) for w in resample_weights(n, seed=seed)], axis=1)
    rows = []
    for group, value, drawn in zip(groups, value_P, drawn_PD, strict=True):
        if np.isfinite(value):
            rows.append(measured(metric, float(value), percentile_interval(drawn), n, seed=seed, group=group))
        else:
            why = "one of the two makes the same error everywhere"
            rows.append(not_computable(metric, why, n=n, seed=seed, group=group))
    usable = np.isfinite(value_P)
    if not usable.any():
        return [*rows, not_computable(metric, "no two members' errors vary", n=n, seed=seed)]
    interval = percentile_interval(drawn_PD[usable].mean(axis=0))
    return [*rows, measured(metric, float(value_P[usable].mean()), interval, n, seed=seed)]


def _pearson(errors_MN: Floats, weights_ND: Floats, pairs: list[tuple[int, int]]) -> Floats:
    """[P, D] weighted Pearson correlation of each pair of rows under each column of weights; nan where one is flat."""
    total_D = weights_ND.sum(axis=0)
    mean_MD = errors_MN @ weights_ND / total_D
    variance_MD = errors_MN**2 @ weights_ND / total_D - mean_MD**2
    spread_MD = np.where(variance_MD > SPREAD, np.sqrt(np.maximum(variance_MD, SPREAD)), np.nan)
    rows = []
    for a, b in pairs:
        shared_D = (errors_MN[a] * errors_MN[b]) @ weights_ND / total_D - mean_MD[a] * mean_MD[b]
        rows.append(shared_D / (spread_MD[a] * spread_MD[b]))
    return np.stack(rows)
