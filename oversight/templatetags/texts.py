"""{% load texts %}: texts of models and people, shown so that nothing in them can act, hide or deceive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

from django import template
from django.utils.safestring import SafeString

from oversight.odd_characters import name_odd
from oversight.reading import Mark, render_reading

register = template.Library()


@register.simple_tag
def reading(text: str, spans: Iterable[Any] = (), whole: str = "") -> SafeString:
    """{% reading text spans=marks whole=url %}: a block, so never inside a <p>.

    `spans` are (start, end, CSS class, title) in code points, as tuples or as dataclasses of these four. The
    classes "own", "critic" and "other" have a look of their own. `whole` is the address of the plain text, offered
    where the text is too long for a page.
    """
    marks: list[Mark] = [span if isinstance(span, tuple) else astuple(span) for span in spans or ()]
    return render_reading(text, marks, whole)


@register.filter
def visible(text: Any) -> str:
    """{{ text|truncatechars:60|visible }}: one line of a list, whose invisible characters are named: ‹RLO›."""
    return name_odd(str(text))
