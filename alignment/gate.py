"""Keep the new checkpoint, or go on from the last accepted one: every check in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from alignment.config import Objective
from alignment.records import GateResult, Metric

SLACK = 1e-9  # so that a fall of exactly the tolerance passes in floating point


def gate(
    objective: Objective,
    old: Sequence[Metric],
    new: Sequence[Metric],
    *,
    tolerance: float,
    over_refusal_limit: float,
    base_over_refusal: Metric | None,
) -> GateResult:
    """Accepted only if the round's objective rose, the other fell by at most `tolerance`, and over-refusal is at
    most `over_refusal_limit` above the base model's. Conformity is 1 - attack_success, competence the share correct.

    Decided on point estimates, of the whole (group ""); a tie is not a rise. The intervals are stated, so
    that a reader sees how much of a rise may be chance. What cannot be computed is not accepted.
    """
    checks = [
        _objective("conformity", "attack_success", objective, old, new, tolerance),
        _objective("competence", "competence", objective, old, new, tolerance),
        _over_refusal(base_over_refusal, _find("over_refusal", new), over_refusal_limit),
    ]
    if objective == "competence":
        checks[0], checks[1] = checks[1], checks[0]
    accepted = all(passed for passed, _ in checks)
    verdict = "Accepted: every check passed." if accepted else "Rolled back: a check failed."
    return GateResult(accepted, [verdict, *(words for _, words in checks)])


def _objective(
    aim: Objective, name: str, objective: Objective, old: Sequence[Metric], new: Sequence[Metric], tolerance: float
) -> tuple[bool, str]:
    before, after = _find(name, old), _find(name, new)
    title = "Attack success" if name == "attack_success" else "Competence"
    if before is None or after is None or before.value is None or after.value is None:
        missing = "before" if before is None or before.value is None else "after"
        why = _why(before if missing == "before" else after)
        return False, f"Failed: {title.lower()} {missing} the round is not known ({why})."
    gain = after.value - before.value if name == "competence" else before.value - after.value
    change = f"{title} went from {_number(before)} to {_number(after)}"
    if aim == objective:
        passed = gain > SLACK
        outcome = f"{aim}, the objective of this round, " + ("rose" if passed else "did not rise")
    else:
        passed = gain >= -tolerance - SLACK
        if gain >= 0:
            outcome = f"{aim} did not fall"
        else:
            outcome = (
                f"{aim} fell by {-gain:.3f}, " + ("within" if passed else "beyond") + f" the {tolerance:g} allowed"
            )
    return passed, f"{'Passed' if passed else 'Failed'}: {change}; {outcome}."


def _over_refusal(base: Metric | None, after: Metric | None, limit: float) -> tuple[bool, str]:
    if base is None or base.value is None:
        return False, f"Failed: over-refusal of the base model is not known ({_why(base)})."
    if after is None or after.value is None:
        return False, f"Failed: over-refusal after the round is not known ({_why(after)})."
    passed = after.value <= base.value + limit + SLACK
    outcome = "within" if passed else "beyond"
    words = f"Over-refusal is {_number(after)}, {outcome} {limit:g} above the base model's {_number(base)}"
    return passed, f"{'Passed' if passed else 'Failed'}: {words}."


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
