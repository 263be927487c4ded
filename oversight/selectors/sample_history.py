"""One sample: all that led to it and all that came of it, as far as the person who looks may know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from oversight.models import (
    Checkpoint,
    Critique,
    Label,
    LabelChange,
    Lease,
    Principle,
    Query,
    Review,
    Role,
    Round,
    Sample,
    TrainedOn,
    User,
)
from oversight.permissions import has_role
from oversight.selectors.sample_filter import open_sight
from oversight.selectors.verdicts import LETTERS, describe_review

Action = Review.Action
OPEN_ROUNDS = (Round.Status.PROPOSING, Round.Status.REVIEWING)
ENDED: dict[str, str] = {"undo": "taken back", "withdraw": "withdrawn"}  # by the action of what came after
TAKING_BACK = {"undo": "took the judgement back", "withdraw": "a lead took the judgement out"}
NO_JUDGEMENT = (Action.SKIP, Action.UNDO, Action.WITHDRAW)

Mark = tuple[int, int, str, str]  # start, end (code points, end exclusive), CSS class, title


@dataclass(frozen=True)
class Answer:
    index: int
    letter: str
    text: str
    tokens: int
    cut: bool  # the token limit ended it
    critique: Critique | None
    marks: list[Mark]  # what the critic and people point at
    violates: float | None  # the label's P(violates)


@dataclass(frozen=True)
class Turn:
    """One row of what people said, in words."""

    review: Review
    said: str
    principles: list[str]
    spans: list[tuple[str, str, str]]  # answer, passage, principle
    counts: bool  # it is part of the label
    ended: str  # why it stands no more: "corrected", "taken back", "withdrawn"; "" where it stands


@dataclass(frozen=True)
class Training:
    """A round that was given this sample's label, and the model that came of it."""

    round: Round
    learner: Checkpoint | None


@dataclass(frozen=True)
class History:
    """One sample with all that led to it and all that came of it."""

    sample: Sample
    state: str
    lineage: list[Query]  # from the seed's first attack to this query
    answers: list[Answer]
    turns: list[Turn]  # oldest first
    label: Label | None
    trained: list[Training]
    blind: bool  # the critic's verdict and others' judgements are kept back
    principles: dict[str, str]  # key -> title
    lead: bool
    held_by: Lease | None  # for leads: who holds it now
    changes: list[LabelChange] = field(default_factory=list)

    @property
    def reviews(self) -> list[Review]:
        return [turn.review for turn in self.turns]

    @property
    def state_label(self) -> str:
        return Sample.Status(self.state).label

    @property
    def may_go_back(self) -> bool:
        """Whether a lead can put it back; what its judgements say decides then."""
        if self.sample.status == Sample.Status.EXCLUDED:
            return True
        ended = (Sample.Status.CLOSED, Sample.Status.SKIPPED, Sample.Status.DECIDED)
        return self.sample.status in ended and self.sample.round.status in OPEN_ROUNDS

    @property
    def principle_title(self) -> str:
        key = self.sample.principle
        return self.principles.get(key, key)


def judges_blind(sample: Sample, user: User) -> bool:
    """True where `user` may still be asked about this sample, so that nothing may sway the judgement.

    Where known answers are mixed into the queue, that is any decided sample that they never judged.
    """
    sight = open_sight(user, sample.round.experiment)
    if sight.shows_reason(sample):
        return False
    if sample.status != Sample.Status.DECIDED and sample.round.status not in OPEN_ROUNDS:
        return False
    own = Review.objects.filter(sample=sample, reviewer=user, superseded_by=None)
    return not own.exclude(action__in=NO_JUDGEMENT).exists()


