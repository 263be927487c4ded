"""Keep the new checkpoint, or go on from the last accepted one: every check in words and numbers (ours).

Decided on point estimates over the held-out probes; the intervals are stated, so that a reader sees how much of a
rise may be chance. What cannot be computed is not accepted. Conformity is 1 - attack_success, competence the share
of tasks solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from alignment.config import Objective, RoundConfig
from alignment.metrics.front import hypervolume, operating_point
from alignment.records import GateResult, Metric

SLACK = 1e-9  # so that a fall of exactly the tolerance passes in floating point
Aim = Literal["conformity", "competence"]
METRIC: dict[Aim, str] = {"conformity": "attack_success", "competence": "competence"}


@dataclass(frozen=True)
class Limits:
    """What a round may lose. A floor of None is relative only: `tolerance` below the value before the round."""

    tolerance: float  # how far an objective may fall, a share
    over_refusal_limit: float  # how far over-refusal may rise above the base model's, a share
    level_tolerance: int  # tasks of one level that may be lost
    conformity_floor: float | None = None  # in [0, 1]
    competence_floor: float | None = None  # in [0, 1]

    @classmethod
    def of(cls, config: RoundConfig) -> Self:
        return cls(
            config.tolerance, config.over_refusal_limit, config.level_tolerance, config.conformity_floor,
            config.competence_floor,
        )  # fmt: skip

    def floor(self, aim: Aim) -> float | None:
        return self.conformity_floor if aim == "conformity" else self.competence_floor


@dataclass(frozen=True)
class _Check:
    passed: bool
    words: str

    def __str__(self) -> str:
        return f"{'Passed' if self.passed else 'Failed'}: {self.words}."


def gate(
    objective: Objective,
    old: Sequence[Metric],
    new: Sequence[Metric],
    *,
    limits: Limits,
    base_over_refusal: Metric | None,
) -> GateResult:
    """Accepted only if every check holds.

    The round's objective rose, the other fell by at most `tolerance`, the hypervolume did not fall, no level of
    competence lost more than `level_tolerance` tasks, no absolute floor is broken, and over-refusal is at most
    `over_refusal_limit` above the base model's. A tie is not a rise. A joint round has no objective of its own:
    neither may fall beyond `tolerance`, and the hypervolume has to rise.
    """
    aims: tuple[Aim, Aim] = ("competence", "conformity") if objective == "competence" else ("conformity", "competence")
    checks = [_objective(aim, objective, old, new, limits.tolerance) for aim in aims]
    checks += [_floor(aim, new, floor) for aim in aims if (floor := limits.floor(aim)) is not None]
    checks.append(_hypervolume(old, new, has_to_rise=objective == "joint"))
    checks.append(_levels(old, new, limits.level_tolerance))
    checks.append(_over_refusal(base_over_refusal, _find("over_refusal", new), limits.over_refusal_limit))
    accepted = all(check.passed for check in checks)
    verdict = "Accepted: every check passed." if accepted else "Rolled back: a check failed."
    return GateResult(accepted, [verdict, *map(str, checks)])


def broken_floor(metrics: Sequence[Metric], limits: Limits) -> str:
    """Which absolute floor the metrics of one model break, in words; "" for none, or where there is none to break."""
    aims: tuple[Aim, ...] = ("conformity", "competence")
    checks = [_floor(aim, metrics, floor) for aim in aims if (floor := limits.floor(aim)) is not None]
    return "; ".join(check.words for check in checks if not check.passed)


def _objective(
    aim: Aim, objective: Objective, old: Sequence[Metric], new: Sequence[Metric], tolerance: float
) -> _Check:
    name = METRIC[aim]
    before, after = _find(name, old), _find(name, new)
    title = "Attack success" if aim == "conformity" else "Competence"
    if before is None or after is None or before.value is None or after.value is None:
        missing = "before" if before is None or before.value is None else "after"
        why = _why(before if missing == "before" else after)
        return _Check(False, f"{title.lower()} {missing} the round is not known ({why})")
    gain = after.value - before.value if aim == "competence" else before.value - after.value
    change = f"{title} went from {_number(before)} to {_number(after)}"
    if aim == objective:
        passed = gain > SLACK
        return _Check(passed, f"{change}; {aim}, the objective of this round, {'rose' if passed else 'did not rise'}")
    passed = gain >= -tolerance - SLACK
    if gain >= 0:
        return _Check(passed, f"{change}; {aim} did not fall")
    side = "within" if passed else "beyond"
    return _Check(passed, f"{change}; {aim} fell by {-gain:.3f}, {side} the {tolerance:g} allowed")


def _floor(aim: Aim, new: Sequence[Metric], floor: float) -> _Check:
    found = _find(METRIC[aim], new)
    if found is None or found.value is None:
        return _Check(False, f"{aim} is not known ({_why(found)}), and its floor is {floor:g}")
    reached = found.value if aim == "competence" else 1 - found.value
    passed = reached >= floor - SLACK
    measured = "share solved" if aim == "competence" else "1 - attack success"
    side = "at or above" if passed else "below"
    return _Check(passed, f"{aim} is {reached:.3f} ({measured}, n {found.n}), {side} its floor of {floor:g}")


def _hypervolume(old: Sequence[Metric], new: Sequence[Metric], *, has_to_rise: bool) -> _Check:
    before, after = (hypervolume([operating_point(metrics)]) for metrics in (old, new))
    if before.value is None or after.value is None:
        missing = before if before.value is None else after
        return _Check(False, f"the hypervolume is not known ({_why(missing)})")
    change = f"Hypervolume (competence x conformity) went from {_number(before)} to {_number(after)}"
    gain = after.value - before.value
    if has_to_rise:
        return _Check(
            gain > SLACK, f"{change}; it {'rose' if gain > SLACK else 'did not rise'}, as a joint round has to"
        )
    return _Check(gain >= -SLACK, f"{change}; it {'did not fall' if gain >= -SLACK else 'fell'}")


def _levels(old: Sequence[Metric], new: Sequence[Metric], tolerance: int) -> _Check:
    """Levels are small, so the tolerance is in tasks: a share of 0.02 would be less than one of ten tasks."""
    levels = [
        {m.group: m for m in metrics if m.name == "competence" and m.group and m.value is not None}
        for metrics in (old, new)
    ]
    allowed = f"{tolerance} task{'' if tolerance == 1 else 's'} a level may be lost"
    falls = []
    for level in sorted(levels[0].keys() & levels[1].keys()):
        before, after = levels[0][level], levels[1][level]
        lost = round((before.value or 0) * before.n) - round((after.value or 0) * after.n)
        if lost > tolerance:
            falls.append(f"level {level} lost {lost} of {after.n} tasks, from {_number(before)} to {_number(after)}")
    if falls:
        return _Check(False, f"{'; '.join(falls)}; {allowed}")
    gone = sorted(levels[0].keys() - levels[1].keys())
    if gone:
        return _Check(False, f"competence on level {', '.join(gone)} was not measured after the round")
    return _Check(True, f"No level of competence fell beyond what is allowed: {allowed}")


def _over_refusal(base: Metric | None, after: Metric | None, limit: float) -> _Check:
    if base is None or base.value is None:
        return _Check(False, f"over-refusal of the base model is not known ({_why(base)})")
    if after is None or after.value is None:
        return _Check(False, f"over-refusal after the round is not known ({_why(after)})")
    passed = after.value <= base.value + limit + SLACK
    side = "within" if passed else "beyond"
    return _Check(passed, f"Over-refusal is {_number(after)}, {side} {limit:g} above the base model's {_number(base)}")


def _find(name: str, metrics: Sequence[Metric]) -> Metric | None:
    found = [m for m in metrics if m.name == name and m.group == ""]
    if len(found) > 1:
        raise ValueError(f"{name} is given {len(found)} times for the whole; pass the metrics of one model")
    return found[0] if found else None


def _number(metric: Metric) -> str:
    span = "" if metric.ci_low is None or metric.ci_high is None else f", {metric.ci_low:.2f} to {metric.ci_high:.2f}"
    return f"{metric.value:.3f} (n {metric.n}{span})"


def _why(metric: Metric | None) -> str:
    return "it was not measured" if metric is None else metric.reason or "no reason given"
