"""The people who review: what is known of each, and of how far they agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from oversight.models import Experiment, Review, ReviewFigures, Role, Sample, User

VERSION = 2  # of the stored figures: raise it when what is computed changes, and all are computed anew
RECENT = 30  # judgements listed of one person
LOOKED_AT = 300


# --- What the figures have seen ---------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the figures depend on, as counts. Reviews are never changed, so their number tells.

    `entries` counts those of every experiment: which experiment a review is of takes a look at its sample,
    too slow for a page where there are a million. The worker looks, see `figures.recompute_figures`.
    """

    entries: int
    gold: int
    excluded: int


def read_seen(experiment: Experiment) -> Seen:
    """Three counts from indexes."""
    excluded = Sample.objects.filter(experiment=experiment, status=Sample.Status.EXCLUDED)
    return Seen(
        entries=Review.objects.count(),
        gold=Sample.objects.filter(experiment=experiment, gold=True).order_by().count(),
        excluded=excluded.order_by().count(),
    )


def is_fresh(row: ReviewFigures | None, seen: Seen) -> bool:
    """Whether the stored figures have seen all of it. Where nobody ever judged anything none are needed."""
    if row is None:
        return seen.entries == 0
    return {name: row.figures.get(name) for name in ("version", *vars(seen))} == {"version": VERSION, **vars(seen)}


def reviews_of(experiment: Experiment) -> QuerySet[Review]:
    """For a worker: it looks at every review's sample. A join would start from the samples, many more still."""
    mine = Sample.objects.filter(pk=OuterRef("sample"), experiment=experiment)
    return Review.objects.filter(Exists(mine)).order_by()


# --- Figures as pages show them ---------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A figure with its 95 % interval and n, or the reason why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str
    group: str = ""

    @property
    def words(self) -> str:
        """ "0.81 to 0.97, n 24", or "n 1" without an interval."""
        if self.low is None or self.high is None:
            return f"n {self.n}"
        return f"{self.low:.2f} to {self.high:.2f}, n {self.n}"

    @property
    def bar(self) -> dict[str, str] | None:
        """Where interval and value lie on a scale from 0 to 100; below 0 is drawn at 0."""
        if self.value is None or self.low is None or self.high is None:
            return None
        places = {"low": self.low, "value": self.value, "high": self.high}
        return {name: f"{100 * min(max(place, 0.0), 1.0):.1f}" for name, place in places.items()}


@dataclass(frozen=True)
class Turn:
    """A verdict on an answer of a sample beside another one: the gold label's, or the critic's."""

    sample: str
    letter: str
    said: bool
    other: bool
    judged: bool | None  # gold: said what was expected; switch: the critic was right; None: nobody decided
    prompt: str = ""  # see `with_prompts`


@dataclass(frozen=True)
class PersonFigures:
    judgements: int
    shared: int
    seconds: list[float] | None  # lower quartile, median, upper quartile
    gold: Number
    sensitivity: Number
    specificity: Number
    switched: Number
    misled: Number
    undecided: int
    golds: list[Turn]  # newest first
    switches: list[Turn]


@dataclass(frozen=True)
class FiguresView:
    """The stored figures of an experiment; empty where none are stored yet."""

    computed_at: datetime | None
    fresh: bool
    newer: int  # entries that arrived since, of any experiment
    people: dict[int, PersonFigures]  # by the user's primary key
    standing: dict[int, int]  # judgements that stand, by the user's primary key
    alpha: Number | None
    rounds: list[Number]
    principles: list[Number]
    switched: Number | None
    misled: Number | None
    undecided: int
    seed: int
    draws: int


def read_figures(experiment: Experiment) -> FiguresView:
    """Four queries."""
    row = ReviewFigures.objects.filter(experiment=experiment).first()
    seen = read_seen(experiment)
    fresh = is_fresh(row, seen)
    if row is None or row.figures.get("version") != VERSION:
        return FiguresView(None, fresh, seen.entries, {}, {}, None, [], [], None, None, 0, 0, 0)
    stored = row.figures
    return FiguresView(
        computed_at=row.computed_at,
        fresh=fresh,
        newer=max(0, seen.entries - stored["entries"]),
        people={int(person["rater"]): _person(person) for person in stored["raters"]},
        standing={int(pk): found for pk, found in stored["standing"].items()},
        alpha=_number(stored["alpha"]),
        rounds=[_number(metric) for metric in stored["alpha_by_round"]],
        principles=[_number(metric) for metric in stored["alpha_by_principle"]],
        switched=_number(stored["bias"]["switched"]),
        misled=_number(stored["bias"]["misled"]),
        undecided=stored["bias"]["undecided"],
        seed=stored["seed"],
        draws=stored["draws"],
    )


