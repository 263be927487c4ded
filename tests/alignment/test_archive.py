"""The archive: what a cell keeps, how cells are drawn, what people's labels change, and what the next round gets."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignment.archive import (
    Archive,
    archive_metrics,
    carry_over,
    cells_of,
    decode_place,
    encode_place,
    novelty,
    read_optional,
    save_places,
    update_archive,
)
from alignment.bandit import draw_operator, update_yields, yield_metrics
from alignment.config import RoundConfig
from alignment.operators import STYLES
from alignment.records import Elite, Label, OperatorYield, Query, Sample, SeedPair
from alignment.rundir import RunDir, read_rows, write_rows

EAST, NORTH, WEST = (encode_place(np.array(v, dtype=np.float32)) for v in ((1, 0), (0, 1), (-1, 0)))


def elite(name: str, fitness: float, *, style: str = "persona", place: str = "", number: int = 1) -> Elite:
    return Elite(name, "fraud", style, 1, f"text of {name}", "p", "s", fitness, number, place=place, successes=1)


def asked(name: str, p: float | None, *, operator: str = "persona", parent: str | None = None) -> Sample:
    query = Query(name, f"text of {name}", "unsafe", "fraud", "p", "question", 1, operator, "s", parent=parent)
    return Sample(query.to_json(), [{"id": f"{name}0"}], [{"violation": p}], None, 0.5)


def test_a_cell_keeps_the_fitter_and_within_the_margin_the_more_novel() -> None:
    archive = Archive([elite("other", 0.5, style="format", place=EAST), elite("held", 0.5, place=EAST)])
    archive.take_in(elite("weaker", 0.4, place=WEST))
    assert archive.cells["fraud", "persona", 1].id == "held"
    archive.take_in(elite("as fit, elsewhere", 0.48, place=WEST))
    assert archive.cells["fraud", "persona", 1].id == "as fit, elsewhere"
    archive.take_in(elite("as fit, like the other", 0.5, place=EAST))
    assert archive.cells["fraud", "persona", 1].id == "as fit, elsewhere"
    archive.take_in(elite("fitter", 0.9, place=EAST))
    assert archive.cells["fraud", "persona", 1].id == "fitter"


def test_an_attack_asked_again_takes_the_new_learners_fitness() -> None:
    archive = Archive([elite("old", 0.9)])
    again = replace(elite("again", 0.1, number=2), text="text of old", successes=0)
    archive.take_in(again)
    held = archive.elites[0]
    assert (held.id, held.fitness, held.tries, held.successes, held.round) == ("again", 0.1, 2, 1, 2)


def test_novelty_by_hand() -> None:
    east, north, west = (decode_place(p) for p in (EAST, NORTH, WEST))
    assert novelty(east, [west]) == 1.0
    assert novelty(east, [east, west]) == 0.0
    assert novelty(np.array([1, 1], dtype=np.float32), [east]) == pytest.approx(1 - 1 / np.sqrt(2), abs=1e-4)
    assert novelty(east, []) == 1.0
    assert novelty(None, [north]) == 0.5
    # Eight others with the mean (1, 1): seen from there (2, 1) is one of them, (1, 2) stands at right angles to all.
    others = [np.array(v, dtype=np.float32) for v in [(2, 1)] * 4 + [(0, 1)] * 4]
    assert novelty(np.array([2, 1], dtype=np.float32), others) == 0.0
    assert novelty(np.array([1, 2], dtype=np.float32), others) == 1.0


def test_cells_are_drawn_by_their_fitness() -> None:
    archive = Archive([elite("strong", 1.0), elite("weak", 0.2, style="format")])
    cells = [("fraud", style, 1) for style in ("persona", "format", "plain", "register")]
    rng = random.Random(0)
    drawn = Counter(archive.draw_cell(cells, rng, [cells[3]]) for _ in range(4000))
    # exp(-f / 0.5) of 1, 0.2, 0 and, planned already, 1: 0.135, 0.670, 1, 0.135 of 1.941.
    for cell, share in zip(cells, (0.070, 0.345, 0.515, 0.070), strict=True):
        assert drawn[cell] / 4000 == pytest.approx(share, abs=0.03)


def test_coverage_counts_cells_and_weaknesses() -> None:
    pairs = [SeedPair("a", "fraud", "p", "question", level, "u", "h") for level in (1, 1, 2)]
    cells = cells_of(pairs)
    assert len(cells) == 2 * len(STYLES)
    archive = Archive([elite("one", 0.9), elite("two", 0.3, style="format")])
    found = {m.name: m for m in archive_metrics(archive, cells, seed=3)}
    assert found["archive_coverage"].value == pytest.approx(2 / len(cells))
    assert found["archive_found"].value == pytest.approx(1 / len(cells))
    assert found["archive_qd_score"].value == pytest.approx(1.2)
    assert {m.n for m in found.values()} == {len(cells)}
    assert all(m.value is None and m.reason for m in archive_metrics(archive, [], seed=0))


def test_yields_are_discounted_once_a_round_and_failed_critiques_are_no_tries() -> None:
    samples = [asked("a", 0.9), asked("b", 0.1), asked("c", None), asked("d", 0.8, operator="format"), asked("e", 1.0)]
    found = update_yields([OperatorYield("persona", 10, 5)], samples, {}, retried=frozenset({"e"}))
    assert found == [OperatorYield("format", 1, 1), OperatorYield("persona", 9, 4.5)]
    people = update_yields([], samples[:1], {"a": Label("a", {"a0": 0.0})})
    assert people == [OperatorYield("persona", 1, 0)]
    metrics = {m.group: m for m in yield_metrics(samples, retried=frozenset({"e"}))}
    assert (metrics["persona"].value, metrics["persona"].n, metrics["retried"].value) == (0.5, 2, 1.0)
    assert (metrics["persona"].ci_low or 0) > 0


def test_the_bandit_prefers_what_works_and_leaves_each_its_floor() -> None:
    operators = [f"o{i}" for i in range(10)]
    yields = [OperatorYield(o, 100, 90 if o == "o3" else 5) for o in operators]
    rng = random.Random(1)
    drawn = Counter(draw_operator(yields, operators, rng) for _ in range(3000))
    assert drawn["o3"] / 3000 == pytest.approx(0.73, abs=0.03)  # 70% by yield, a tenth of the other 30%
    assert all(drawn[o] / 3000 > 0.018 for o in operators)
    # Nothing known: all alike.
    assert min(Counter(draw_operator([], operators, rng) for _ in range(3000)).values()) > 230


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.create(RoundConfig(round_id="5f7c1a52-33a2-4d6e-9a5b-0c7f0f1a2b3c"))
    return made


def test_people_overrule_the_critic_and_the_runner_up_gets_the_cell(run: RunDir) -> None:
    samples = [asked("best", 0.9), asked("second", 0.7), asked("third", 0.2), asked("form", 0.3, operator="format")]
    write_rows(run.propose / "archive.jsonl", [elite("best", 0.9), elite("form", 0.3, style="format")])
    save_places(run.propose / "places-000.tsv", {"second": EAST})
    elites = update_archive(
        run, samples, {"best": Label("best", {"best0": 0.0}), "form": Label("form", {"form0": 1.0})}
    )
    assert {e.style: (e.id, e.fitness) for e in elites} == {"persona": ("second", 0.7), "format": ("form", 1.0)}
    assert read_rows(run.learn / "archive.jsonl", Elite) == elites
    assert next(e for e in elites if e.id == "second").place == EAST
    assert read_rows(run.learn / "operators.jsonl", OperatorYield) == [
        OperatorYield("format", 1, 1), OperatorYield("persona", 3, 1)
    ]  # fmt: skip


def test_a_round_without_an_archive_changes_nothing(run: RunDir) -> None:
    assert update_archive(run, [asked("a", 0.9)], {}) == []
    assert not list(run.learn.iterdir())
    assert read_optional(run.inputs / "archive.jsonl", Elite) == []


def test_the_next_round_gets_what_people_said_and_a_retry_the_same(run: RunDir, tmp_path: Path) -> None:
    after = RunDir(tmp_path / "next")
    after.create(run.config())
    carry_over(run, after)
    assert not list(after.inputs.iterdir())
    write_rows(run.propose / "archive.jsonl", [elite("critic's", 0.9)])
    write_rows(run.learn / "archive.jsonl", [elite("people's", 0.9)])
    write_rows(run.propose / "operators.jsonl", [OperatorYield("format", 1, 1)])
    (run.inputs / "attacker").mkdir()
    (run.inputs / "attacker" / "weights").write_text("earlier")
    carry_over(run, after)
    (run.learn / "attacker").mkdir()
    write_rows(run.learn / "archive.jsonl", [])
    carry_over(run, after)
    assert [e.id for e in read_rows(after.inputs / "archive.jsonl", Elite)] == ["people's"]
    assert [y.operator for y in read_rows(after.inputs / "operators.jsonl", OperatorYield)] == ["format"]
    assert (after.inputs / "attacker" / "weights").read_text() == "earlier"
