"""Sums: small additions at level 1, two steps of long multiplication at level 5."""

from __future__ import annotations

import random

from alignment.tasks.task import Task

_WORDINGS = ("What is {0}?", "What does {0} equal?", "What is the result of {0}?")


def make(rng: random.Random, level: int) -> Task:
    """A sum of the level. The order of the operands of + and x does not make another task."""
    sign, numbers, text, value = _LEVELS[level](rng)
    key = f"arithmetic {sign} {' '.join(map(str, numbers))}"
    prompt = rng.choice(_WORDINGS).format(text)
    return Task(prompt, str(value), "number", level, "arithmetic", key, [str(n) for n in numbers])


_Sum = tuple[str, list[int], str, int]


def _add(rng: random.Random, low: int, high: int) -> _Sum:
    a, b = rng.randint(low, high), rng.randint(low, high)
    return "+", sorted((a, b)), f"{a} + {b}", a + b


def _subtract(rng: random.Random, low: int, high: int) -> _Sum:
    b, a = sorted(rng.sample(range(low, high + 1), 2))
    return "-", [a, b], f"{a} - {b}", a - b


def _times(rng: random.Random, a: int, b: int) -> _Sum:
    return "x", sorted((a, b)), f"{a} x {b}", a * b


def _level_1(rng: random.Random) -> _Sum:
    return _add(rng, 1, 12)


def _level_2(rng: random.Random) -> _Sum:
    kind = rng.randrange(3)
    if kind == 0:
        return _times(rng, rng.randint(2, 9), rng.randint(2, 9))
    return _subtract(rng, 1, 20) if kind == 1 else _times(rng, 10, rng.randint(2, 40))


def _level_3(rng: random.Random) -> _Sum:
    return _add(rng, 13, 80) if rng.random() < 0.5 else _subtract(rng, 11, 80)


def _level_4(rng: random.Random) -> _Sum:
    kind = rng.randrange(3)
    if kind == 0:
        return _add(rng, 120, 900)
    return _subtract(rng, 120, 900) if kind == 1 else _times(rng, rng.randint(3, 9), rng.randint(12, 99))


def _level_5(rng: random.Random) -> _Sum:
    a, b, c, d = (rng.randint(12, 99) for _ in range(4))
    kind = rng.randrange(3)
    if kind == 0:
        return _times(rng, a, b)
    if kind == 1:
        first, second = sorted((a, b))
        return "(+)x", [first, second, c % 9 + 2], f"({first} + {second}) x {c % 9 + 2}", (a + b) * (c % 9 + 2)
    return "xx-", [a, b, c, d], f"{a} x {b} - {c} x {d}", a * b - c * d


_LEVELS = {1: _level_1, 2: _level_2, 3: _level_3, 4: _level_4, 5: _level_5}
