"""Disputes: samples whose judgements contradict each other, and all that a lead needs to decide one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q, QuerySet

from oversight.models import Experiment, Principle, Review, Round, Sample, User
from oversight.reading import Mark
from oversight.selectors.verdicts import LETTERS, describe_review, read_verdicts
from oversight.selectors.workbench import Answer, Marks, read_answer

PAGE_SIZE = 30
Action = Review.Action
Purpose = Review.Purpose
NOT_JUDGED = (Action.SKIP, Action.UNDO, Action.WITHDRAW)
SERVING = (Round.Status.PROPOSING, Round.Status.REVIEWING)


@dataclass(frozen=True)
class DisputeFilter:
    """The only filters there are. A value outside its set counts as not given."""

    round: int | None = None  # number within the experiment
    category: str = ""
    principle: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DisputeFilter:
        number = query.get("round", "")
        return cls(
            round=int(number) if number.isascii() and number.isdigit() and len(number) < 7 else None,
            category=query.get("category", "")[:40].replace("\x00", ""),
            principle=query.get("principle", "")[:60].replace("\x00", ""),
        )

    def link(self) -> str:
        """The query string that gives this filter again."""
        return urlencode({name: value for name, value in vars(self).items() if value not in ("", None)})


@dataclass(frozen=True)
class Dispute:
    """A line of the list."""

    sample: Sample
    people: int
    words: str  # what contradicts


@dataclass(frozen=True)
class DisputePage:
    disputes: list[Dispute]
    next: str  # cursor of the next page, "" on the last


@dataclass(frozen=True)
class Choices:
    rounds: list[int]
    categories: list[str]
    principles: list[tuple[str, str]]


def read_choices(experiment: Experiment) -> Choices:
    """What the filters offer; two queries."""
    principles = list(
        Principle.objects.filter(constitution=experiment.constitution_id).values_list("key", "title", "category")
    )
    return Choices(
        rounds=list(experiment.rounds.order_by("-number").values_list("number", flat=True)),
        categories=sorted({category for _, _, category in principles if category}),
        principles=[(key, title) for key, title, _ in principles],
    )


def list_disputes(
    experiment: Experiment, wanted: DisputeFilter, *, after: str = "", size: int = PAGE_SIZE
) -> DisputePage:
    """One page, oldest first; three queries. `after` is the id of the sample that ended the page before."""
    samples = _filter_disputes(experiment, wanted).select_related("query", "round")
    last = _find_sample(after)
    if last is not None:
        samples = samples.filter(_comes_after(last))
    rows = list(samples[: size + 1])
    said = defaultdict(list)
    for review in _standing(Review.objects.filter(sample__in=[row.pk for row in rows[:size]])):
        said[review.sample_id].append(review)
    disputes = [
        Dispute(
            sample=sample,
            people=len({review.reviewer_id for review in said[sample.pk]}),
            words=describe_contradiction(said[sample.pk], answers=len(sample.responses)),
        )
        for sample in rows[:size]
    ]
    return DisputePage(disputes, str(rows[size - 1].pk) if len(rows) > size else "")


def find_next(sample: Sample, wanted: DisputeFilter) -> Sample | None:
    """The dispute of the experiment after `sample`, else the oldest other one; None where there is none."""
    others = _filter_disputes(sample.experiment, wanted).exclude(pk=sample.pk)
    return others.filter(_comes_after(sample)).first() or others.first()


def count_disputes(*, most: int) -> int:
    """How many samples wait for a lead, up to `most`; reads no more than that from an index."""
    waiting = Sample.objects.filter(experiment__in=Experiment.objects.values("pk"), status=Sample.Status.DISPUTED)
    return waiting.order_by()[:most].count()


def _filter_disputes(experiment: Experiment, wanted: DisputeFilter) -> QuerySet[Sample]:
    samples = Sample.objects.filter(experiment=experiment, status=Sample.Status.DISPUTED)
    if wanted.round is not None:
        samples = samples.filter(round__number=wanted.round)
    for name in ("category", "principle"):
        if getattr(wanted, name):
            samples = samples.filter(**{name: getattr(wanted, name)})
    return samples.order_by("created_at", "id")


def _comes_after(sample: Sample) -> Q:
    return Q(created_at__gt=sample.created_at) | Q(created_at=sample.created_at, id__gt=sample.pk)


def _find_sample(identifier: str) -> Sample | None:
    try:
        return Sample.objects.filter(pk=UUID(identifier)).first() if identifier else None
    except ValueError:
        return None


def _standing(reviews: QuerySet[Review]) -> QuerySet[Review]:
    """Judgements that stand and may be part of a label or decide it, oldest first."""
    ordinary = reviews.filter(superseded_by=None).exclude(action__in=NOT_JUDGED).exclude(purpose=Purpose.GOLD)
    return ordinary.select_related("reviewer").order_by("created_at", "id")


def describe_contradiction(judgements: list[Review], *, answers: int) -> str:
    """E.g. "A: 1 violates, 1 fine · 1 prefers A, 1 prefers B"; "" where nothing contradicts."""
    ordinary = [review for review in judgements if review.purpose == Purpose.REVIEW]
    words = []
    for index in range(answers):
        votes = Counter(review.says_violates(index) for review in ordinary)
        if votes[True] and votes[False]:
            name = f"{LETTERS[index]}: " if answers > 1 else ""
            words.append(f"{name}{votes[True]} violates, {votes[False]} fine")
    actions = Counter(review.action for review in ordinary)
    if actions[Action.PREFER_A] and actions[Action.PREFER_B]:
        words.append(f"{actions[Action.PREFER_A]} prefers A, {actions[Action.PREFER_B]} prefers B")
    return " · ".join(words)


# --- One dispute ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What one judgement says of one answer."""

    letter: str
    verdict: str  # "violates", "fine" or "" where it says nothing
    principles: list[str]  # titles
    passages: list[tuple[str, str]]  # (text, title of the principle)


