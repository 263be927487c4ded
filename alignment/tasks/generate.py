"""Tasks of one level and one split, the families in turn."""

from __future__ import annotations

import random
from collections.abc import Callable

from alignment.tasks import arithmetic, formats, reasoning
from alignment.tasks.task import Split, Task, split_of

LEVELS = (1, 2, 3, 4, 5)
FAMILIES: dict[str, Callable[[random.Random, int], Task]] = {
    "arithmetic": arithmetic.make,
    "format": formats.make,
    "reasoning": reasoning.make,
}
TRIES = 2000  # draws without a new task, after which a family counts as used up


def generate(seed: int, level: int, n: int, split: Split, *, fewer: bool = False) -> list[Task]:
    """n tasks with distinct keys, deterministic in all arguments; n = 0 gives an empty list. With `fewer` as many as
    there are, where there are not n; else a ValueError then.

    A family with no task left (format at level 1 holds about 40 for training) leaves its turn to the others.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level}; levels are 1 to {LEVELS[-1]}")
    if split not in ("train", "probe"):
        raise ValueError(f"split is {split!r}; use 'train' or 'probe'")
    rng = random.Random(f"{seed} {level} {split}")  # a string seeds the same on every platform
    tasks: list[Task] = []
    used: set[str] = set()
    open_families = list(FAMILIES)
    while len(tasks) < n:
        if not open_families:
            if fewer:
                break
            raise ValueError(f"only {len(tasks)} tasks of level {level} exist in {split}, {n} were asked for")
        for family in list(open_families):
            if len(tasks) == n:
                break
            task = _new_task(rng, family, level, split, used)
            if task is None:
                open_families.remove(family)
            else:
                used.add(task.key)
                tasks.append(task)
    return tasks


def _new_task(rng: random.Random, family: str, level: int, split: Split, used: set[str]) -> Task | None:
    for _ in range(TRIES):
        task = FAMILIES[family](rng, level)
        if split_of(task.key) == split and task.key not in used:
            return task
    return None
