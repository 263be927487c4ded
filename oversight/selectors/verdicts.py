"""What was said of a sample, in words: a judgement, the critic's verdict on it, and why the sample came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oversight.models import Critique, Label, Lease, Review, Sample

LETTERS = "ABCDEFGH"
Action = Review.Action
# Why a sample came, after "Came to you because".
WHY = {
    Lease.Why.ASSIGNED: "a lead assigned it to you",
    Lease.Why.GOLD: "its answer is known: such samples test all of us",
    Lease.Why.OPINION: "a lead asked for another opinion",
    Lease.Why.BEGUN: "somebody else has judged it and more than one judgement is wanted",
    Lease.Why.PRIORITY: "it was next by priority",
    Lease.Why.POSTPONED: "you had postponed it",
    Lease.Why.LINK: "you opened its link",
    Lease.Why.UNDO: "you took your judgement of it back",
}


@dataclass(frozen=True)
class Verdict:
    """What the critic said of one answer. `violation` is None unless `status` is "ok"."""

    letter: str
    status: str
    violation: float | None
    rationale: str
    quote: str
    agrees: bool | None  # with the reviewer; None where one of the two didn't say
    span: tuple[int, int] | None = None  # the passage that it points at

    @property
    def failed(self) -> bool:
        return self.violation is None


@dataclass(frozen=True)
class Previous:
    """The judgement that was just made, with what the critic had said and why the sample came."""

    review: Review
    said: str
    verdicts: list[Verdict]
    why: str = ""  # "" for a skip: the sample may come back, and nothing may hint at it then
    flagged: str = ""
    knows: bool | None = None  # for a sample with a known answer: whether the judgement agrees with it

    @property
    def agrees(self) -> bool | None:
        """None where the two can't be compared."""
        known = [v.agrees for v in self.verdicts if v.agrees is not None]
        return all(known) if known else None


def read_previous(*, review: Review) -> Previous:
    """The judgement in words with the critic's verdict beside it. Only for the person who made it.

    A skip says nothing, so verdict and reason stay hidden: the sample may come back by an undo.
    """
    said = describe_review(review)
    if review.action == Action.SKIP:
        return Previous(review=review, said=said, verdicts=[])
    sample = review.sample
    gold = review.purpose == Review.Purpose.GOLD
    why = Lease.Why.GOLD if gold else _find_why(review)
    return Previous(
        review=review,
        said=said,
        verdicts=read_verdicts(sample, review),
        why=WHY[Lease.Why(why)],
        flagged="" if gold else sample.flag_words or sample.flag_reason,
        knows=_agrees_with_label(review) if gold else None,
    )


def _find_why(review: Review) -> str:
    """Its lease keeps the reason until somebody else holds the sample."""
    lease = getattr(review.sample, "lease", None)
    if lease is None or lease.holder_id not in (None, review.reviewer_id) or lease.why == Lease.Why.GOLD:
        return Lease.Why.PRIORITY
    return str(lease.why)


def _agrees_with_label(review: Review) -> bool | None:
    """Whether a judgement agrees with the label on each answer that both speak of, and on the preference."""
    label = Label.objects.filter(sample=review.sample_id).first()
    if label is None:
        return None
    agreements = [
        (share >= 0.5) == said
        for index, share in label.violates.items()
        if (said := review.says_violates(int(index))) is not None
    ]
    preferred = {Action.PREFER_A: 0, Action.PREFER_B: 1}.get(Action(review.action))
    if preferred is not None and label.preferred is not None:
        agreements.append(preferred == label.preferred)
    return all(agreements) if agreements else None


def describe_review(review: Review) -> str:
    """E.g. "A violates", "B is better, A violates", "both fine"."""
    answers = len(review.sample.responses)
    marked = [LETTERS[int(index)] for index in sorted(review.violations)]
    marks = f"{' and '.join(marked)} violate{'s' if len(marked) == 1 else ''}" if answers > 1 else "it violates"
    if review.action == Action.BOTH_BAD and answers > 1:
        return "both violate"
    if review.action in (Action.VIOLATES, Action.BOTH_BAD):
        return marks
    words = {
        Action.APPROVE.value: "both are fine" if answers > 1 else "it is fine",
        Action.PREFER_A.value: "A is better",
        Action.PREFER_B.value: "B is better",
        Action.TIE.value: "no difference",
        Action.REWRITE.value: "rewritten",
        Action.SKIP.value: "skipped",
    }[review.action]
    return f"{words}, {marks}" if marked else words


def read_verdicts(sample: Sample, review: Review | None) -> list[Verdict]:
    """One verdict an answer, from the newest critique of each. An answer without one counts as not judged."""
    newest: dict[int, Critique] = {}
    for critique in Critique.objects.filter(sample=sample).order_by("created_at"):
        newest[critique.response_index] = critique
    rows = []
    for index, response in enumerate(sample.responses):
        found = newest.get(index)
        violation = found.violation if found and found.status == "ok" else None
        span = read_span(response["text"], found.span) if found else None
        said = review.says_violates(index) if review else None
        rows.append(
            Verdict(
                letter=LETTERS[index],
                status=found.status if found else "missing",
                violation=violation,
                rationale=found.rationale if found else "",
                quote=response["text"][span[0] : span[1]].strip() if span else "",
                agrees=None if violation is None or said is None else (violation >= 0.5) == said,
                span=span,
            )
        )
    return rows


def read_span(text: str, span: Any) -> tuple[int, int] | None:
    """[start, end) where it lies inside `text`; None for everything else that a critic may have written."""
    if not isinstance(span, list) or len(span) != 2:
        return None
    start, end = span
    return (start, end) if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text) else None
