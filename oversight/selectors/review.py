"""What the workbench shows: one sample without the critic's verdict, and the verdict after a judgement."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Max
from django.utils import timezone

from oversight.models import Critique, Label, Lease, Principle, Query, Review, Round, Sample, User
from oversight.selectors.progress import Progress, read_progress

LETTERS = "ABCDEFGH"
FLAGGED = (Sample.Status.QUEUED, Sample.Status.DECIDED, Sample.Status.SKIPPED, Sample.Status.CLOSED)
SIMILAR = 3


@dataclass(frozen=True)
class Marks:
    """What the form holds: empty for a new sample, filled where a person revises or corrects an input."""

    violations: dict[str, list[str]] = field(default_factory=dict)
    rewrite: str = ""
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """A principle that can be named as violated by one answer."""

    key: str
    title: str
    near: bool  # the one in question, or of the same category: shown without unfolding
    in_question: bool
    chosen: bool


@dataclass(frozen=True)
class Answer:
    index: int
    letter: str
    text: str
    tokens: int
    cut: bool  # the token limit ended it
    marked: bool
    choices: list[Choice]
    verdict: Verdict | None = None  # only after the reader's own judgement
    parts: tuple[str, str, str] | None = None  # before, in and after the span that the critic points at


@dataclass(frozen=True)
class Verdict:
    """What the critic said of one answer. `violation` is None unless `status` is "ok"."""

    letter: str
    status: str
    violation: float | None
    rationale: str
    quote: str
    agrees: bool | None  # with the reviewer; None where one of the two didn't say

    @property
    def failed(self) -> bool:
        return self.violation is None


@dataclass(frozen=True)
class Previous:
    """The judgement that was just made, with what the critic had said."""

    review: Review
    said: str
    verdicts: list[Verdict]

    @property
    def agrees(self) -> bool | None:
        """None where the two can't be compared."""
        known = [v.agrees for v in self.verdicts if v.agrees is not None]
        return all(known) if known else None


@dataclass(frozen=True)
class Counts:
    """How far people are with a round's flagged samples."""

    done: int
    total: int
    held: int  # by others, at this moment
    until: datetime | None  # when the last of these leases ends, unless prolonged
    growing: bool  # the round still proposes


@dataclass(frozen=True)
class Workbench:
    sample: Sample
    query: Query
    round: Round
    lineage: list[Query]
    answers: list[Answer]
    principle: Principle | None
    counts: Counts
    similar: list[tuple[str, str]]  # (prompt, as `describe_votes`)
    marks: Marks


def read_workbench(*, sample: Sample, user: User, marks: Marks | None = None, show_critic: bool = False) -> Workbench:
    """Six queries at most; none reads a critique unless `show_critic`."""
    marks = marks or Marks()
    query, round_ = sample.query, sample.round
    principles = list(Principle.objects.filter(constitution=round_.experiment.constitution_id).order_by("position"))
    in_question = next((p for p in principles if p.key == query.principle), None)
    verdicts = {v.letter: (v, s) for v, s in _verdicts(sample, None)} if show_critic else {}
    answers = []
    for index, response in enumerate(sample.responses):
        letter = LETTERS[index]
        verdict, span = verdicts.get(letter, (None, None))
        answers.append(
            Answer(
                index=index,
                letter=letter,
                text=response["text"],
                tokens=response.get("tokens", 0),
                cut=response.get("finish") == "length",
                marked=str(index) in marks.violations,
                choices=_choices(principles, in_question, marks.violations.get(str(index), [])),
                verdict=verdict,
                parts=_split(response["text"], span),
            )
        )
    return Workbench(
        sample=sample,
        query=query,
        round=round_,
        lineage=list_lineage(query),
        answers=answers,
        principle=in_question,
        counts=count_reviews(round_, user),
        similar=list_similar(sample),
        marks=marks,
    )


def _choices(principles: list[Principle], in_question: Principle | None, chosen: list[str]) -> list[Choice]:
    category = in_question.category if in_question else ""
    rows = [
        Choice(
            key=p.key,
            title=p.title,
            near=p == in_question or bool(category and p.category == category) or p.key in chosen,
            in_question=p == in_question,
            chosen=p.key in chosen,
        )
        for p in principles
    ]
    return sorted(rows, key=lambda row: (not row.in_question, not row.near))


def list_lineage(query: Query) -> list[Query]:
    """The queries this one was made from, oldest first, as far as they came with it; then the query itself."""
    chain = [query]
    while len(chain) < 3 and chain[0].parent is not None:
        chain.insert(0, chain[0].parent)
    return chain


def count_reviews(round_: Round, user: User) -> Counts:
    statuses = dict(
        Sample.objects.filter(round=round_, status__in=FLAGGED).order_by().values_list("status").annotate(n=Count("*"))
    )
    flagged = sum(statuses.values())
    growing = round_.status == Round.Status.PROPOSING
    held = (
        Lease.objects.filter(
            expires_at__gt=timezone.now(),
            holder__isnull=False,
            sample__round=round_,
            sample__status=Sample.Status.QUEUED,
        )
        .exclude(holder=user)
        .aggregate(n=Count("pk"), until=Max("expires_at"))
    )
    return Counts(
        done=flagged - statuses.get(Sample.Status.QUEUED, 0),
        total=max(flagged, round_.budget) if growing else flagged,
        held=held["n"],
        until=held["until"],
        growing=growing,
    )


