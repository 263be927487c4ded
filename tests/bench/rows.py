"""Rows by the hundred thousand: COPY on PostgreSQL, `executemany` on SQLite, and no index in the way meanwhile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.db import connection, models


class Rows:
    """Gathers rows of one model. A column that nobody names gets the model's default."""

    def __init__(self, model: type[models.Model], *names: str) -> None:
        self.names = names
        fields = {field.attname: field for field in model._meta.concrete_fields}
        unknown = set(names) - set(fields)
        if unknown:
            raise ValueError(f"{model.__name__} has no column {', '.join(sorted(unknown))}; did the model change?")
        rest = [f for f in fields.values() if f.attname not in names and not isinstance(f, models.AutoField)]
        self.rest = tuple(_store_default(field) for field in rest)
        self.table = model._meta.db_table
        self.columns = [fields[name].column for name in names] + [field.column for field in rest]
        self.rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        """Values in the order of the names, as the database stores them: hex ids, `moment`s, JSON text."""
        self.rows.append(values + self.rest)

    def flush(self) -> None:
        columns = ", ".join(f'"{name}"' for name in self.columns)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.cursor.copy(f'COPY "{self.table}" ({columns}) FROM STDIN') as copy:
                    for row in self.rows:
                        copy.write_row(row)
            else:
                marks = ", ".join("?" * len(self.columns))
                connection.connection.executemany(
                    f'INSERT INTO "{self.table}" ({columns}) VALUES ({marks})',  # noqa: S608 - names of our models
                    self.rows,
                )
        self.rows.clear()


def _store_default(field: models.Field[Any, Any]) -> Any:
    value = field.get_default()
    if isinstance(field, models.JSONField):
        return None if value is None else json.dumps(value)
    return field.get_db_prep_save(value, connection)


def store_moment() -> Callable[[datetime], Any]:
    """How this database takes a time in UTC."""
    if connection.vendor == "postgresql":
        return lambda at: at
    return lambda at: at.strftime("%Y-%m-%d %H:%M:%S.%f")


@contextlib.contextmanager
def bulk_load() -> Iterator[None]:
    """One transaction without the checks and indexes that make a row at a time safe and fast to find."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.execute("PRAGMA cache_size=-1000000")
            cursor.execute("PRAGMA foreign_keys=OFF")
            cursor.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'oversight_%' "
                "AND sql LIKE 'CREATE INDEX%'"
            )
        else:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("SET maintenance_work_mem = '512MB'")
            cursor.execute("SET synchronous_commit = off")
            cursor.execute(
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
                "AND tablename LIKE 'oversight_%' AND indexdef LIKE 'CREATE INDEX%'"
            )
        indexes = cursor.fetchall()
        cursor.execute("BEGIN")
        for name, _ in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        for _, sql in indexes:
            cursor.execute(sql)
        cursor.execute("COMMIT")
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            cursor.execute("VACUUM ANALYZE")  # as autovacuum would soon
    connection.close()  # the next one has the product's own settings again
