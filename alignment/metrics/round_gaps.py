"""The gaps of one round, put together from what it measured: what the schedule of the next round reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignment.metrics.front import operating_point
from alignment.metrics.gaps import TransferRun, agreement_gap, performance_gap_recovered, teacher_gap
from alignment.metrics.result import not_computable
from alignment.records import Metric


def round_gaps(
    proposed: Sequence[Metric], old: Sequence[Metric], new: Sequence[Metric], reviewed: Sequence[Metric], *, seed: int
) -> list[Metric]:
    """Teacher gap, agreement gap, and the recovered gap of either objective.

    `proposed` are the metrics of the propose phase, `old` and `new` those of the probes before and after training,
    `reviewed` those of the reviews. The teacher gap (a proxy, ours): capacity of the student = `elicited_competence`,
    capability of the supervisor = `critic_agreement_audit`. The two are scores of different tasks, so its size says
    little and its change says more.
    """
    capacity = _find("elicited_competence", proposed)
    capability = _find("critic_agreement_audit", reviewed)
    people = agreement_gap(_find("human_alpha", reviewed), _find("critic_human_alpha", reviewed))
    return [teacher_gap(capacity, capability), people, *recovered_gaps(proposed, old, new, seed=seed)]


def recovered_gaps(
    proposed: Sequence[Metric], old: Sequence[Metric], new: Sequence[Metric], *, seed: int
) -> list[Metric]:
    """`recovered_gap` of conformity and of competence: (after - before) / (ceiling - before), 1 = all recovered.

    The formula of Burns et al. 2023 with ceilings of ours, both proxies: conformity can reach 1 (no attack succeeds),
    competence the score before plus the elicitation gap. No value where the ceiling is within noise of the score.
    """
    before, after = operating_point(old), operating_point(new)
    elicitation = _find("elicitation_gap", proposed)
    own = before[0].value
    no_ceiling = f"the elicitation gap is not known: {elicitation.reason}"
    ceiling = None if own is None or elicitation.value is None else min(1.0, own + elicitation.value)
    return [
        _recovered("conformity", before[1], after[1], 1.0, "", seed=seed),
        _recovered("competence", before[0], after[0], ceiling, no_ceiling, seed=seed),
    ]


def _recovered(
    group: str, before: Metric, after: Metric, ceiling: float | None, no_ceiling: str, *, seed: int
) -> Metric:
    name = "recovered_gap"
    if before.value is None or after.value is None:
        missing = before if before.value is None else after
        why = f"{group} was not measured: {missing.reason}"
        return not_computable(name, why, seed=seed, group=group)
    if ceiling is None:
        return not_computable(name, no_ceiling, n=after.n, seed=seed, group=group)
    run = TransferRun(before.value, after.value, ceiling, min(before.n, after.n))
    found = replace(performance_gap_recovered([run], seed=seed, name=name), group=group)
    if found.value is None:
        why = f"the ceiling {ceiling:.2f} and the score before, {before.value:.2f}, lie within noise (n {run.n})"
        return replace(found, reason=why, n=run.n)
    return replace(found, n=run.n, reason="a proxy")  # n counts the probes, where the median over runs counts runs


def _find(name: str, metrics: Sequence[Metric]) -> Metric:
    """The metric of the whole, or one without a value that says so."""
    for metric in metrics:
        if metric.name == name and metric.group == "":
            return metric
    return not_computable(name, "the round did not measure it")
