"""Samples by their words, newest first, from the full-text index of the database.

The marks of what never changes about a sample are part of the search, so that words and filters are one
intersection. What does change (state, gold, who judged it) is in no text, so one of two sides is walked:

1. the samples that fit (a state, a small set), each one's text being checked: ends soon where the set is
   small, or where the words are frequent in it;
2. else the texts that fit, each one's sample being checked: ends soon where the words are rare.

Where both are many and hardly any is in both, a page ends after so many looks, says so, and the next one goes
on from there: a Place in the samples, or the id of a row of the index.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet

from oversight import search
from oversight.models import Review, Sample, SampleText
from oversight.search import Terms, mark
from oversight.selectors.sample_filter import Conditions
from oversight.selectors.sample_index import Place, pick_ids

MEMBERS = (300, 1_700)  # samples looked at, a step each
LAST = UUID(int=(1 << 128) - 1)  # of those made at the same moment
CANDIDATES = (300, 1_200, 3_000)  # texts looked at, a step each


@dataclass(frozen=True)
class Found:
    """`at` is where the next page goes on, None at the end."""

    ids: list[UUID]
    at: Place | int | None
    checked: int = 0  # looks, where the page ended before it was full


def find_by_words(asked: Conditions, text: str, at: Place | int | None, limit: int) -> Found:
    marks = [mark("experiment", asked.experiment.pk), *(mark(_name(name), v) for name, v in asked.cell.items())]
    terms = search.read_terms(text, marks)
    if terms is None or asked.nothing:
        return Found([], None)
    before = at if isinstance(at, int) else None
    if asked.lasting:
        return _cut(list_texts(terms, before, limit + 1), limit)
    if at is None and asked.cell:
        # Nothing newer than the newest that fits needs a look; often nothing fits at all.
        newest = pick_ids(asked, None, 1)
        if not newest:
            return Found([], None)
        at = Place(_place_of(newest[0]).created_at, LAST)
        before = _row_after(newest[0])
    listed = bool(asked.form or asked.status or asked.gold or asked.disputed or asked.reviewer or asked.assigned)
    if listed and not isinstance(at, int):
        found = _walk_members(asked, terms, at, limit)
        # A later page stays with the order of the first one.
        later = at is not None and at.id != LAST
        if later or not found.checked:
            return found
    return _walk_candidates(asked, terms, before, limit)


def _name(column: str) -> str:
    return "round" if column == "round_id" else column


def _cut(rows: list[tuple[int, UUID]], limit: int) -> Found:
    return Found([sample for _, sample in rows[:limit]], rows[limit - 1][0] if len(rows) > limit else None)


def _walk_members(asked: Conditions, terms: Terms, place: Place | None, limit: int) -> Found:
    """The texts of the newest samples that fit; what lasts is among the terms, and so needs no filter here."""
    members, ids, checked = replace(asked, cell={}), [], 0
    # A person's judgements are read whole each time, so in one step.
    for step in (sum(MEMBERS),) if asked.reviewer else MEMBERS:
        walked = pick_ids(members, place, step)
        texts = dict(SampleText.objects.filter(sample__in=walked).values_list("sample_id", "text"))
        ids += [pk for pk in walked if terms.match(texts.get(pk, ""))]
        checked += len(walked)
        if len(ids) > limit:
            return Found(ids[:limit], _place_of(ids[limit - 1]))
        if len(walked) < step:
            return Found(ids, None)
        place = _place_of(walked[-1])
    return Found(ids, place, checked)


def _row_after(identifier: UUID) -> int | None:
    row = SampleText.objects.filter(sample=identifier).values_list("pk", flat=True).first()
    return None if row is None else row + 1


def _place_of(identifier: UUID) -> Place:
    return Place(Sample.objects.values_list("created_at", flat=True).get(pk=identifier), identifier)


def _walk_candidates(asked: Conditions, terms: Terms, before: int | None, limit: int) -> Found:
    rows: list[tuple[int, UUID]] = []
    checked = 0
    for step in CANDIDATES:
        candidates = list_texts(terms, before, step)
        checked += len(candidates)
        fitting = set(_fit(asked).filter(pk__in=[sample for _, sample in candidates]).values_list("pk", flat=True))
        rows += [row for row in candidates if row[1] in fitting]
        if len(rows) > limit or len(candidates) < step:
            return _cut(rows, limit)
        before = candidates[-1][0]
    return Found([sample for _, sample in rows], before, checked)


def _fit(asked: Conditions) -> QuerySet[Sample]:
    """The conditions that change, for a few samples named by their ids."""
    samples = Sample.objects.filter(status__in=asked.statuses, **asked.form)
    if asked.disputed:
        samples = samples.filter(disputed=True)
    if asked.gold:
        samples = samples.filter(gold=True)
    if asked.assigned:
        samples = samples.filter(assigned_to=asked.assigned)
    if asked.reviewer:
        judged = Review.objects.filter(sample=OuterRef("pk"), reviewer=asked.reviewer, superseded_by=None)
        samples = samples.filter(Exists(judged.exclude(action__in=("skip", "undo", "withdraw"))))
    return samples


# --- The databases ----------------------------------------------------------------------------------


def list_texts(terms: Terms, before: int | None, limit: int) -> list[tuple[int, UUID]]:
    """(id of the index row, id of the sample) of the newest texts that have all the terms."""
    if connection.vendor == "postgresql":
        return _list_by_lexemes(terms, before, limit)
    return _list_by_fts5(terms, before, limit) if has_index() else _list_by_like(terms, before, limit)


def has_index() -> bool:
    """False on an SQLite that was built without FTS5: the texts themselves are read then."""
    return connection.vendor == "postgresql" or _has_fts5(str(connection.settings_dict["NAME"]))


@lru_cache
def _has_fts5(database: str) -> bool:
    return "oversight_search" in connection.introspection.table_names()


FTS5 = """
SELECT t.id, t.sample_id FROM oversight_search CROSS JOIN oversight_sampletext t
WHERE oversight_search MATCH %s AND oversight_search.rowid < %s AND t.id = oversight_search.rowid
ORDER BY oversight_search.rowid DESC LIMIT %s
"""


def _list_by_fts5(terms: Terms, before: int | None, limit: int) -> list[tuple[int, UUID]]:
    # Each term is a quoted string of letters and digits, so nothing in it can be syntax.
    asked = [f'"{token}"' for token in terms.whole] + [f'"{start}"*' for start in terms.starts]
    with connection.cursor() as cursor:
        cursor.execute(FTS5, [" AND ".join(asked), before or 1 << 62, limit])
        return [(row, UUID(sample)) for row, sample in cursor.fetchall()]


# One look a block of ids, the newest first, until the page is full: a frequent word never costs all its texts.
# The "+ 0" keeps the planner from reading the rows by their ids instead, which it would take to be cheaper.
LEXEMES = """
SELECT found.id, found.sample_id FROM generate_series(%s, 0, -1) AS block CROSS JOIN LATERAL (
  SELECT t.id, t.sample_id FROM oversight_sampletext t
  WHERE t.tokens @@ (%s || block || '''')::tsquery AND t.id + 0 < %s
  ORDER BY t.id + 0 DESC LIMIT %s
) AS found LIMIT %s
"""


def _list_by_lexemes(terms: Terms, before: int | None, limit: int) -> list[tuple[int, UUID]]:
    asked = [f"'{token}'" for token in terms.whole] + [f"'{start}':*" for start in terms.starts]
    if before is None:
        before = (SampleText.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    with connection.cursor() as cursor:
        cursor.execute(LEXEMES, [before // search.BLOCK, " & ".join(asked) + " & '\u00a7", before, limit, limit])
        return [(row, sample) for row, sample in cursor.fetchall()]


def _list_by_like(terms: Terms, before: int | None, limit: int) -> list[tuple[int, UUID]]:
    texts = SampleText.objects.order_by("-pk")
    if before is not None:
        texts = texts.filter(pk__lt=before)
    for token in terms.whole:
        inside = Q(text__contains=f" {token} ") | Q(text__endswith=f" {token}")
        texts = texts.filter(inside | Q(text__startswith=f"{token} "))
    for start in terms.starts:
        texts = texts.filter(text__contains=f" {start}")
    return list(texts.values_list("pk", "sample_id")[:limit])
