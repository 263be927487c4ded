"""Pages of lists, of a bounded size."""

from __future__ import annotations

from rest_framework.pagination import LimitOffsetPagination


class OffsetPages(LimitOffsetPagination):
    default_limit = 50
    max_limit = 500
