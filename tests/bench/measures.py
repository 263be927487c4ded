"""One function a line of the table: each drives filled servers and returns rows with target and outcome."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from tests.bench.browser import find_chromium, measure_browser
from tests.bench.client import Connection
from tests.bench.drive import Log, Reviewer, drive_crowd, find_double_holdings
from tests.bench.pages import list_pages
from tests.bench.server import Server

SUBMIT_MS = 15.0
GROWTH = 1.5
CROWD_MS = 150.0
LIST_MS = 300.0
SMALL = 50_000  # samples
BROWSER_MS = 50.0


@dataclass(frozen=True)
class Row:
    """A line of the table. `met` None: nothing is asked of it. `must`: a promise about data, not about time."""

    measure: str
    target: str
    measured: str
    met: bool | None
    must: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)
    load: float | None = None  # of the machine, a minute before: above 1 somebody else was at work


def summarise(milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile (nearest rank) of at least one time, in milliseconds."""
    ordered = sorted(milliseconds)
    return {
        "n": len(ordered),
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[max(0, -(-95 * len(ordered) // 100) - 1)], 2),
        "max": round(ordered[-1], 2),
    }


def words_of(figures: dict[str, float]) -> str:
    return f"median {figures['median']:.1f} ms, p95 {figures['p95']:.1f} ms (n {figures['n']})"


# --- One reviewer -----------------------------------------------------------------------------------


def measure_alone(servers: list[Server], submits: int, warm_up: int) -> list[Row]:
    """One reviewer on each server, a submit on one after the other, so that what else the machine does hits all.

    The first `warm_up` submits are not counted.
    """
    rows, errors, database = [], [], servers[0].database
    for ahead in (False, True):
        way = ", as the page's script sends it" if ahead else ""
        used = [server.count_seconds() for server in servers]
        logs = asyncio.run(_alternate(servers, submits + warm_up, ahead=ahead))
        medians = []
        for server, log, before in zip(servers, logs, used, strict=True):
            processor = 1000 * (server.count_seconds() - before) / len(log.milliseconds)
            times = log.milliseconds[warm_up:]
            found = summarise(times)
            asked = server.samples == 100_000 and database == "sqlite"
            rows.append(
                Row(
                    f"submit and next{way}, 1 reviewer, {server.samples:,} samples, {database}",
                    f"median {SUBMIT_MS:.0f} ms" if asked else "",
                    f"{words_of(found)}; the web process works {processor:.1f} ms",
                    found["median"] <= SUBMIT_MS if asked else None,
                    numbers=found | {"processor_ms": processor, "milliseconds": times},
                )
            )
            medians.append(found["median"])
            errors += log.errors
        if len(servers) > 1:
            sizes, ratio = f"{servers[0].samples:,} to {servers[-1].samples:,}", medians[-1] / medians[0]
            title = f"growth{way}, {sizes} samples, {database}"
            rows.append(Row(title, f"at most {GROWTH} times", f"{ratio:.2f} times", ratio <= GROWTH))
    words = " ".join([str(len(errors)), *errors[:2]])
    return [*rows, Row(f"1 reviewer, {database}: errors", "0", words, not errors, must=True)]


async def _alternate(servers: list[Server], submits: int, *, ahead: bool) -> list[Log]:
    people = []
    for server in servers:
        name = f"reviewer-{int(ahead):02}"
        person = Reviewer(server.port, name, server.sessions[name], Log(), ahead=ahead)
        await person.open()
        people.append(person)
    for _ in range(submits):
        for person in people:
            if person.page is not None:
                await person.judge()
    return [person.log for person in people]


# --- Many at once -----------------------------------------------------------------------------------


def measure_crowd(server: Server, people: int, submits: int, *, think: float) -> list[Row]:
    """`people` at once; afterwards the database is asked whether anything was lost or counted twice."""
    names = [name for name in server.sessions if name.startswith("reviewer-")][2 : 2 + people]
    names += [name for name in server.sessions if name.startswith("reviewer-")][: people - len(names)]
    sessions = {name: server.sessions[name] for name in names}
    pace = f"pauses of {think:g} s on average" if think else "no pause"
    title = f"{people} reviewers, {server.database}, {server.samples:,} samples, {pace}"
    server.read_errors()
    log = asyncio.run(drive_crowd(server.port, sessions, submits, think=think, ahead=True, progress=title))
    found = summarise(log.milliseconds)
    double = find_double_holdings(log.holdings)
    checked = server.run("tests.bench.inside", "verify", stdin=json.dumps(log.keys))
    logged = server.read_errors()
    numbers = found | {
        "submits": len(log.keys), "sent_twice": log.repeated, "errors": log.errors[:20], "submits_a_second": log.rate,
        "client_ms_a_submit": 1000 * log.client_seconds / max(1, len(log.keys)), "held_twice": double[:20],
        "server_errors": logged[:20], "verified": checked,
    }  # fmt: skip
    broken = [*double, *checked["lost"], *checked["counted_twice"]]
    whole = not broken and not checked["leases_held_twice"] and checked["audit_chain"] == "whole"
    complaints = [*log.errors, *logged]
    return [
        Row(
            f"{title}: time of a submit",
            f"p95 under {CROWD_MS:.0f} ms" if think else "",
            f"{words_of(found)}, {log.rate:.0f} a second, client {numbers['client_ms_a_submit']:.1f} ms",
            found["p95"] < CROWD_MS if think else None,
            numbers=numbers,
        ),
        Row(
            f"{title}: held twice, lost, counted twice",
            "0, 0, 0",
            f"{len(double)}, {len(checked['lost'])}, {len(checked['counted_twice'])} of {len(log.keys):,}"
            f" ({log.repeated} sent twice), audit chain {checked['audit_chain']}",
            whole, must=True,
        ),
        Row(
            f"{title}: errors", "0", " ".join([str(len(complaints)), *(text[:200] for text in complaints[:2])]),
            not complaints, must=True,
        ),
    ]  # fmt: skip


# --- The rest ---------------------------------------------------------------------------------------


def measure_lists(server: Server, repeats: int = 3) -> list[Row]:
    """`/samples/` with every filter, as a lead sees it: the slowest of `repeats` visits of the slowest page."""
    pages = list_pages()
    times = asyncio.run(_visit(server, pages, repeats))
    plans = server.run("tests.bench.inside", "plans", "lead", stdin=json.dumps(pages))
    worst = max(times, key=lambda page: max(times[page]))
    scans = {page: found for page, found in plans.items() if found}
    first = next(iter(scans), "")
    medians = summarise([statistics.median(found) for found in times.values()])
    title = f"/samples/, {len(pages)} filters and searches, {server.samples:,} samples, {server.database}"
    return [
        Row(
            title, f"under {LIST_MS:.0f} ms",
            f"slowest {max(times[worst]):.0f} ms ({worst}), median page {medians['median']:.0f} ms",
            max(times[worst]) < LIST_MS, numbers={"milliseconds": times},
        ),
        Row(
            f"{title}: plans", "no full scan",
            "no full scan" if not scans else f"{len(scans)} pages scan, {first}: {scans[first][0]}",
            # A planner rightly reads a small table from end to end.
            not scans if server.samples >= SMALL else None, numbers={"scans": scans},
        ),
    ]  # fmt: skip


async def _visit(server: Server, pages: list[str], repeats: int) -> dict[str, list[float]]:
    connection = Connection("127.0.0.1", server.port, server.sessions["lead"])
    times: dict[str, list[float]] = {}
    for page in ["/samples/", *pages]:  # the first visit loads templates and is not counted
        found = []
        for _ in range(repeats):
            began = time.perf_counter()
            answer = await connection.get(page)
            found.append(1000 * (time.perf_counter() - began))
            if answer.status != 200:
                raise RuntimeError(f"{page} answers {answer.status}: {answer.body[:300]}")
        times[page] = [round(took, 2) for took in found]
    return times


def measure_queries(server: Server, submits: int = 40) -> list[Row]:
    """Queries of a submit, and what their plans read."""
    found = server.run("tests.bench.inside", "queries", "reviewer-03", str(submits))
    words = f"{found['median']}" + (f", up to {found['most']}" if found["most"] > found["median"] else "")
    bad = [line for lines in found["plans"].values() for line in lines]
    title = f"submit with the next sample, {server.samples:,} samples, {server.database}"
    return [
        Row(f"{title}: queries", "a fixed number", words, None, numbers=found),
        Row(
            f"{title}: plans, also with fresh statistics", "no full scan, no sort of the queue",
            "as asked" if not bad else f"{len(bad)}: {bad[0]}", not bad if server.samples >= SMALL else None,
        ),
    ]  # fmt: skip


def measure_painted(server: Server) -> list[Row]:
    title = f"key to next sample painted, Chromium, {server.samples:,} samples, {server.database}"
    target = f"median under {BROWSER_MS:.0f} ms"
    if find_chromium() is None:
        return [Row(title, target, "not measured: no Chromium here", None)]
    found = measure_browser(server.port, server.sessions["reviewer-04"])
    if not found["milliseconds"]:
        return [Row(title, target, f"not measured: {'; '.join(found['complaints'])}", False, numbers=found)]
    figures = summarise(found["milliseconds"])
    met = figures["median"] < BROWSER_MS and not found["complaints"]
    words = "; ".join([words_of(figures), *found["complaints"][:1]])
    return [Row(title, target, words, met, numbers=found | figures)]


def measure_client(server: Server, requests: int = 300) -> list[Row]:
    """What a request costs that asks the server for nothing: the floor under all times here."""
    times = asyncio.run(_ping(server, requests))
    title = f"an empty page (/health/live), {server.database}: the floor of all times"
    return [Row(title, "", words_of(summarise(times)), None, numbers=summarise(times))]


async def _ping(server: Server, requests: int) -> list[float]:
    connection = Connection("127.0.0.1", server.port, server.sessions["lead"])
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        await connection.get("/health/live")
        times.append(1000 * (time.perf_counter() - began))
    return times
