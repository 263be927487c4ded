"""The principles of a constitution as boxes to tick, the same for almost every sample: drawn once, then kept."""

from __future__ import annotations

from functools import lru_cache

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from oversight.selectors.workbench import Answer, Choice

register = template.Library()


@register.simple_tag
def principle_boxes(answer: Answer) -> SafeString:
    """The boxes of one answer: the principle in question and its neighbours, the others folded."""
    return _draw(answer.index, answer.choices)


@lru_cache(maxsize=256)
def _draw(index: int, choices: tuple[Choice, ...]) -> SafeString:
    near = [choice for choice in choices if choice.near]
    others = [choice for choice in choices if not choice.near]
    context = {"index": index, "near": near, "others": others}
    return render_to_string("oversight/review_principles.html", context)