def list_similar(sample: Sample) -> list[tuple[str, str]]:
    """The latest decisions of this round on the same principle, so that people stay consistent."""
    labels = (
        Label.objects.filter(
            sample__round=sample.round_id,
            sample__status=Sample.Status.DECIDED,
            sample__query__principle=sample.query.principle,
        )
        .exclude(sample=sample)
        .order_by("-created_at")
        .values_list("sample__query__text", "violates")[:SIMILAR]
    )
    return [(text, describe_votes(violates)) for text, violates in labels]


def describe_votes(violates: dict[str, float]) -> str:
    """One word for a label, by its worst answer; "split" where people disagree about that one."""
    if not violates:
        return "preference"
    worst = max(violates.values())
    return "fine" if worst == 0 else "violates" if worst == 1 else "split"


# --- After a judgement ------------------------------------------------------------------------------


def read_previous(*, review: Review) -> Previous:
    """The judgement in words with the critic's verdict beside it. Only for the person who made it."""
    skipped = review.action == Review.Action.SKIP
    return Previous(
        review=review,
        said=describe_review(review),
        # A skip says nothing, so the verdict stays hidden: the sample may come back by an undo.
        verdicts=[] if skipped else [verdict for verdict, _ in _verdicts(review.sample, review)],
    )


def describe_review(review: Review) -> str:
    """E.g. "A violates", "B is better, A violates", "both fine"."""
    answers = len(review.sample.responses)
    marked = [LETTERS[int(index)] for index in sorted(review.violations)]
    marks = f"{' and '.join(marked)} violate{'s' if len(marked) == 1 else ''}" if answers > 1 else "it violates"
    if review.action == Review.Action.BOTH_BAD and answers > 1:
        return "both violate"
    if review.action in (Review.Action.VIOLATES, Review.Action.BOTH_BAD):
        return marks
    words = {
        Review.Action.APPROVE.value: "both are fine" if answers > 1 else "it is fine",
        Review.Action.PREFER_A.value: "A is better",
        Review.Action.PREFER_B.value: "B is better",
        Review.Action.TIE.value: "no difference",
        Review.Action.REWRITE.value: "rewritten",
        Review.Action.SKIP.value: "skipped",
    }[review.action]
    return f"{words}, {marks}" if marked else words


def _verdicts(sample: Sample, review: Review | None) -> list[tuple[Verdict, list[int] | None]]:
    """One verdict an answer, from the newest critique of each. An answer without one counts as not judged."""
    newest: dict[int, Critique] = {}
    for critique in Critique.objects.filter(sample=sample).order_by("created_at"):
        newest[critique.response_index] = critique
    rows: list[tuple[Verdict, list[int] | None]] = []
    for index, response in enumerate(sample.responses):
        found = newest.get(index)
        status = found.status if found else "missing"
        violation = found.violation if found and found.status == "ok" else None
        span = _valid_span(response["text"], found.span) if found else None
        said = review.says_violates(index) if review else None
        rows.append(
            (
                Verdict(
                    letter=LETTERS[index],
                    status=status,
                    violation=violation,
                    rationale=found.rationale if found else "",
                    quote=response["text"][span[0] : span[1]].strip() if span else "",
                    agrees=None if violation is None or said is None else (violation >= 0.5) == said,
                ),
                span,
            )
        )
    return rows


def _valid_span(text: str, span: Any) -> list[int] | None:
    if not isinstance(span, list) or len(span) != 2:
        return None
    start, end = span
    return span if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text) else None


def _split(text: str, span: list[int] | None) -> tuple[str, str, str] | None:
    return (text[: span[0]], text[span[0] : span[1]], text[span[1] :]) if span else None


# --- Nothing to show --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Empty:
    """Why there is nothing to review, so that the page can say what comes next."""

    round: Round | None  # the newest round of any experiment
    counts: Counts | None
    progress: Progress | None
    skipped: int  # samples that wait for others because this person skipped or judged them

    @property
    def state(self) -> str:
        if self.round is None:
            return "none"
        if self.counts is not None and self.counts.held:
            return "held"
        if self.round.status == Round.Status.REVIEWING and self.skipped:
            return "skipped"
        return self.round.status


def read_empty(user: User) -> Empty:
    round_ = Round.objects.filter(status__in=Round.OPEN).first() or Round.objects.first()
    serving = round_ is not None and round_.status in (Round.Status.PROPOSING, Round.Status.REVIEWING)
    skipped = Review.objects.filter(
        reviewer=user, superseded_by=None, sample__round=round_, sample__status=Sample.Status.QUEUED
    ).exclude(action=Review.Action.UNDO)
    return Empty(
        round=round_,
        counts=count_reviews(round_, user) if round_ is not None and serving else None,
        progress=read_progress(round_) if round_ is not None else None,
        skipped=skipped.count() if serving else 0,
    )
