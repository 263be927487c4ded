"""Pages of lists, of a bounded size."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination, LimitOffsetPagination


class OffsetPages(LimitOffsetPagination):
    default_limit = 50
    max_limit = 500


class NewestFirst(CursorPagination):
    """For tables that grow without end: a late page costs what the first does."""

    ordering = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 500
