"""What the workbench's form sends, read once for judgements, drafts and showing it again."""

from __future__ import annotations

import json
import math
import re
from uuid import UUID

from django.http import QueryDict

from oversight.models import Review
from oversight.selectors.workbench import Marks, read_marks
from oversight.services.judgements import InvalidReview, Judgement, Span

LONGEST_TEXT = 20_000  # characters of a rewrite or a note
LONGEST_SPANS = 64_000  # characters of the field that holds the marked passages
MOST_SPANS = 50
FIELD = re.compile(r"mark|principle-\d{1,2}|rewrite|rewrite_of|note|spans")


def parse_judgement(data: QueryDict) -> Judgement:
    """The form's fields. Raises InvalidReview for what no page of ours sends."""
    typed = read_typed(data)
    skipping = "skip" in data  # a button that names its reason
    try:
        seconds = float(data.get("seconds") or "nan")
        rewrite_of = int(data.get("rewrite_of") or -1)
    except ValueError as error:
        raise InvalidReview(f"{error}; reload the page.") from error
    if len(typed.rewrite) > LONGEST_TEXT or len(typed.note) > LONGEST_TEXT:
        raise InvalidReview(f"The text is too long; {LONGEST_TEXT:,} characters are the limit.")
    return Judgement(
        action=Review.Action.SKIP if skipping else data.get("action", ""),
        violations=typed.violations,
        rewrite=typed.rewrite,
        rewrite_of=None if rewrite_of == -1 else rewrite_of,
        note=typed.note,
        seconds=seconds if math.isfinite(seconds) else None,
        skip_reason=data.get("skip", "") if skipping else "",
        spans=parse_spans(data.get("spans", "")),
    )


def parse_spans(text: str) -> list[Span]:
    """The hidden field's JSON list. Raises InvalidReview, so that no mark is dropped without a word."""
    if not text.strip():
        return []
    if len(text) > LONGEST_SPANS:
        raise InvalidReview("The marked passages are too long; mark shorter ones.")
    try:
        rows = json.loads(text)
        spans = [_read_span(row) for row in rows]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidReview("The marked passages can't be read; reload the page and mark them again.") from error
    if len(spans) > MOST_SPANS:
        raise InvalidReview(f"{len(spans)} passages are marked; {MOST_SPANS} are the limit.")
    return spans


def _read_span(row: object) -> Span:
    if not isinstance(row, dict):
        raise TypeError(f"{row!r} is not a passage")
    answer, start, end, principle, quote = (row.get(name) for name in ("answer", "start", "end", "principle", "quote"))
    if type(answer) is not int or type(start) is not int or type(end) is not int or not isinstance(principle, str):
        raise TypeError(f"{row!r} is not a passage")
    return Span(answer, start, end, principle, quote if isinstance(quote, str) else None)


def read_fields(data: QueryDict) -> dict[str, list[str]]:
    """The fields that a draft keeps. Raises InvalidReview for a form that is too large to be one."""
    form = {name: values for name, values in data.lists() if FIELD.fullmatch(name)}
    if sum(len(value) for values in form.values() for value in values) > 2 * LONGEST_TEXT + LONGEST_SPANS:
        raise InvalidReview(f"The text is too long for a draft; {LONGEST_TEXT:,} characters are the limit.")
    return form


def read_typed(data: QueryDict) -> Marks:
    """What stands in the form, for storing it or for showing it again."""
    return read_marks({name: values for name, values in data.lists() if FIELD.fullmatch(name)})


def read_key(data: QueryDict) -> UUID:
    try:
        return UUID(data.get("key", ""))
    except ValueError as error:
        raise InvalidReview("The form carries no key; reload the page.") from error
