"""Fills an empty database as ten rounds of one experiment leave it: nine done, the last one waiting for people.

`python -m tests.bench.fill SAMPLES` fills the database that the settings name; minutes for a million samples.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np

ROUNDS = 10
REVIEWERS = 50
CHUNK = 5_000  # samples in memory at once
FLAGGED = 0.1  # of a finished round
REASONS = ("violation", "uncertainty", "disagreement", "diversity", "audit")
WORDS = {
    "violation": "the critic says that it violates a principle", "uncertainty": "the critic is unsure",
    "disagreement": "the critics disagree", "diversity": "unlike what people have seen",
    "audit": "drawn at random, to check the critic",
}  # fmt: skip
OPERATORS = ("seed", "persona", "rephrase", "story", "split")
STYLES = ("question", "request", "story")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Shape:
    """How many samples of what kind a database of `samples` holds."""

    samples: int
    queued: int = field(init=False)  # wait in the last round
    last: int = field(init=False)  # samples of the last round
    decided: int = field(init=False)  # of the last round, decided already

    def __post_init__(self) -> None:
        # 20,000 submits and those of the other measurements must fit; a small database gives most of itself.
        queued = max(26_000, self.samples // 20) if self.samples >= 60_000 else self.samples * 3 // 4
        decided = max(5, queued // 20)
        object.__setattr__(self, "queued", queued)
        object.__setattr__(self, "decided", decided)
        object.__setattr__(self, "last", max(queued + queued // 8, self.samples // ROUNDS))

    def sizes(self) -> list[int]:
        """Samples of each round, the last one last."""
        rest, others = self.samples - self.last, ROUNDS - 1
        return [rest // others + (number < rest % others) for number in range(others)] + [self.last]


def fill(samples: int, *, seed: int = 0) -> dict[str, Any]:
    """Writes everything into the empty, migrated default database; returns what it made. Deterministic in its texts."""
    from oversight import search
    from tests.bench.rows import bulk_load

    began, shape = time.monotonic(), Shape(samples)
    setup = make_setup(shape)
    with bulk_load():
        filler = Filler(setup, shape, seed)
        for number in range(ROUNDS):
            filler.fill_round(number)
        filler.finish()
    search.tidy_index()  # as the product does after a round
    return {
        "samples": samples, "queued": shape.queued, "reviews": filler.made,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


@dataclass(frozen=True)
class Setup:
    experiment: Any
    rounds: list[Any]
    reviewers: list[Any]
    principles: list[Any]


def make_setup(shape: Shape) -> Setup:
    """People, the shipped constitution and the rounds: few rows, so by the models themselves."""
    from oversight.models import Checkpoint, Experiment, Role, Round, User
    from oversight.services import people, seeds

    people.invite_user(username="admin", role=Role.OPERATOR, actor="system")
    people.invite_user(username="lead", role=Role.LEAD, actor="system")
    for number in range(REVIEWERS):
        people.invite_user(username=f"reviewer-{number:02}", role=Role.REVIEWER, actor="system")
    constitution = seeds.load_shipped_constitution()
    experiment = Experiment.objects.create(
        name="Benchmark", constitution=constitution, profile="tiny", learner="tiny",
        overlap=2, overlap_share=0.2, gold_share=0.05,
    )  # fmt: skip
    rounds = []
    for number, size in enumerate(shape.sizes()):
        last = number == ROUNDS - 1
        at = datetime.now(UTC) - (ROUNDS - number) * 7 * DAY
        made = Round.objects.create(
            experiment=experiment, number=number + 1, budget=size,
            status=Round.Status.REVIEWING if last else Round.Status.DONE,
            phase=Round.Phase.PROPOSE if last else Round.Phase.LEARN,
            started_at=at, queued_at=at, first_flag_at=at, proposed_at=at + DAY,
            finished_at=None if last else at + 6 * DAY,
        )  # fmt: skip
        Round.objects.filter(pk=made.pk).update(created_at=at)
        made.created_at = at
        rounds.append(made)
        if not last:
            Checkpoint.objects.create(
                experiment=experiment, round=made, role="learner", path=f"{made.pk}/learn/adapter", sha256="0" * 64,
                verdict=Checkpoint.Verdict.ACCEPTED,
            )  # fmt: skip
    reviewers = list(User.objects.filter(username__startswith="reviewer-").order_by("username"))
    return Setup(experiment, rounds, reviewers, list(constitution.principles.all()))


class Filler:
    def __init__(self, setup: Setup, shape: Shape, seed: int) -> None:
        from oversight.models import Critique, Label, Lease, Query, Review, Sample, SampleText, TrainedOn
        from oversight.models.samples import Cell
        from tests.bench.rows import Rows, store_moment
        from tests.bench.words import Writer

        self.setup, self.shape, self.made = setup, shape, 0
        self.rng, self.writer, self.moment = np.random.default_rng(seed + 1), Writer(seed), store_moment()
        self.earlier: list[str] = []  # queries that later ones were made from
        self.queries = Rows(
            Query, "id", "created_at", "round_id", "text", "kind", "category", "principle", "style", "level",
            "operator", "written_by", "seed_key", "parent_id", "history",
        )  # fmt: skip
        self.samples = Rows(
            Sample, "id", "created_at", "query_id", "round_id", "experiment_id", "kind", "category", "principle",
            "operator", "level", "calls", "responses", "status", "flag_reason", "flag_words", "priority", "propensity",
            "audit", "content_hash", "wanted", "gold",
        )  # fmt: skip
        self.critiques = Rows(
            Critique, "id", "created_at", "sample_id", "response_index", "status", "violation", "uncertainty",
            "disagreement", "principle", "rationale", "span",
        )  # fmt: skip
        self.reviews = Rows(
            Review, "id", "created_at", "sample_id", "reviewer_id", "action", "violations", "seconds", "key"
        )
        self.labels = Rows(Label, "id", "created_at", "sample_id", "violates", "principles", "how", "evidence")
        self.leases = Rows(Lease, "sample_id", "holder_id", "fence", "expires_at")
        self.trained = Rows(TrainedOn, "round_id", "sample_id")
        self.texts = Rows(SampleText, "sample_id", "text")
        self.cells = Rows(Cell, "round_id", "kind", "category", "principle", "flag_reason")
        self.known_cells: set[tuple[str, ...]] = set()

    def fill_round(self, number: int) -> None:
        size, last = self.shape.sizes()[number], number == ROUNDS - 1
        if last:
            statuses = np.full(size, "unflagged", dtype=object)
            statuses[: self.shape.queued] = "queued"
            statuses[self.shape.queued : self.shape.queued + self.shape.decided] = "decided"
        else:
            flagged = ["decided"] * 17 + ["closed"] * 2 + ["skipped"]
            statuses = np.full(size, "unflagged", dtype=object)
            count = max(1, int(size * FLAGGED))
            statuses[:count] = [flagged[i % len(flagged)] for i in range(count)]
        self.rng.shuffle(statuses)
        step = 3 * DAY / max(1, size)
        for start in range(0, size, CHUNK):
            chunk = statuses[start : start + CHUNK].tolist()
            self.fill_chunk(number, chunk, self.setup.rounds[number].created_at + start * step, step)

    def fill_chunk(self, number: int, statuses: list[str], at: datetime, step: timedelta) -> None:
        count, round_id = len(statuses), self.setup.rounds[number].pk.hex
        prompts, answers = self.writer.write(count, 20), self.writer.write(2 * count, 52)
        rationales = self.writer.write(2 * count, 12)
        ids, draws = self.draw_ids(count), self.rng.random((count, 6)).tolist()
        for index, status in enumerate(statuses):
            identifier, draw = next(ids), draws[index]
            principle = self.setup.principles[int(draw[0] * len(self.setup.principles))]
            parent = self.earlier[int(draw[1] * len(self.earlier))] if draw[2] < 0.5 and self.earlier else None
            created = self.moment(at + index * step)
            kind = "competence" if principle.kind == "competence" else "unsafe" if draw[2] < 0.75 else "harmless"
            style, level = STYLES[int(draw[3] * 3)], 1 + int(draw[4] * 5)
            self.queries.add(
                identifier, created, round_id, prompts[index], kind, principle.category, principle.key, style, level,
                OPERATORS[int(draw[5] * 5)], "template", f"{principle.category}-{int(draw[1] * 200)}", parent,
                "[]",
            )  # fmt: skip
            both = answers[2 * index : 2 * index + 2]
            reason = "" if status == "unflagged" else REASONS[int(draw[3] * len(REASONS))]
            self.samples.add(
                identifier, created, identifier, round_id, self.setup.experiment.pk.hex, kind, principle.category,
                principle.key, OPERATORS[int(draw[5] * 5)], level,
                "".join("v" if round(draw[answer], 3) >= 0.5 else "f" for answer in (0, 1)),
                pack_responses(identifier, both), status, reason, WORDS.get(reason, ""),
                round(draw[4], 4) if reason else 0.0, round(0.05 + 0.9 * draw[5], 4), reason == "audit",
                hashlib.sha256("\0".join([prompts[index], *both]).encode()).hexdigest(),
                2 if reason and draw[0] < 0.2 else 1, status == "decided" and draw[1] < 0.02,
            )  # fmt: skip
            for answer in (0, 1):
                self.critiques.add(
                    next(ids), created, identifier, answer, "ok", round(draw[answer], 3), round(draw[2] / 3, 3),
                    round(draw[3] / 2, 3), principle.key, rationales[2 * index + answer], "[0, 20]",
                )  # fmt: skip
            self.index(identifier, (round_id, kind, principle.category, principle.key, reason), prompts[index], both)
            if status == "decided":
                self.decide(identifier, ids, number, principle.key, at + index * step + DAY, draw)
            if draw[5] < 0.02 and len(self.earlier) < 20_000:
                self.earlier.append(identifier)
        self.flush()

    def decide(self, sample: str, ids: Iterator[str], number: int, key: str, at: datetime, draw: list[float]) -> None:
        """What one or two reviewers said of a sample, and its label."""
        people, evidence, violates = 2 if draw[0] < 0.2 else 1, [], draw[0] >= 0.5
        for turn in range(people):
            reviewer = self.setup.reviewers[(int(draw[2] * REVIEWERS) + turn) % REVIEWERS]
            identifier = next(ids)
            evidence.append(str_id(identifier))
            self.reviews.add(
                identifier, self.moment(at + turn * timedelta(minutes=1)), sample, reviewer.pk,
                "violates" if violates else "approve", json.dumps({"0": [key]} if violates else {}),
                round(5 + 60 * draw[3], 1), next(ids),
            )  # fmt: skip
            self.made += 1
        votes = {"0": 1.0 if violates else 0.0, "1": 0.0}
        self.labels.add(
            next(ids), self.moment(at + timedelta(minutes=2)), sample, json.dumps(votes),
            json.dumps([key] if violates else []), "single" if people == 1 else "agreed", json.dumps(evidence),
        )  # fmt: skip
        self.leases.add(sample, None, people, self.moment(at))
        if number < ROUNDS - 1:
            self.trained.add(self.setup.rounds[number].pk.hex, sample)

    def index(self, sample: str, cell: tuple[str, ...], prompt: str, answers: list[str]) -> None:
        """Its row of the search index, with the words as the product takes them."""
        from oversight.search import make_text

        self.known_cells.add(cell)
        names = ("round_id", "kind", "category", "principle", "flag_reason")
        row = SimpleNamespace(
            **dict(zip(names, (UUID(cell[0]), *cell[1:]), strict=True)), experiment_id=self.setup.experiment.pk,
            responses=[{"text": text} for text in answers],
        )  # fmt: skip
        self.texts.add(sample, make_text(row, prompt))  # type: ignore[arg-type]

    def finish(self) -> None:
        for cell in sorted(self.known_cells):
            self.cells.add(*cell)
        self.flush()
        self.cells.flush()

    def draw_ids(self, samples: int) -> Iterator[str]:
        """Random ids in hex, enough for a chunk: a sample, two critiques, and two reviews with keys and a label."""
        raw = self.rng.bytes(16 * 8 * samples).hex()
        return (raw[at : at + 32] for at in range(0, len(raw), 32))

    def flush(self) -> None:
        for rows in (self.queries, self.samples, self.critiques, self.reviews, self.labels, self.leases,
                     self.trained, self.texts):  # fmt: skip
            rows.flush()


def str_id(identifier: str) -> str:
    """A hex id as Python writes a UUID."""
    return "-".join([identifier[:8], identifier[8:12], identifier[12:16], identifier[16:20], identifier[20:]])


def pack_responses(sample: str, texts: list[str]) -> str:
    name = str_id(sample)
    return json.dumps([
        {"id": f"{name}-{index}", "query": name, "index": index, "text": text, "tokens": len(text) // 4,
         "finish": "stop", "model": "tiny"}
        for index, text in enumerate(texts)
    ])  # fmt: skip


def main() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(json.dumps(fill(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
