"""Ids of samples straight from the indexes, newest first, in a bounded time at any size of the table.

Two steps make a page: the ids come from here, the rows are loaded by them. Which index leads is decided here
and not left to the planner, whose guess of how filters go together can be wrong by any factor: an inner query
with a LIMIT leads, and no planner moves the outer conditions into it.

1. A small set (gold, disputed, assigned, a person's judgements) is read whole.
2. Else, where an operator or a level is named, an index of its own gives the newest of that form: a cell of the
   archive's map is a few hundred rows of the index `sample_attack`, read whole.
3. Else, unless a round is named, the newest `WALK` samples of the experiment, or of its one state, are looked
   through: a page of anything frequent is among them.
4. Else by cells (see `models.Cell`): the newest sample of each cell that fits, and then the page out of the
   cells whose newest come first. What fits nothing costs two short looks a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from oversight.models import Experiment
from oversight.selectors.sample_filter import Conditions

WALK = 3_000  # samples
ALL = 1 << 62  # a LIMIT that leaves nothing out
NEWEST = "ORDER BY created_at DESC, id DESC"
SAMPLE = (
    "s.id, s.created_at, s.experiment_id, s.round_id, s.kind, s.category, s.principle, s.flag_reason, s.status, "
    "s.disputed, s.gold, s.assigned_to_id, s.operator, s.level"
)
# Samples that one person's judgement stands of: not taken back, not corrected into a skip, not withdrawn.
JUDGED = """
SELECT DISTINCT r.sample_id FROM oversight_review r
WHERE r.reviewer_id = %s AND r.action NOT IN ('skip', 'undo', 'withdraw')
  AND NOT EXISTS (SELECT 1 FROM oversight_review later WHERE later.supersedes_id = r.id)
"""
CELL = ("round_id", "kind", "category", "principle", "flag_reason")
SAME_CELL = " AND ".join(f"s.{name} = c.{name}" for name in CELL)


# The next operator after each, so that an index over a million samples is looked at once an operator.
OPERATORS = """
WITH RECURSIVE found(operator) AS (
  SELECT MIN(operator) FROM oversight_sample WHERE experiment_id = %s
  UNION ALL
  SELECT (SELECT MIN(operator) FROM oversight_sample WHERE experiment_id = %s AND operator > found.operator)
  FROM found WHERE found.operator IS NOT NULL
) SELECT operator FROM found WHERE operator > ''
"""


@dataclass(frozen=True)
class Place:
    """A page begins after this sample."""

    created_at: datetime
    id: UUID


class Sql:
    """A statement of this module's constants, and the values of its marks in their order."""

    def __init__(self, text: str = "", *values: Any) -> None:
        self.text, self.values = text, list(values)

    def add(self, text: str, *values: Any) -> Sql:
        self.text += f" {text}"
        self.values.extend(values)
        return self

    def put(self, other: Sql) -> Sql:
        return self.add(other.text, *other.values)

    def run(self) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(self.text, [_adapt(value) for value in self.values])
            return list(cursor.fetchall())


def _adapt(value: Any) -> Any:
    """A value as the database stores it: SQLite has neither UUIDs nor times."""
    if connection.vendor != "sqlite":
        return value
    if isinstance(value, UUID):
        return value.hex
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


def list_operators(experiment: Experiment) -> list[str]:
    """Those that the experiment's samples have, sorted."""
    return [row[0] for row in Sql(OPERATORS, experiment.pk, experiment.pk).run()]


def pick_ids(asked: Conditions, place: Place | None, limit: int) -> list[UUID]:
    """Up to `limit` ids, newest first."""
    if asked.nothing:
        return []
    if asked.gold or asked.disputed or asked.assigned or asked.reviewer:
        rows = _pick_of_set(asked, place, limit)
    elif asked.form:
        rows = _pick_of_form(asked, place, limit)
    else:
        plain = not asked.cell and (asked.any_status or bool(asked.status))
        few = "round_id" in asked.cell  # cells
        rows = [] if few else _walk(asked, place, limit, among=limit if plain else WALK)
        if few or (len(rows) < limit and not plain):
            rows = _pick_of_cells(asked, place, limit)
    return [row[0] if isinstance(row[0], UUID) else UUID(row[0]) for row in rows]


def _before(place: Place | None) -> Sql:
    return Sql() if place is None else Sql("AND (s.created_at, s.id) < (%s, %s)", place.created_at, place.id)


