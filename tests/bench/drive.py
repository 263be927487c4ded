"""Reviewers at work over HTTP: each reads a page, thinks, sends the form, and gets the next sample in the answer."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise

from tests.bench.client import Answer, Connection, Page, read_page

REPEATED = 0.01  # share of submits that leave twice at the same moment, as by a double click
# What people say, with the shares summed up. "violates" contradicts the first, so some samples end in a dispute.
ACTIONS = (("approve", 0.7), ("prefer_a", 0.82), ("violates", 0.95), ("skip", 1.0))


@dataclass(frozen=True)
class Holding:
    """A sample in somebody's page, from the arrival of the answer that brought it to the start of the submit."""

    sample: str
    fence: int
    who: str
    since: float
    until: float


@dataclass
class Log:
    """What the reviewers saw. Times of submits in milliseconds, from the first byte sent to the last received."""

    milliseconds: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)  # of submits that the server took
    holdings: list[Holding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    repeated: int = 0
    client_seconds: float = 0.0  # processor time of this client

    @property
    def rate(self) -> float:
        """Submits a second."""
        return len(self.keys) / (self.ended - self.began) if self.ended > self.began else 0.0


class Budget:
    """So many submits in all, whoever makes them."""

    def __init__(self, submits: int) -> None:
        self.left = submits

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


class Reviewer:
    """One person in one browser. `ahead`: as the page's script works, which shows the sample it fetched before."""

    def __init__(self, port: int, name: str, session: str, log: Log, *, ahead: bool = False) -> None:
        self.name, self.log, self.ahead = name, log, ahead
        self.connection = Connection("127.0.0.1", port, session)
        self.second = Connection("127.0.0.1", port, session)
        self.random = random.Random(name)
        self.page: Page | None = None
        self.next: Page | None = None
        self.since: dict[tuple[str, int], float] = {}

    async def open(self) -> None:
        answer = await self.connection.get("/review/")
        if answer.status != 200:
            self.log.errors.append(f"{self.name}: /review/ answers {answer.status}")
            self.page = None
            return
        self.page = self.note(read_page(answer.body))
        if self.ahead:
            answer = await self.connection.get("/review/ahead/", htmx=True)
            self.next = self.note(read_page(answer.body)) if answer.status == 200 else None

    def note(self, page: Page | None) -> Page | None:
        """Remembers when a sample arrived."""
        if page is not None:
            self.since.setdefault((page.sample, page.fence), time.perf_counter())
        return page

    async def work(self, budget: Budget, *, think: float = 0.0) -> None:
        """Judges until the budget or the queue is empty. `think` is the mean of the pause before a submit, seconds."""
        if think:
            await asyncio.sleep(self.random.random() * think)  # people don't start together
        while self.page is not None and budget.take():
            if think:
                await asyncio.sleep(self.random.expovariate(1 / think))
            await self.judge()
        self.connection.close()
        self.second.close()

    async def judge(self) -> float:
        """One submit; returns its milliseconds."""
        page = self.page
        assert page is not None
        form = {**page.fields, "seconds": "12", **self.say(page)}
        if self.ahead and self.next is not None:
            form["shown"] = self.next.fields["token"]
        began = time.perf_counter()
        arrived = self.since.pop((page.sample, page.fence), began)
        self.log.holdings.append(Holding(page.sample, page.fence, self.name, arrived, began))
        answer = await self.send(page.action, form)
        took = 1000 * (time.perf_counter() - began)
        if answer is None:
            self.page, self.next = None, None
            return took
        self.log.milliseconds.append(took)
        if answer.status == 200:
            self.log.keys.append(form["key"])
        else:
            self.log.errors.append(f"{self.name}: {answer.status} {answer.body[:200]}")
        following = self.note(read_page(answer.body)) if answer.body.lstrip().startswith("<") else None
        if "shown" in form:
            self.page, self.next = self.next, following
        else:
            self.page = following
        if self.page is None:
            await self.open()
        return took

    def say(self, page: Page) -> dict[str, str]:
        draw = self.random.random()
        action = next(name for name, upto in ACTIONS if draw < upto)
        if action == "prefer_a" and not page.pair:
            action = "approve"
        return {"action": action, **({"mark": "0"} if action == "violates" else {})}

    async def send(self, path: str, form: dict[str, str]) -> Answer | None:
        """The answer, after one more try with the same key where the connection broke, as the page does it."""
        if self.random.random() < REPEATED:
            self.log.repeated += 1
            self.second.cookies.update(self.connection.cookies)
            sent = await asyncio.gather(
                self.connection.post(path, form), self.second.post(path, form), return_exceptions=True
            )
            for answer in sent:
                if isinstance(answer, BaseException):
                    self.log.errors.append(f"{self.name}: {answer!r}")
                elif answer.status != 200:
                    self.log.errors.append(f"{self.name}, sent twice: {answer.status} {answer.body[:200]}")
            return next((answer for answer in sent if isinstance(answer, Answer)), None)
        for _ in range(2):
            try:
                return await self.connection.post(path, form)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.log.errors.append(f"{self.name}: {error!r}")
        return None


async def drive_crowd(
    port: int, sessions: dict[str, str], submits: int, *, think: float, ahead: bool, progress: str = ""
) -> Log:
    """All of `sessions` at once, until `submits` are made."""
    log, budget = Log(), Budget(submits)
    people = [Reviewer(port, name, session, log, ahead=ahead) for name, session in sessions.items()]
    for person in people:
        await person.open()
    if all(person.page is None for person in people):
        raise RuntimeError(f"nobody was given a sample: {log.errors[:3] or 'the queue is empty'}")
    processor = time.process_time()
    log.began = time.perf_counter()
    teller = asyncio.create_task(_tell(log, submits, progress)) if progress else None
    await asyncio.gather(*(person.work(budget, think=think) for person in people))
    log.ended = time.perf_counter()
    log.client_seconds = time.process_time() - processor
    if teller is not None:
        teller.cancel()
    return log


async def _tell(log: Log, submits: int, words: str) -> None:
    while True:
        await asyncio.sleep(15)
        print(f"  {words}: {len(log.keys)} of {submits} submits, {len(log.errors)} errors", flush=True)


def find_double_holdings(holdings: list[Holding]) -> list[str]:
    """Samples that two people had in their pages at the same moment, or under one fence."""
    found = []
    owners: dict[tuple[str, int], str] = {}
    by_sample: dict[str, list[Holding]] = {}
    for holding in holdings:
        other = owners.setdefault((holding.sample, holding.fence), holding.who)
        if other != holding.who:
            found.append(f"{holding.sample}: {other} and {holding.who} under fence {holding.fence}")
        by_sample.setdefault(holding.sample, []).append(holding)
    for sample, held in by_sample.items():
        held.sort(key=lambda holding: holding.since)
        for first, second in pairwise(held):
            if second.who != first.who and second.since < first.until:
                found.append(f"{sample}: {first.who} and {second.who} at once")
    return found
