"""The principles that a sample is judged by."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from oversight.models import Principle


@lru_cache(maxsize=64)
def list_principles(constitution_id: UUID) -> tuple[Principle, ...]:
    """Those of a constitution that a round was launched with, in their order. Read once a process: such a version
    never changes (see `services.constitutions`), so ask only for the constitution of a sample's round."""
    return tuple(Principle.objects.filter(constitution=constitution_id))
