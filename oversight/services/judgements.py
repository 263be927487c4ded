"""What a person says of a sample, as the page sends it, checked before anything is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oversight.models import Review, Sample
from oversight.selectors.principles import list_principles
from oversight.services import labels

Action = Review.Action


class InvalidReview(ValueError):
    """The judgement contradicts itself or misses a part: a sentence made for people."""


@dataclass(frozen=True)
class Span:
    """A passage of an answer: offsets in Unicode code points, end exclusive. `quote` is what the page saw there."""

    answer: int
    start: int
    end: int
    principle: str
    quote: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What a person says of a sample. `violations` maps response indices to the principles they violate."""

    action: str
    violations: dict[str, list[str]] = field(default_factory=dict)
    rewrite: str = ""
    rewrite_of: int | None = None
    note: str = ""
    seconds: float | None = None  # of activity
    skip_reason: str = ""
    spans: Sequence[Span] = ()


def check_judgement(sample: Sample, judgement: Judgement) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """The marks and spans as stored. Raises InvalidReview.

    A mark that names no principle means the one in question; a span marks its answer for its principle.
    """
    answers = len(sample.responses)
    indices = [str(index) for index in range(answers)]
    if judgement.action == Action.SKIP:
        if judgement.skip_reason not in ("", *Review.SkipReason.values):
            raise InvalidReview(f"{judgement.skip_reason!r} is not a reason to skip; choose one of the list.")
        return {}, []
    spans = _check_spans(sample, judgement.spans)
    marks = {index: sorted(set(keys)) for index, keys in judgement.violations.items()}
    for span in spans:
        index = str(span["answer"])
        marks[index] = sorted({*marks.get(index, []), span["principle"]})
    if judgement.action == Action.VIOLATES and answers == 1:
        marks = marks or {"0": []}  # one answer: saying so is the mark
    _check_shape(judgement, marks, indices)
    if judgement.action == Action.BOTH_BAD:
        marks = {index: marks.get(index, []) for index in indices}
    if not marks:
        return {}, []
    known = {principle.key for principle in list_principles(sample.round.experiment.constitution_id)}
    unknown = sorted({key for keys in marks.values() for key in keys} - known)
    if unknown:
        raise InvalidReview(f"The constitution has no principle {', '.join(unknown)}; reload the page.")
    in_question = [sample.query.principle] if sample.query.principle in known else []
    return {index: keys or in_question for index, keys in marks.items()}, spans


def _check_spans(sample: Sample, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """The quote that came with a span must be what stands at its offsets: else the page counted otherwise."""
    rows = []
    for span in spans:
        if not 0 <= span.answer < len(sample.responses):
            raise InvalidReview(f"Answer {span.answer} is not part of this sample.")
        text = sample.responses[span.answer]["text"]
        if not 0 <= span.start < span.end <= len(text):
            raise InvalidReview(f"The passage {span.start} to {span.end} lies outside the answer; mark it again.")
        if span.quote is not None and span.quote != text[span.start : span.end]:
            raise InvalidReview(f"The passage {span.quote[:60]!r} is not at its place; reload and mark it again.")
        rows.append({"answer": span.answer, "start": span.start, "end": span.end, "principle": span.principle})
    unique = {tuple(row.values()): row for row in rows}
    return sorted(unique.values(), key=lambda row: (row["answer"], row["start"], row["end"], row["principle"]))


def _check_shape(judgement: Judgement, marks: dict[str, list[str]], indices: list[str]) -> None:
    if judgement.action not in (*labels.JUDGEMENTS, Action.SKIP):
        raise InvalidReview(f"{judgement.action!r} is not an action; use one of the buttons.")
    if not set(marks) <= set(indices):
        raise InvalidReview(f"Answer {', '.join(sorted(set(marks) - set(indices)))} is not part of this sample.")
    if judgement.action in (Action.PREFER_A, Action.PREFER_B, Action.TIE) and len(indices) < 2:
        raise InvalidReview("There is one answer only, so there is none to prefer.")
    if judgement.action == Action.APPROVE and marks:
        raise InvalidReview("You marked an answer as violating, so not all are fine. Take the mark off, or use V.")
    if judgement.action == Action.VIOLATES and not marks:
        raise InvalidReview("Mark the answers that violate first (keys 1 and 2).")
    if judgement.action == Action.REWRITE and not judgement.rewrite.strip():
        raise InvalidReview("The rewrite is empty; write the better answer, or choose another action.")
    if judgement.rewrite_of is not None and str(judgement.rewrite_of) not in indices:
        raise InvalidReview(f"Answer {judgement.rewrite_of} is not part of this sample.")