def read_history(sample: Sample, *, user: User) -> History:
    """`sample` comes with its query, round and experiment. A fixed number of queries, and one for each parent."""
    blind = judges_blind(sample, user)
    lead = has_role(user, Role.LEAD)
    reviews = list(sample.reviews.select_related("reviewer", "superseded_by__reviewer").order_by("created_at", "id"))
    if blind:
        reviews = [review for review in reviews if review.reviewer_id == user.pk]
    label = None if blind else Label.objects.filter(sample=sample).first()
    principles = dict(
        Principle.objects.filter(constitution=sample.round.experiment.constitution_id).values_list("key", "title")
    )
    turns = [_read_turn(review, sample, label, principles) for review in reviews]
    critiques = {} if blind else {critique.response_index: critique for critique in sample.critiques.all()}
    lease = Lease.objects.filter(sample=sample, holder__isnull=False).select_related("holder").first() if lead else None
    sight = open_sight(user, sample.round.experiment)
    return History(
        sample=sample,
        state=sight.state_of(sample) if blind else sample.status,
        lineage=read_lineage(sample.query),
        answers=[_read_answer(row, critiques.get(row["index"]), label, turns) for row in sample.responses],
        turns=turns,
        label=label,
        trained=[] if blind else _list_training(sample),
        blind=blind,
        principles=principles,
        lead=lead,
        held_by=lease,
        changes=[] if blind else list(sample.label_changes.select_related("withdrawal__by").order_by("at")),
    )


def _read_turn(review: Review, sample: Sample, label: Label | None, principles: dict[str, str]) -> Turn:
    review.sample = sample
    later = getattr(review, "superseded_by", None)
    ended = "" if later is None else ENDED.get(later.action, "corrected")
    keys = sorted({key for keys in review.violations.values() for key in keys})
    spans = []
    for span in review.spans:
        text = _text_of(sample, span["answer"])[span["start"] : span["end"]]
        spans.append((LETTERS[span["answer"]], text, principles.get(span["principle"], span["principle"])))
    return Turn(
        review=review,
        said=TAKING_BACK.get(review.action) or describe_review(review),
        principles=[principles.get(key, key) for key in keys],
        spans=spans,
        counts=label is not None and str(review.pk) in label.evidence,
        ended=ended,
    )


def _text_of(sample: Sample, index: int) -> str:
    return next((row["text"] for row in sample.responses if row["index"] == index), "")


def _read_answer(response: dict[str, Any], critique: Critique | None, label: Label | None, turns: list[Turn]) -> Answer:
    index, text = response["index"], response["text"]
    marks: list[Mark] = []
    span = critique.span if critique else None
    if isinstance(span, list) and len(span) == 2:
        start, end = max(0, int(span[0])), min(len(text), int(span[1]))
        if start < end:
            marks.append((start, end, "critic", "The critic points here"))
    for turn in turns:
        if turn.ended:
            continue
        for mark in turn.review.spans:
            if mark["answer"] == index:
                who = turn.review.reviewer.get_username()
                marks.append((mark["start"], mark["end"], "other", f"{who}: {mark['principle'].replace('-', ' ')}"))
    return Answer(
        index=index,
        letter=LETTERS[index],
        text=text,
        tokens=response["tokens"],
        cut=response["finish"] == "length",
        critique=critique,
        marks=marks,
        violates=label.violates.get(str(index)) if label else None,
    )


def _list_training(sample: Sample) -> list[Training]:
    """Two queries."""
    used = TrainedOn.objects.filter(sample=sample).select_related("round").order_by("round__number")
    rounds = [row.round for row in used]
    learners = {
        checkpoint.round_id: checkpoint
        for checkpoint in Checkpoint.objects.filter(round__in=rounds, role=Checkpoint.Role.LEARNER)
    }
    return [Training(round_, learners.get(round_.pk)) for round_ in rounds]


def read_lineage(query: Query, *, limit: int = 12) -> list[Query]:
    """The chain of parents, oldest first. `limit` ends a chain that data errors made endless."""
    chain, seen = [query], {query.pk}
    while chain[-1].parent_id is not None and chain[-1].parent_id not in seen and len(chain) < limit:
        parent = Query.objects.get(pk=chain[-1].parent_id)
        seen.add(parent.pk)
        chain.append(parent)
    return chain[::-1]
