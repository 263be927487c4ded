"""Samples: the filtered list, and everything known of one, as far as the person who looks may know it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.dateparse import parse_datetime

from oversight.models import Critique, Experiment, Label, Principle, Query, Review, Role, Round, Sample, User
from oversight.permissions import has_role

PAGE_SIZE = 40
REASONS = ("unjudged", "violation", "uncertainty", "disagreement", "diversity", "audit")
KINDS = ("unsafe", "harmless", "competence")


@dataclass(frozen=True)
class SampleFilter:
    """The only filters there are. A name that is not here is ignored, so no other column can be asked for."""

    round: int | None = None  # number within the experiment
    status: str = ""
    kind: str = ""
    category: str = ""
    principle: str = ""
    reason: str = ""
    text: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> SampleFilter:
        """Values outside their set count as not given: an old link shows more, never an error."""

        def one_of(name: str, allowed: tuple[str, ...]) -> str:
            value = query.get(name, "")
            return value if value in allowed else ""

        number = query.get("round", "")
        return cls(
            round=int(number) if number.isascii() and number.isdigit() and len(number) < 7 else None,
            status=one_of("status", tuple(Sample.Status.values)),
            kind=one_of("kind", KINDS),
            category=query.get("category", "")[:40].replace("\x00", ""),
            principle=query.get("principle", "")[:60].replace("\x00", ""),
            reason=one_of("reason", REASONS),
            text=query.get("text", "").replace("\x00", "").strip()[:200],
        )

    def link(self) -> str:
        """The query string that gives this filter again."""
        return urlencode({name: value for name, value in vars(self).items() if value not in ("", None)})


def filter_samples(experiment: Experiment, wanted: SampleFilter, *, blind: bool) -> QuerySet[Sample]:
    """`blind`: for people who may still be asked, a reason (the critic's hint) finds no open sample."""
    if wanted.round is not None or wanted.status:
        samples = Sample.objects.filter(round__experiment=experiment)
    else:
        # A join would make SQLite gather and sort every sample; so it reads the newest first, from the index.
        samples = Sample.objects.filter(Exists(Round.objects.filter(pk=OuterRef("round"), experiment=experiment)))
    if wanted.round is not None:
        samples = samples.filter(round__number=wanted.round)
    if wanted.status:
        samples = samples.filter(status=wanted.status)
    if wanted.reason:
        samples = samples.filter(flag_reason=wanted.reason)
        if blind:
            samples = samples.exclude(status=Sample.Status.QUEUED)
    for name in ("kind", "category", "principle"):
        value = getattr(wanted, name)
        if value:
            samples = samples.filter(Q(**{f"query__{name}": value}))
    if wanted.text:
        samples = samples.filter(query__text__icontains=wanted.text)
    return samples


@dataclass(frozen=True)
class SamplePage:
    samples: list[Sample]
    next: str  # cursor of the next page, "" on the last


def list_samples(
    experiment: Experiment, wanted: SampleFilter, *, blind: bool, after: str = "", size: int = PAGE_SIZE
) -> SamplePage:
    """One page, newest first. Keyset pages: a late page costs what the first does, and none skips a row."""
    samples = (
        filter_samples(experiment, wanted, blind=blind)
        .select_related("query", "round", "label")
        .order_by("-created_at", "-id")
    )
    cursor = _read_cursor(after)
    if cursor is not None:
        created, identifier = cursor
        samples = samples.filter(Q(created_at__lt=created) | Q(created_at=created, id__lt=identifier))
    rows = list(samples[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    return SamplePage(rows, _write_cursor(rows[-1]) if more else "")


def _write_cursor(sample: Sample) -> str:
    return base64.urlsafe_b64encode(json.dumps([sample.created_at.isoformat(), str(sample.pk)]).encode()).decode()


def _read_cursor(text: str) -> tuple[Any, UUID] | None:
    """None for a cursor that nobody made: the list then starts from its beginning."""
    try:
        created, identifier = json.loads(base64.urlsafe_b64decode(text.encode()))
        parsed = parse_datetime(created)
        return None if parsed is None else (parsed, UUID(identifier))
    except (binascii.Error, ValueError, TypeError, AttributeError):
        return None


@dataclass(frozen=True)
class Choices:
    rounds: list[int]
    categories: list[str]
    principles: list[tuple[str, str]]


def read_choices(experiment: Experiment) -> Choices:
    """What the filters offer."""
    principles = list(
        Principle.objects.filter(constitution=experiment.constitution_id).values_list("key", "title", "category")
    )
    return Choices(
        rounds=list(experiment.rounds.order_by("-number").values_list("number", flat=True)),
        categories=sorted({category for _, _, category in principles if category}),
        principles=[(key, title) for key, title, _ in principles],
    )


@dataclass(frozen=True)
class Part:
    """A piece of an answer; `marked` where the critic's rationale rests on it."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Answer:
    index: int
    letter: str
    text: str
    tokens: int
    cut: bool  # the token limit ended it
    critique: Critique | None
    parts: list[Part]
    violates: float | None  # the label's P(violates)


@dataclass(frozen=True)
class History:
    """One sample with all that led to it and all that came of it."""

    sample: Sample
    lineage: list[Query]  # from the seed's first attack to this query
    answers: list[Answer]
    reviews: list[Review]  # oldest first
    label: Label | None
    blind: bool  # the critic's verdict and others' judgements are kept back
    principles: dict[str, str]  # key -> title

    @property
    def principle_title(self) -> str:
        key = self.sample.query.principle
        return self.principles.get(key, key)


def judges_blind(sample: Sample, user: User, *, round_status: str) -> bool:
    """True where `user` may still be asked about this sample, so that nothing may sway the judgement."""
    if has_role(user, Role.LEAD):
        return False
    open_rounds = (Round.Status.PROPOSING, Round.Status.REVIEWING)
    if sample.status != Sample.Status.QUEUED or round_status not in open_rounds:
        return False
    judged = (
        Review.objects.filter(sample=sample, reviewer=user, superseded_by=None)
        .exclude(action__in=(Review.Action.SKIP, Review.Action.UNDO))
        .exists()
    )
    return not judged


def read_history(sample: Sample, *, user: User) -> History:
    """`sample` comes with its query and round."""
    blind = judges_blind(sample, user, round_status=sample.round.status)
    reviews = sample.reviews.select_related("reviewer", "superseded_by").order_by("created_at")
    if blind:
        reviews = reviews.filter(reviewer=user)
    critiques = {} if blind else {critique.response_index: critique for critique in sample.critiques.all()}
    label = None if blind else Label.objects.filter(sample=sample).first()
    violates = label.violates if label else {}
    answers = []
    for response in sample.responses:
        critique = critiques.get(response["index"])
        answers.append(
            Answer(
                index=response["index"],
                letter=chr(ord("A") + response["index"]),
                text=response["text"],
                tokens=response["tokens"],
                cut=response["finish"] == "length",
                critique=critique,
                parts=mark_span(response["text"], critique.span if critique else None),
                violates=violates.get(str(response["index"])),
            )
        )
    principles = Principle.objects.filter(constitution=sample.round.experiment.constitution_id)
    return History(
        sample=sample,
        lineage=read_lineage(sample.query),
        answers=answers,
        reviews=list(reviews),
        label=label,
        blind=blind,
        principles=dict(principles.values_list("key", "title")),
    )


def mark_span(text: str, span: list[int] | None) -> list[Part]:
    """Splits `text` at the span [start, end); a span outside the text marks what of it lies inside."""
    if not span or len(span) != 2:
        return [Part(text, False)]
    start, end = max(0, int(span[0])), min(len(text), int(span[1]))
    if start >= end:
        return [Part(text, False)]
    parts = [Part(text[:start], False), Part(text[start:end], True), Part(text[end:], False)]
    return [part for part in parts if part.text]


def read_lineage(query: Query, *, limit: int = 12) -> list[Query]:
    """The chain of parents, oldest first. `limit` ends a chain that data errors made endless."""
    chain, seen = [query], {query.pk}
    while chain[-1].parent_id is not None and chain[-1].parent_id not in seen and len(chain) < limit:
        parent = Query.objects.get(pk=chain[-1].parent_id)
        seen.add(parent.pk)
        chain.append(parent)
    return chain[::-1]
