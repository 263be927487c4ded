"""Reads for pages that more than one view needs."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def page_context(request: HttpRequest) -> dict[str, Any]:
    """What every page's header shows."""
    return {}
