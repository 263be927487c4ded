"""What the workbench shows of one sample: nothing of the critic's verdict until it is judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from oversight.models import Draft, Principle, Query, Round, Sample, User
from oversight.selectors.principles import list_principles
from oversight.selectors.round_counts import Counts, count_reviews, find_served_round
from oversight.selectors.similar import Similar, list_similar
from oversight.selectors.verdicts import LETTERS, Verdict, read_verdicts


@dataclass(frozen=True)
class Marks:
    """What the form holds: empty for a new sample, filled from a draft, a correction or a revision."""

    violations: dict[str, list[str]] = field(default_factory=dict)
    rewrite: str = ""
    note: str = ""
    rewrite_of: int | None = None
    spans: list[dict[str, Any]] = field(default_factory=list)  # as in Review.spans

    @property
    def spans_json(self) -> str:
        """The hidden field's value."""
        return json.dumps(self.spans, ensure_ascii=False) if self.spans else ""


@dataclass(frozen=True)
class Choice:
    """A principle that can be named as violated by one answer."""

    key: str
    title: str
    near: bool  # the one in question, or of the same category: shown without unfolding
    in_question: bool
    chosen: bool


@dataclass(frozen=True)
class TextMark:
    """A passage to show marked: [start, end) in code points of the text."""

    start: int
    end: int
    kind: str  # "critic" or "own"
    title: str


@dataclass(frozen=True)
class Answer:
    index: int
    letter: str
    text: str
    tokens: int
    cut: bool  # the token limit ended it
    marked: bool
    choices: tuple[Choice, ...]
    verdict: Verdict | None = None  # only after the reader's own judgement
    spans: list[TextMark] = field(default_factory=list)


@dataclass(frozen=True)
class Workbench:
    sample: Sample
    query: Query
    lineage: list[Query]
    answers: list[Answer]
    principle: Principle | None
    similar: list[Similar]
    marks: Marks
    blurred: bool  # of a category that the reader wants to open by a key
    round: Round
    counts: Counts | None = None  # None where the page has them already


def read_workbench(
    *,
    sample: Sample,
    user: User,
    marks: Marks | None = None,
    show_critic: bool = False,
    count: bool = True,
    reveal: bool = False,
) -> Workbench:
    """Where `marks` is None, those of the draft. Five queries at most; none reads a critique unless `show_critic`."""
    marks = read_draft(sample=sample, user=user) if marks is None else marks
    query = sample.query
    principles = list_principles(sample.round.experiment.constitution_id)
    in_question = next((p for p in principles if p.key == query.principle), None)
    verdicts = read_verdicts(sample, None) if show_critic else []
    round_ = find_served_round(sample)
    return Workbench(
        sample=sample,
        query=query,
        lineage=list_lineage(query),
        answers=[
            read_answer(sample, index, marks, principles, in_question, verdicts[index] if verdicts else None)
            for index in range(len(sample.responses))
        ],
        principle=in_question,
        similar=list_similar(sample),
        marks=marks,
        blurred=not reveal and bool(sample.category) and sample.category in user.blurred,
        round=round_,
        counts=count_reviews(round_, user) if count else None,
    )


def read_answer(
    sample: Sample,
    index: int,
    marks: Marks,
    principles: Sequence[Principle],
    in_question: Principle | None,
    verdict: Verdict | None,
) -> Answer:
    response = sample.responses[index]
    return Answer(
        index=index,
        letter=LETTERS[index],
        text=response["text"],
        tokens=response.get("tokens", 0),
        cut=response.get("finish") == "length",
        marked=str(index) in marks.violations,
        choices=_list_choices(tuple(principles), in_question, tuple(marks.violations.get(str(index), []))),
        verdict=verdict,
        spans=_list_spans(index, marks, principles, verdict),
    )


@lru_cache(maxsize=256)
def _list_choices(
    principles: tuple[Principle, ...], in_question: Principle | None, chosen: tuple[str, ...]
) -> tuple[Choice, ...]:
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
    return tuple(sorted(rows, key=lambda row: (not row.in_question, not row.near)))


def _list_spans(index: int, marks: Marks, principles: Sequence[Principle], verdict: Verdict | None) -> list[TextMark]:
    titles = {p.key: p.title for p in principles}
    spans = [
        TextMark(span["start"], span["end"], "own", titles.get(span["principle"], span["principle"]))
        for span in marks.spans
        if span["answer"] == index
    ]
    if verdict is not None and verdict.span is not None:
        spans.append(TextMark(*verdict.span, "critic", "The critic points here"))
    return spans


def list_lineage(query: Query) -> list[Query]:
    """The queries this one was made from, oldest first, as far as they came with it; then the query itself."""
    chain = [query]
    while len(chain) < 3 and chain[0].parent is not None:
        chain.insert(0, chain[0].parent)
    return chain


# --- Drafts -----------------------------------------------------------------------------------------


def read_draft(*, sample: Sample, user: User) -> Marks:
    """What `user` left in the form of this sample, on whatever machine; one query."""
    form = Draft.objects.filter(user=user, sample=sample).values_list("form", flat=True).first()
    return read_marks(form) if form else Marks()


def read_marks(form: dict[str, list[str]]) -> Marks:
    """The fields of the form as they were sent. What can't be read counts as empty: the page must open."""
    first = {name: values[0] if values else "" for name, values in form.items()}
    try:
        spans = json.loads(first.get("spans") or "[]")
    except (ValueError, RecursionError):
        spans = []
    rewrite_of = first.get("rewrite_of", "")
    return Marks(
        violations={index[:3]: form.get(f"principle-{index}", []) for index in form.get("mark", [])},
        rewrite=first.get("rewrite", "").replace("\r\n", "\n"),
        note=first.get("note", ""),
        rewrite_of=int(rewrite_of) if rewrite_of.isascii() and rewrite_of.isdecimal() and len(rewrite_of) < 3 else None,
        spans=[span for span in spans if _is_span(span)] if isinstance(spans, list) else [],
    )


def _is_span(span: Any) -> bool:
    return (
        isinstance(span, dict)
        and all(type(span.get(name)) is int for name in ("answer", "start", "end"))
        and isinstance(span.get("principle"), str)
    )