def _number(metric: dict[str, Any]) -> Number:
    return Number(
        metric["value"], metric["ci_low"], metric["ci_high"], metric["n"], metric["reason"], group=metric["group"]
    )


def _person(stored: dict[str, Any]) -> PersonFigures:
    golds = [
        Turn(row["sample"], _letter(row), row["said"], row["expected"], row["said"] == row["expected"])
        for row in reversed(stored["golds"])
    ]
    switches = [
        Turn(
            row["sample"], _letter(row), not row["critic"], row["critic"],
            None if row["critic_was_wrong"] is None else not row["critic_was_wrong"],
        )
        for row in reversed(stored["switches"])
    ]  # fmt: skip
    return PersonFigures(
        judgements=stored["judgements"],
        shared=stored["shared"],
        seconds=stored["seconds"],
        gold=_number(stored["gold"]),
        sensitivity=_number(stored["sensitivity"]),
        specificity=_number(stored["specificity"]),
        switched=_number(stored["bias"]["switched"]),
        misled=_number(stored["bias"]["misled"]),
        undecided=stored["bias"]["undecided"],
        golds=golds,
        switches=switches,
    )


def _letter(row: dict[str, Any]) -> str:
    return chr(ord("A") + row["answer"])


# --- People -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReviewerRow:
    """A line of the table."""

    user: User
    judgements: int | None  # that stand, in this experiment; None before they were counted
    last_seen: datetime | None
    figures: PersonFigures | None

    @property
    def role(self) -> str:
        return Role(self.user.role).label.lower()


def list_reviewers(figures: FiguresView) -> list[ReviewerRow]:
    """Everybody who may review, and everybody who has; those with the most judgements first. One query."""
    users = _with_last_review(User.objects.filter(Q(is_active=True) | Q(pk__in=list(figures.standing))))
    rows = [_row(user, figures) for user in users]
    return sorted(rows, key=lambda row: (not row.user.is_active, -(row.judgements or 0), row.user.get_username()))


def read_reviewer(figures: FiguresView, username: str) -> ReviewerRow | None:
    """The line of one person; None where there is no such person."""
    user = _with_last_review(User.objects.filter(username=username)).first()
    return None if user is None else _row(user, figures)


def list_recent(experiment: Experiment, user: User) -> list[Review]:
    """The newest judgements, skips and corrections of one person in this experiment, among their last LOOKED_AT."""
    latest = Review.objects.filter(reviewer=user).order_by("-created_at").values_list("pk", flat=True)[:LOOKED_AT]
    reviews = Review.objects.filter(pk__in=list(latest), sample__experiment=experiment)
    # The answers are long, and not shown here. What supersedes comes by a query of its own: as a join SQLite
    # may read every review for each of these where it has learnt that hardly any supersedes another.
    reviews = reviews.select_related("sample__query").defer("sample__responses").prefetch_related("superseded_by")
    return list(reviews.order_by("-created_at")[:RECENT])


def with_prompts(person: PersonFigures) -> PersonFigures:
    """The same with the prompts of the tests and switches. One query."""
    ids = {UUID(turn.sample) for turn in (*person.golds, *person.switches)}
    texts = {str(pk): text for pk, text in Sample.objects.filter(pk__in=ids).values_list("pk", "query__text")}

    def tell(turns: list[Turn]) -> list[Turn]:
        return [replace(turn, prompt=texts.get(turn.sample, "")) for turn in turns]

    return replace(person, golds=tell(person.golds), switches=tell(person.switches))


def _with_last_review(users: QuerySet[User]) -> QuerySet[User]:
    latest = Review.objects.filter(reviewer=OuterRef("pk")).order_by("-created_at").values("created_at")[:1]
    return users.annotate(last_review=Subquery(latest))


def _row(user: User, figures: FiguresView) -> ReviewerRow:
    times = [at for at in (getattr(user, "last_review", None), user.last_login) if at is not None]
    counted = figures.standing.get(user.pk, 0) if figures.computed_at else None
    return ReviewerRow(user, counted, max(times, default=None), figures.people.get(user.pk))
