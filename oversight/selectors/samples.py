"""Samples: the filtered list, a page at a time, as far as the person who looks may know it."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from uuid import UUID

from django.utils.dateparse import parse_datetime

from oversight import search
from oversight.models import Experiment, Principle, Sample, User
from oversight.selectors.sample_filter import LEVELS, SampleFilter, Sight, allow, read_conditions
from oversight.selectors.sample_index import Place, list_operators, pick_ids
from oversight.selectors.sample_texts import find_by_words, has_index

PAGE_SIZE = 40


@dataclass(frozen=True)
class Row:
    """A sample of the list, with what this person may see of it."""

    sample: Sample
    state: str
    reason: str  # "" where there is none, or where it is kept back
    kept_back: bool

    @property
    def shown_reason(self) -> str | None:
        return None if self.kept_back else self.reason


@dataclass(frozen=True)
class SamplePage:
    rows: list[Row] = field(default_factory=list)
    next: str = ""  # cursor of the next page, "" on the last
    checked: int = 0  # texts looked at, where the search stopped before the page was full
    remark: str = ""  # what the person should know of this search

    @property
    def samples(self) -> list[Sample]:
        return [row.sample for row in self.rows]


def list_samples(
    experiment: Experiment, wanted: SampleFilter, *, sight: Sight, after: str = "", size: int = PAGE_SIZE
) -> SamplePage:
    """One page, newest first. Keyset pages: a late page costs what the first does, and none skips a row."""
    asked = read_conditions(experiment, wanted, sight)
    place = _read_cursor(after)
    if wanted.text:
        if search.read_terms(wanted.text) is None:
            return SamplePage(remark="A search needs a letter or a digit; signs alone are not in the index.")
        found = find_by_words(asked, wanted.text, place, size)
        rows = _load(found.ids, sight)
        remark = "" if has_index() else "This database has no full-text index (SQLite without FTS5): searches are slow."
        return SamplePage(rows, _write_cursor(found.at), found.checked, remark)
    ids = pick_ids(asked, place if isinstance(place, Place) else None, size + 1)
    rows = _load(ids[:size], sight)
    more = len(ids) > size and bool(rows)
    return SamplePage(rows, _write_cursor(Place(rows[-1].sample.created_at, rows[-1].sample.pk) if more else None))


def _load(ids: list[UUID], sight: Sight) -> list[Row]:
    """The samples in the order of `ids`; one query."""
    samples = Sample.objects.select_related("query", "round", "assigned_to").in_bulk(ids)
    rows = []
    for identifier in ids:
        sample = samples.get(identifier)
        if sample is not None:
            shown = sight.shows_reason(sample)
            rows.append(Row(sample, sight.state_of(sample), sample.flag_reason if shown else "", not shown))
    return rows


def _write_cursor(place: Place | int | None) -> str:
    if place is None:
        return ""
    value = place if isinstance(place, int) else [place.created_at.isoformat(), str(place.id)]
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _read_cursor(text: str) -> Place | int | None:
    """None for a cursor that nobody made: the list then starts from its beginning."""
    try:
        place = json.loads(base64.urlsafe_b64decode(text[:200].encode()))
        if isinstance(place, int) and not isinstance(place, bool) and 0 < place < 1 << 62:
            return place
        created, identifier = place
        parsed = parse_datetime(created)
        return None if parsed is None or parsed.tzinfo is None else Place(parsed, UUID(identifier))
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class Choices:
    rounds: list[int]
    categories: list[str]
    principles: list[tuple[str, str]]
    operators: list[str]
    levels: tuple[int, ...]
    people: list[str]  # for leads


def read_choices(experiment: Experiment, sight: Sight) -> Choices:
    """What the filters offer."""
    principles = list(
        Principle.objects.filter(constitution=experiment.constitution_id).values_list("key", "title", "category")
    )
    people = User.objects.filter(is_active=True).order_by("username").values_list("username", flat=True)
    return Choices(
        rounds=list(experiment.rounds.order_by("-number").values_list("number", flat=True)),
        categories=sorted({category for _, _, category in principles if category}),
        principles=[(key, title) for key, title, _ in principles],
        operators=list_operators(experiment),
        levels=LEVELS,
        people=list(people) if sight.lead else [sight.user.get_username()],
    )


@dataclass(frozen=True)
class Preset:
    words: str
    link: str
    chosen: bool


def list_presets(wanted: SampleFilter, sight: Sight) -> list[Preset]:
    """Filters that are often wanted, as links."""
    name = sight.user.get_username()
    presets = [
        ("All", SampleFilter()),
        ("Waiting", SampleFilter(status="queued")),
        ("Judged by me", SampleFilter(reviewer=name)),
        ("Assigned to me", SampleFilter(assigned=name)),
    ]
    if sight.lead:
        presets += [
            ("Disputed", SampleFilter(status="disputed")),
            ("Ever disagreed", SampleFilter(disputed="yes")),
            ("Gold", SampleFilter(gold="yes")),
            ("Excluded", SampleFilter(status="excluded")),
        ]
    return [Preset(words, preset.link(), preset == allow(wanted, sight)) for words, preset in presets]
