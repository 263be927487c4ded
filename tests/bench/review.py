"""`make bench-review`: the figures of the workbench, on databases of several sizes, through the real server.

`python -m tests.bench.review --quick` takes two minutes; everything takes about an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.bench import measures
from tests.bench.measures import Row
from tests.bench.report import broke_promise, format_table, write_report
from tests.bench.server import Server, postgres_answers

SIZES = (1_000, 100_000, 1_000_000)
CROWDS = {"postgresql": 50, "sqlite": 8}  # reviewers at once
CROWD_SIZE = 100_000  # samples where many work at once


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.review", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="samples, in rising order")
    parser.add_argument("--databases", default="", help="sqlite,postgresql; without it all that answer")
    parser.add_argument("--submits", type=int, default=20_000, help="of the crowd on PostgreSQL; a tenth on SQLite")
    parser.add_argument("--alone", type=int, default=300, help="submits of the one reviewer")
    parser.add_argument("--warm-up", type=int, default=30, help="submits before these, not counted")
    parser.add_argument("--think", type=float, default=2.0, help="mean pause of a person in a crowd, seconds")
    parser.add_argument("--only", default="", help="alone,crowd,lists,queries,browser")
    parser.add_argument("--folder", default="", help="where the databases lie; a temporary folder without it")
    parser.add_argument("--reuse", action="store_true", help="take the databases that --keep left in --folder")
    parser.add_argument("--keep", action="store_true", help="leave the databases in --folder")
    parser.add_argument("--out", default="", help="the JSON; var/bench/review.json without it")
    parser.add_argument("--quick", action="store_true", help="one size, few submits: does it work at all?")
    options = parser.parse_args(arguments)
    options.sizes = sorted(int(size) for size in options.sizes.split(","))
    if options.quick:
        options.sizes, options.submits, options.alone, options.think = [2_000], 1_000, 60, 0.2
    options.only = [name for name in options.only.split(",") if name] or [
        "alone",
        "crowd",
        "lists",
        "queries",
        "browser",
    ]
    options.databases = options.databases.split(",") if options.databases else list_databases()
    return options


def list_databases() -> list[str]:
    if postgres_answers():
        return ["sqlite", "postgresql"]
    say("PostgreSQL does not answer (BENCH_POSTGRES_URL names another): its lines are left out")
    return ["sqlite"]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def measure_database(database: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    servers = [Server(folder, database, size) for size in options.sizes]
    for server in servers:
        server.filled = server.find_filled() if options.reuse else server.fill()
        say(f"{database}: {server.samples:,} samples filled in {server.filled['seconds']} s")
    at = next((server for server in servers if server.samples >= CROWD_SIZE), servers[-1])
    rows: list[Row] = []

    def take(name: str, measure: Callable[[], list[Row]]) -> None:
        if name not in options.only:
            return
        began, load = time.monotonic(), os.getloadavg()[0]
        found = [replace(row, load=round(load, 2)) for row in measure()]
        rows.extend(found)
        for row in found:
            say(f"{row.measure}: {row.measured}")
        say(f"({name} took {time.monotonic() - began:.0f} s)")

    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
            server.sessions = server.run("tests.bench.inside", "sessions")
        take("alone", lambda: measures.measure_client(servers[0]))
        take("alone", lambda: measures.measure_alone(servers, options.alone, options.warm_up))
        for server in servers:
            if server not in (at, servers[-1]):
                server.__exit__()
        take("queries", lambda: measures.measure_queries(at))
        take("browser", lambda: measures.measure_painted(at))
        take("lists", lambda: measures.measure_lists(servers[-1]))
        people = CROWDS[database]
        submits = options.submits if database == "postgresql" else options.submits // 10  # fewer people
        take("crowd", lambda: measures.measure_crowd(at, people, submits // 5, think=0.0))
        take("crowd", lambda: measures.measure_crowd(at, people, submits, think=options.think))
    if not options.keep:
        for server in servers:
            server.drop()
    return rows


def main(arguments: list[str] | None = None) -> int:
    options = read_options(arguments)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="oversight-bench-")).absolute()
    out = Path(options.out or "var/bench/review.json")
    rows: list[Row] = []
    try:
        for database in options.databases:
            rows += measure_database(database, options, folder)
            write_report(out, rows, {"options": vars(options)})  # what was measured stays if the next part fails
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{format_table(rows)}\n\nEvery number: {out}")
    return 1 if broke_promise(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
