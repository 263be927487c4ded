"""A chart: its data, its table, the sentence that says what it shows, and why it can't be drawn where it can't.

`spec` makes the Vega-Lite spec for a theme and a width; `draw` turns a spec into SVG. Altair and vl-convert are
imported when a chart is drawn, not when the web process starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from oversight.drawing import NARROW, WIDE, Rows, Theme, theme_config

DESIGN = "2"  # raise it when the drawing changes: cached pictures are then asked for anew


@dataclass(frozen=True)
class Chart:
    key: str
    title: str
    question: str  # what it answers, in one sentence
    columns: list[str] = field(default_factory=list)
    table: list[list[str]] = field(default_factory=list)
    summary: str = ""  # what it shows, for people who can't see it
    reason: str = ""  # why it can't be computed; "" where it can
    values: Rows = field(default_factory=list)
    make: Callable[[Chart, Theme, int], Any] | None = None
    round: int = 0  # the round that the chart is of alone, 0 for one of the whole experiment

    @property
    def token(self) -> str:
        """Changes with the data and the design, so that a picture may be cached for ever under it."""
        content = json.dumps([DESIGN, self.key, self.values, self.summary], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def spec(self, theme: Theme, *, narrow: bool = False) -> dict[str, Any]:
        assert self.make is not None, f"chart {self.key} can't be drawn: {self.reason}"
        chart = self.make(self, theme, NARROW if narrow else WIDE)
        drawn: dict[str, Any] = chart.properties(description=self.summary).configure(**theme_config(theme)).to_dict()
        return drawn


def draw(spec: dict[str, Any]) -> str:
    return _draw(json.dumps(spec, sort_keys=True))


@lru_cache(maxsize=128)
def _draw(spec: str) -> str:
    import vl_convert

    # No URL may be loaded: the data travels in the spec.
    return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


@lru_cache(maxsize=1)
def vega_bundle() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script, for charts that answer to the pointer. Takes a second, once."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).encode()
