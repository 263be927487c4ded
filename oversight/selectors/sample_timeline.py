"""What became of one sample, in words and in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from oversight.models import Checkpoint, Label, LabelChange, Sample
from oversight.selectors.sample_history import History, Training
from oversight.selectors.verdicts import LETTERS


@dataclass(frozen=True)
class Step:
    """One line of the timeline. `at` is None for what is still to come."""

    words: str
    at: datetime | None = None
    tone: str = ""  # class of the mark


def describe_flag(sample: Sample) -> str:
    words = sample.flag_words or sample.flag_reason
    if sample.audit and sample.flag_reason == "audit":
        return f"{words[:1].upper()}{words[1:]}: the audit draws every sample with the same chance." if words else ""
    if not sample.flag_reason:
        return f"Not flagged, the critic alone decides; it had a chance of {sample.propensity:.0%} of going to people."
    return f"{words[:1].upper()}{words[1:]}; it had a chance of {sample.propensity:.0%} of going to people."


def describe_pairs(label: Label) -> list[str]:
    """E.g. "B over A", "the rewrite over A"."""
    pairs = []
    if label.rewrite:
        index = label.rewrite_of
        pairs.append("the rewrite" if index is None else f"the rewrite over {LETTERS[index]}")
    fine = [LETTERS[int(index)] for index, share in sorted(label.violates.items()) if share < 0.5]
    bad = [LETTERS[int(index)] for index, share in sorted(label.violates.items()) if share >= 0.5]
    pairs += [f"{good} over {wrong}" for good in fine for wrong in bad]
    if label.preferred is not None and not (fine and bad):
        pairs.append("A over B" if label.preferred == 0 else "B over A")
    return pairs


def list_steps(history: History) -> list[Step]:
    """The timeline, oldest first: what is known without a moment stands where it belongs."""
    sample, steps = history.sample, []
    query = sample.query
    if query.seed_key:
        steps.append(Step(f"Seed {query.seed_key}"))
    steps += [Step(f"Attack by {step.operator.replace('_', ' ')}", step.created_at) for step in history.lineage]
    steps.append(Step(f"{len(sample.responses)} answers in round {sample.round.number}", sample.created_at))
    if history.blind:
        return [*steps, Step("Waits for your judgement", None, "now")]
    judged = any(answer.critique for answer in history.answers)
    steps.append(Step("The critic judged them" if judged else "No critique", sample.created_at))
    steps.append(Step("Flagged for people" if sample.flag_reason else "Not flagged", sample.created_at))
    later = [
        Step(f"{turn.review.reviewer.get_username()}: {turn.said}", turn.review.created_at) for turn in history.turns
    ]
    later += [Step(_describe_change(change), change.at, "bad") for change in history.changes]
    if history.label is not None:
        later.append(
            Step(f"Label approved, {history.label.get_how_display().lower()}", history.label.created_at, "done")
        )
    later += [_describe_training(row) for row in history.trained]
    steps += sorted(later, key=lambda step: step.at or sample.created_at)
    if sample.status == Sample.Status.EXCLUDED:
        steps.append(Step(f"Excluded: {sample.excluded_reason}", None, "bad"))
    elif sample.status in (Sample.Status.QUEUED, Sample.Status.DISPUTED):
        steps.append(
            Step("Waits for people" if sample.status == Sample.Status.QUEUED else "Waits for a lead", None, "now")
        )
    return steps


def _describe_change(change: LabelChange) -> str:
    after = "the label is gone" if change.after is None else "the label was made anew"
    return (
        f"{change.withdrawal.by.get_username()} withdrew a judgement: {after if change.changed else 'the label stays'}"
    )


def _describe_training(row: Training) -> Step:
    words = f"Trained the learner of round {row.round.number}"
    if row.learner is None:
        return Step(f"{words}, which has no result", row.round.learning_at, "bad")
    accepted = row.learner.verdict == Checkpoint.Verdict.ACCEPTED
    return Step(f"{words}: {row.learner.verdict}", row.learner.created_at, "done" if accepted else "bad")