@dataclass(frozen=True)
class Column:
    """One judgement beside the others."""

    number: int  # the key that approves it
    review: Review
    said: str
    answers: list[Said]
    own: bool  # the reader made it

    @property
    def improved(self) -> str:
        return "" if self.review.rewrite_of is None else LETTERS[self.review.rewrite_of]


@dataclass(frozen=True)
class Shown:
    """An answer with every passage that somebody, or the critic, points at."""

    answer: Answer
    marks: list[Mark]


@dataclass(frozen=True)
class Adjudication:
    sample: Sample
    answers: list[Shown]
    columns: list[Column]
    words: str  # what contradicts
    decision: Review | None  # of a lead, where one stands
    decided: str  # in words
    principle: Principle | None
    titles: dict[str, str] = field(default_factory=dict)  # of principles, by key
    serving: bool = False  # people can still be asked
    judged: bool = False  # the reader is one of the judges
    seen: str = ""  # ids of all reviews: a decision made without the newest is refused


def read_adjudication(sample: Sample, *, user: User, marks: Marks | None = None) -> Adjudication:
    """`sample` comes with its query, round and experiment. Five queries."""
    principles = list(Principle.objects.filter(constitution=sample.round.experiment.constitution_id))
    titles = {principle.key: principle.title for principle in principles}
    in_question = next((p for p in principles if p.key == sample.principle), None)
    seen = list(Review.objects.filter(sample=sample).values_list("pk", flat=True))
    standing = list(_standing(Review.objects.filter(sample=sample)))
    for review in standing:
        review.sample = sample
    judgements = [review for review in standing if review.purpose == Purpose.REVIEW]
    decision = next((review for review in reversed(standing) if review.purpose == Purpose.ADJUDICATION), None)
    verdicts = read_verdicts(sample, None)
    answers = [
        read_answer(sample, index, marks or Marks(), principles, in_question, verdicts[index])
        for index in range(len(sample.responses))
    ]
    return Adjudication(
        sample=sample,
        answers=[Shown(answer, _list_marks(answer, judgements, titles)) for answer in answers],
        columns=[
            Column(
                number=number,
                review=review,
                said=describe_review(review),
                answers=[_read_said(review, answer, titles) for answer in answers],
                own=review.reviewer_id == user.pk,
            )
            for number, review in enumerate(judgements, start=1)
        ],
        words=describe_contradiction(judgements, answers=len(answers)),
        decision=decision,
        decided=describe_review(decision) if decision else "",
        principle=in_question,
        titles=titles,
        serving=sample.round.status in SERVING,
        judged=any(review.reviewer_id == user.pk for review in judgements),
        seen=" ".join(map(str, seen)),
    )


def _list_marks(answer: Answer, judgements: list[Review], titles: dict[str, str]) -> list[Mark]:
    span = answer.verdict.span if answer.verdict else None
    marks: list[Mark] = [(*span, "critic", "The critic points here")] if span else []
    for review in judgements:
        for said in review.spans:
            if said["answer"] == answer.index:
                title = titles.get(said["principle"], said["principle"])
                marks.append((said["start"], said["end"], "other", f"{review.reviewer.get_username()}: {title}"))
    return marks


def _read_said(review: Review, answer: Answer, titles: dict[str, str]) -> Said:
    verdict = review.says_violates(answer.index)
    keys: list[str] = review.violations.get(str(answer.index), [])
    spans: list[dict[str, Any]] = [span for span in review.spans if span["answer"] == answer.index]
    return Said(
        letter=answer.letter,
        verdict="" if verdict is None else "violates" if verdict else "fine",
        principles=[titles.get(key, key) for key in keys],
        passages=[
            (answer.text[span["start"] : span["end"]], titles.get(span["principle"], span["principle"]))
            for span in spans
        ],
    )
