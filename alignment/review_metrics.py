"""What a round's reviews say about the critic, about all samples, and about the reviewing itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alignment.config import RoundConfig
from alignment.critic import HeldOut
from alignment.metrics import agreement, calibration, efficiency, estimates
from alignment.metrics.all_samples import estimate_all
from alignment.metrics.bootstrap import percentile_interval, resample_weights
from alignment.metrics.result import Floats, measured, not_computable
from alignment.records import Label, Metric, Sample


def review_metrics(config: RoundConfig, samples: list[Sample], labels: list[Label], held_out: HeldOut) -> list[Metric]:
    """Agreement, audit and weighted estimates, held-out calibration, and yield; one row an answer.

    Predictions are those that the critic made *before* people judged, so that they are honest; a failed
    critique is nan. Figures over all samples weigh by 1/propensity; the audit slice needs no weights.
    """
    by_query = {label.query: label for label in labels}
    predicted, human, chance, audit, clusters = [], [], [], [], []
    found, audited = [], []
    for sample in samples:
        label = by_query.get(sample.query["id"])
        if label is None or not label.violates or sample.propensity <= 0:
            continue
        is_audit = bool(sample.flag and sample.flag["reason"] == "audit")
        found.append(max(label.violates.values()) >= 0.5)
        audited.append(is_audit)
        before = {c["response"]: c["violation"] for c in sample.critiques}
        for response, p in label.violates.items():
            seen = before.get(response)
            predicted.append(np.nan if seen is None else float(seen))
            human.append(p)
            chance.append(sample.propensity)
            audit.append(is_audit)
            clusters.append(sample.query["id"])
    own, people, pi, slice_ = np.array(predicted), np.array(human), np.array(chance), np.array(audit, dtype=bool)
    in_audit = np.flatnonzero(slice_)
    audit_clusters = [clusters[i] for i in in_audit]
    seed = config.seed
    metrics: list[Metric] = [
        measured("reviews", float(sum(label.reviews for label in labels)), None, len(labels)),
        agreement.critic_human_alpha(own, people, seed=seed, clusters=clusters),
        agreement.agreement_share("critic_agreement_audit", own[in_audit], people[in_audit]),
        estimates.weighted_rate(
            "violation_rate_audit", people[in_audit], np.ones(len(in_audit)), clusters=audit_clusters
        ),
        estimates.weighted_rate("violation_rate_weighted", people, pi, clusters=clusters),
        *estimates_over_all(samples, by_query),
        efficiency.review_yield(found, audited),
        calibration.expected_calibration_error(held_out.predicted, held_out.observed, seed=seed),
        calibration.brier(held_out.predicted, held_out.observed, seed=seed),
        *calibration.reliability(held_out.predicted, held_out.observed),
        critic_auroc(held_out, seed=seed),
    ]
    return [*metrics, _human_alpha(labels, seed=seed)]


def estimates_over_all(samples: list[Sample], labels: dict[str, Label]) -> list[Metric]:
    """`estimate_all` over every answer that took part in the draw, by the critic's scores before people judged.

    Labels of samples that were not drawn (a lead sent them to people) say nothing about the others and stay
    out. Of a queue that was closed before its end, what was judged counts as a random part of what was drawn.
    """
    drawn = [s for s in samples if s.flag is not None and s.propensity > 0]
    judged = [s for s in drawn if s.query["id"] in labels and labels[s.query["id"]].violates]
    done = len(judged) / max(len(drawn), 1)
    reviewed = {s.query["id"] for s in judged}
    predicted, human, chance, clusters = [], [], [], []
    for sample in samples:
        query = sample.query["id"]
        if sample.propensity <= 0:
            continue
        verdicts = labels[query].violates if query in reviewed else {}
        for critique in sample.critiques:
            predicted.append(np.nan if critique["violation"] is None else float(critique["violation"]))
            human.append(verdicts.get(critique["response"], np.nan))
            chance.append(sample.propensity * (done or 1.0))
            clusters.append(query)
    return estimate_all(predicted, human, chance, clusters)


def _human_alpha(labels: list[Label], *, seed: int) -> Metric:
    """Alpha among people, over the answers that two or more of them judged (who is who does not matter to it)."""
    items = [(label.query, own) for label in labels for own in label.votes.values() if len(own) >= 2]
    table = np.full((max((len(own) for _, own in items), default=1), len(items)), np.nan)
    for column, (_, own) in enumerate(items):
        table[: len(own), column] = own
    return agreement.alpha("human_alpha", table, seed=seed, clusters=[query for query, _ in items])


def critic_auroc(held_out: HeldOut, *, seed: int) -> Metric:
    """Area under the ROC curve on answers judged by people, predicted by group cross-validation; bootstrap interval."""
    p, y = np.array(held_out.predicted), np.array(held_out.observed) >= 0.5
    n = len(p)
    if n == 0 or y.all() or not y.any():
        why = "people's labels hold no answer of one of the two kinds" if n else "no answer was judged by people"
        return not_computable("critic_auroc", why, n=n, seed=seed)
    drawn = [weighted_auroc(p, y, weights_ND) for weights_ND in resample_weights(n, seed=seed)]
    interval = percentile_interval(np.concatenate(drawn)) if n > 1 else None
    return measured("critic_auroc", float(weighted_auroc(p, y, np.ones((n, 1)))[0]), interval, n, seed=seed)


def weighted_auroc(scores_N: Floats, positive_N: NDArray[np.bool_], weights_ND: Floats) -> Floats:
    """[D]: the chance that a positive scores above a negative, a tie counting half; nan where a draw lacks a kind.

    The Mann-Whitney form of the area, for many weightings of the same scores at once: 1,000 draws take as long as a
    few areas from scratch.
    """
    order = np.argsort(scores_N, kind="stable")
    starts = np.flatnonzero(np.diff(scores_N[order], prepend=np.nan) != 0)  # of the groups of equal scores
    positive_GD, negative_GD = (
        np.add.reduceat(weights_ND[order] * kind_N[order][:, None], starts, axis=0)
        for kind_N in (positive_N, ~positive_N)
    )
    below_GD = np.cumsum(negative_GD, axis=0) - negative_GD
    pairs_D = positive_GD.sum(axis=0) * negative_GD.sum(axis=0)
    won_D = (positive_GD * (below_GD + negative_GD / 2)).sum(axis=0)
    return np.asarray(won_D / np.where(pairs_D > 0, pairs_D, np.nan))
