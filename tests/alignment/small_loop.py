"""Settings of rounds that are as short as rounds can be."""

from __future__ import annotations

from alignment.bench.loop import TINY

SMALL = {**TINY, "budget": 4}
