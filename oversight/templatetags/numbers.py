"""Numbers as people read them."""

from __future__ import annotations

from typing import Any

from django import template

from oversight.odd_characters import name_odd

register = template.Library()


@register.filter
def percent(value: Any) -> str:
    """0.214 -> 21%; a dash where there is no value (templates turn a missing one into "")."""
    return "–" if value in (None, "") else f"{round(100 * value)}%"


@register.filter
def decimals(value: Any, places: int = 2) -> str:
    return "–" if value in (None, "") else f"{value:.{places}f}"


@register.filter
def duration(seconds: Any) -> str:
    """A span of time: 8 s, 1:40 min, 2:05 h."""
    if seconds in (None, ""):
        return "–"
    whole = max(0, round(seconds))
    if 0 < seconds < 1:
        return "<1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


@register.filter
def rate(steps: float) -> str:
    """Steps a second, or a minute where that reads better."""
    return f"{steps:.1f} a second" if steps >= 0.5 else f"{60 * steps:.1f} a minute"


@register.filter
def words(key: str) -> str:
    """A key as words: fit_critic -> fit critic, private-life -> private life. Invisible characters are named."""
    return name_odd(str(key).replace("_", " ").replace("-", " "))
