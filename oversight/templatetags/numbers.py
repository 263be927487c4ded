"""Numbers as people read them."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def percent(value: float | None) -> str:
    """0.214 -> 21%; nothing where there is no value."""
    return "–" if value is None else f"{round(100 * value)}%"


@register.filter
def decimals(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:.{places}f}"


@register.filter
def duration(seconds: float | None) -> str:
    """A span of time: 8 s, 1:40 min, 2:05 h."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


@register.filter
def words(key: str) -> str:
    """A key as words: fit_critic -> fit critic, private-life -> private life."""
    return str(key).replace("_", " ").replace("-", " ")