def _pick_of_set(asked: Conditions, place: Place | None, limit: int) -> list[tuple[Any, ...]]:
    query = Sql(f"SELECT id FROM (SELECT {SAMPLE} FROM")  # noqa: S608 - constants
    if asked.reviewer:
        query.add(f"({JUDGED}) AS judged CROSS JOIN oversight_sample s WHERE s.id = judged.sample_id", asked.reviewer)
    elif asked.assigned:
        query.add("oversight_sample s WHERE s.assigned_to_id = %s", asked.assigned)
    else:
        flag = "gold" if asked.gold else "disputed"
        query.add(f"oversight_sample s WHERE s.experiment_id = %s AND s.{flag}", asked.experiment.pk)
    query.put(_before(place)).add(f"{NEWEST} LIMIT {ALL}) AS chosen WHERE experiment_id = %s", asked.experiment.pk)
    if asked.reviewer and asked.assigned:
        query.add("AND assigned_to_id = %s", asked.assigned)
    for flag in ("gold", "disputed"):
        if getattr(asked, flag):
            query.add(f"AND {flag}")
    return query.put(_fit(asked)).add(f"{NEWEST} LIMIT %s", limit).run()


def _pick_of_form(asked: Conditions, place: Place | None, limit: int) -> list[tuple[Any, ...]]:
    query = Sql(f"SELECT id FROM (SELECT {SAMPLE} FROM oversight_sample s WHERE s.experiment_id = %s")  # noqa: S608
    query.values.append(asked.experiment.pk)
    if {"round_id", "category"} <= set(asked.cell) and asked.cell.get("kind") == "unsafe" and "operator" in asked.form:
        # A literal, so that the planner sees that the partial index holds it. LIMIT keeps the index leading.
        query.add("AND s.kind = 'unsafe' AND s.round_id = %s", asked.cell["round_id"])
        query.add("AND s.operator = %s AND s.category = %s", asked.form["operator"], asked.cell["category"])
        query.put(_before(place)).add(f"LIMIT {ALL}) AS placed WHERE 1 = 1")
        return query.put(_fit(asked)).add(f"{NEWEST} LIMIT %s", limit).run()
    for name, value in asked.form.items():
        query.add(f"AND s.{name} = %s", value)
    query.put(_fit(asked)).put(_before(place)).add(f"{NEWEST} LIMIT %s) AS found {NEWEST}", limit)
    return query.run()


def _walk(asked: Conditions, place: Place | None, limit: int, *, among: int) -> list[tuple[Any, ...]]:
    query = Sql(f"SELECT id FROM (SELECT {SAMPLE} FROM oversight_sample s")  # noqa: S608 - constants
    query.add("WHERE s.experiment_id = %s", asked.experiment.pk)
    if asked.status:
        query.add("AND s.status = %s", asked.status)
    query.put(_before(place)).add(f"{NEWEST} LIMIT %s) AS newest WHERE 1 = 1", among)
    return query.put(_fit(asked)).add(f"{NEWEST} LIMIT %s", limit).run()


def _fit(asked: Conditions) -> Sql:
    """The filters that a sample carries itself."""
    query = Sql()
    for name, value in (asked.cell | asked.form).items():
        query.add(f"AND {name} = %s", value)
    if not asked.any_status:
        query.add(f"AND status IN ({', '.join(['%s'] * len(asked.statuses))})", *asked.statuses)
    return query


def _pick_of_cells(asked: Conditions, place: Place | None, limit: int) -> list[tuple[Any, ...]]:
    first = Sql("FROM oversight_sample s WHERE").add(SAME_CELL).add("AND s.status = v.status").put(_before(place))
    first.add("ORDER BY s.created_at DESC, s.id DESC LIMIT 1")
    states = " UNION ALL ".join(["SELECT %s AS status"] * len(asked.statuses))
    heads = Sql("WITH heads AS MATERIALIZED (SELECT c.round_id, c.kind, c.category, c.principle, c.flag_reason,")
    heads.add("v.status, (SELECT s.created_at").put(first).add(") AS at, (SELECT s.id").put(first).add(") AS head")
    heads.add(f"FROM oversight_cell c CROSS JOIN ({states}) AS v WHERE c.round_id IN", *asked.statuses)
    heads.add("(SELECT id FROM oversight_round WHERE experiment_id = %s)", asked.experiment.pk)
    for name, value in asked.cell.items():
        heads.add(f"AND c.{name} = %s", value)
    heads.add(") SELECT round_id, kind, category, principle, flag_reason, status FROM heads")
    cells = heads.add("WHERE head IS NOT NULL ORDER BY at DESC, head DESC LIMIT %s", limit).run()
    if not cells:
        return []
    query = Sql("SELECT id FROM (")
    for number, cell in enumerate(cells):
        arm = Sql("UNION ALL" if number else "").add("SELECT * FROM (SELECT s.created_at, s.id FROM oversight_sample s")
        arm.add("WHERE").add(" AND ".join(f"s.{name} = %s" for name in (*CELL, "status")), *cell).put(_before(place))
        query.put(arm.add(f"{NEWEST} LIMIT %s) AS part{number}", limit))
    return query.add(f") AS parts {NEWEST} LIMIT %s", limit).run()
