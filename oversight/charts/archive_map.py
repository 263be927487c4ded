"""The archive as a map: risk category by attack style, each cell with how often its attacks succeed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from alignment.metrics.rates import wilson
from alignment.operators import PLAIN, SEED, STYLES
from oversight.selectors.archive import Place, Tally
from oversight.selectors.metrics import percent


@dataclass(frozen=True)
class MapCell:
    category: str
    operator: str
    tally: Tally
    words: str  # the cell in a sentence, for who can't see it and as its title
    link: str  # query string of the samples it opens, "" for an empty cell
    step: int | None  # 0 to 9, the tenth of the share that succeeded; None where empty or kept back

    @property
    def share(self) -> float | None:
        return self.tally.succeeded / self.tally.attacks if self.tally.attacks else None


@dataclass(frozen=True)
class ArchiveMap:
    operators: list[str]
    rows: list[tuple[str, list[MapCell]]]  # category and its cells, one an operator
    levels: list[int]
    level: int | None  # the one shown; None for all
    total: Tally
    summary: str
    shown: bool  # False where success is kept back from who looks

    @property
    def filled(self) -> int:
        return sum(cell.tally.attacks > 0 for _, cells in self.rows for cell in cells)

    @property
    def cells(self) -> int:
        return len(self.rows) * len(self.operators)


def build_map(
    tallies: Mapping[Place, Tally], *, categories: list[str], number: int, level: int | None, shown: bool
) -> ArchiveMap:
    """`categories` are those of the constitution; others that attacks have are added. `number` is the round's.

    The step of a cell is floor(10 x the share that succeeded): unknown attacks stay in the denominator, so it is the
    lowest that the share can be. The interval runs from Wilson's lower end of that share to the upper end of the
    share with every unknown attack a success (ours).
    """
    levels = sorted({place[2] for place in tallies})
    level = level if level in levels else None
    chosen = {place: tally for place, tally in tallies.items() if level is None or place[2] == level}
    known = [SEED if style == PLAIN else style for style in STYLES]
    operators = [*known, *sorted({place[1] for place in tallies} - set(known))]
    rows = []
    for category in [*categories, *sorted({place[0] for place in tallies} - set(categories))]:
        cells = []
        for operator in operators:
            found = [t for (c, o, _), t in chosen.items() if (c, o) == (category, operator)]
            cells.append(_cell(category, operator, sum(found, Tally()), number, level, shown))
        rows.append((category, cells))
    total = sum(chosen.values(), Tally())
    return ArchiveMap(operators, rows, levels, level, total, _summarise(rows, total, shown), shown)


def _cell(category: str, operator: str, tally: Tally, number: int, level: int | None, shown: bool) -> MapCell:
    name = _name(category, operator)
    if not tally.attacks:
        return MapCell(category, operator, tally, f"{name}: not tried", "", None)
    wanted = {"round": number, "kind": "unsafe", "category": category, "operator": operator}
    link = urlencode(wanted if level is None else {**wanted, "level": level})
    attacks = f"{tally.attacks} attack{'' if tally.attacks == 1 else 's'}"
    if not shown:
        return MapCell(category, operator, tally, f"{name}: {attacks}", link, None)
    step = min(9, 10 * tally.succeeded // tally.attacks)
    return MapCell(category, operator, tally, f"{name}: {describe_tally(tally)}", link, step)


def _name(category: str, operator: str) -> str:
    return f"{category.replace('_', ' ')}, {operator.replace('_', ' ')}"


def describe_tally(tally: Tally) -> str:
    """3 of 7 succeed, 43% (95% interval 16% to 75%); at most 5 of 7 where 2 are unknown."""
    low = wilson(tally.succeeded, tally.attacks).low
    high = wilson(tally.succeeded + tally.unknown, tally.attacks).high
    share = percent(tally.succeeded / tally.attacks)
    words = f"{tally.succeeded} of {tally.attacks} succeed, {share} (95% interval {percent(low)} to {percent(high)})"
    if tally.unknown:
        most = tally.succeeded + tally.unknown
        words += f"; {tally.unknown} could not be judged, so at most {most} of {tally.attacks}"
    return words


def _summarise(rows: list[tuple[str, list[MapCell]]], total: Tally, shown: bool) -> str:
    if not total.attacks:
        return "No attack of this level." if rows else "No attack yet."
    if not shown:
        return f"{total.attacks} attacks."
    tried = [cell for _, cells in rows for cell in cells if cell.tally.attacks]
    most = max(tried, key=lambda cell: (cell.share or 0, cell.tally.attacks))
    where = (
        f" Highest: {most.words.split(':')[0]}, {percent(most.share)} of {most.tally.attacks}." if most.share else ""
    )
    return f"Of all: {describe_tally(total)}.{where}"
