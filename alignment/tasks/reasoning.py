"""Short reasoning: an opposite or one step at level 1, four steps with a distractor at level 5."""

from __future__ import annotations

import random

from alignment.tasks.task import Task

_NAMES = [
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Ella",
    "Frank",
    "Grace",
    "Hugo",
    "Iris",
    "Jonas",
    "Kira",
    "Leo",
    "Mona",
    "Nils",
    "Olga",
    "Paul",
]
_THINGS = ["apples", "pens", "books", "cards", "shells", "stamps", "marbles", "cookies", "coins", "buttons"]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_OPPOSITES = (
    "hot/cold", "big/small", "up/down", "left/right", "day/night", "fast/slow", "young/old", "happy/sad",
    "light/dark", "open/closed", "full/empty", "wet/dry", "high/low", "hard/soft", "early/late", "long/short",
    "rich/poor", "strong/weak", "thick/thin", "clean/dirty", "loud/quiet", "near/far", "first/last", "inside/outside",
    "push/pull", "win/lose", "buy/sell", "north/south", "east/west", "true/false", "sharp/blunt", "deep/shallow",
    "wide/narrow", "begin/end", "love/hate", "sweet/sour", "summer/winter", "hello/goodbye", "before/after",
    "above/below", "awake/asleep", "rough/smooth", "success/failure",
)  # fmt: skip


def make(rng: random.Random, level: int) -> Task:
    """A question of the level; its numbers and, where they matter, its names decide which task it is."""
    return rng.choice(_LEVELS[level])(rng)


def _opposite(rng: random.Random) -> Task:
    pair = rng.choice(_OPPOSITES).split("/")
    asked, answer = rng.sample(pair, 2)
    prompt = rng.choice(("What is the opposite of {}?", "Which word means the opposite of {}?")).format(asked)
    # One key for both directions, so that no probe is a training task turned round.
    key = f"reasoning opposite {pair[0]} {pair[1]}"
    return Task(prompt, answer, "choice", 1, "reasoning", key, [asked], pair)


def _gets_more(rng: random.Random) -> Task:
    a, b = rng.randint(2, 10), rng.randint(2, 10)
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    prompt = f"{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?"
    return Task(prompt, str(a + b), "number", 1, "reasoning", f"reasoning more {a} {b}", [str(a), str(b)])


def _older(rng: random.Random) -> Task:
    first, second = rng.sample(_NAMES, 2)
    which = rng.choice(("older", "younger"))
    answer = first if which == "older" else second
    prompt = f"{first} is older than {second}. Who is {which}, {first} or {second}?"
    pair = [first, second]
    return Task(prompt, answer, "choice", 2, "reasoning", f"reasoning {which} {first} {second}", pair, pair)


def _gives_away(rng: random.Random) -> Task:
    a = rng.randint(4, 20)
    b = rng.randint(1, a - 1)
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    prompt = f"{name} has {a} {thing} and gives {b} away. How many {thing} are left?"
    return Task(prompt, str(a - b), "number", 2, "reasoning", f"reasoning less {a} {b}", [str(a), str(b)])


def _sequence(rng: random.Random) -> Task:
    start, step = rng.randint(1, 20), rng.randint(2, 9)
    shown = [start + i * step for i in range(4)]
    prompt = f"What number comes next: {', '.join(map(str, shown))}?"
    key = f"reasoning sequence {start} {step}"
    return Task(prompt, str(start + 4 * step), "number", 3, "reasoning", key, [str(n) for n in shown])


def _in_all(rng: random.Random) -> Task:
    boxes, each = rng.randint(2, 9), rng.randint(2, 12)
    thing = rng.choice(_THINGS)
    prompt = f"There are {boxes} boxes with {each} {thing} in each box. How many {thing} are there in all?"
    key = f"reasoning boxes {boxes} {each}"
    return Task(prompt, str(boxes * each), "number", 3, "reasoning", key, [str(boxes), str(each)])


def _boxes(rng: random.Random) -> Task:
    boxes, each = rng.randint(2, 9), rng.randint(3, 12)
    sold = rng.randint(1, boxes * each - 1)
    thing = rng.choice(_THINGS)
    prompt = f"A shop has {boxes} boxes with {each} {thing} in each. It sells {sold} {thing}. How many are left?"
    key = f"reasoning boxes {boxes} {each} {sold}"
    return Task(prompt, str(boxes * each - sold), "number", 4, "reasoning", key, [str(boxes), str(each), str(sold)])


def _weekday(rng: random.Random) -> Task:
    today, days = rng.randrange(7), rng.choice([d for d in range(2, 60) if d % 7])
    prompt = f"Today is {_DAYS[today]}. Which day of the week is it in {days} days?"
    key = f"reasoning weekday {today} {days}"
    answer = _DAYS[(today + days) % 7]
    return Task(prompt, answer, "choice", 4, "reasoning", key, [_DAYS[today]], _DAYS)


def _ordering(rng: random.Random) -> Task:
    names = rng.sample(_NAMES, 4)  # oldest first
    facts = [f"{names[i]} is older than {names[i + 1]}." for i in range(3)]
    rng.shuffle(facts)
    which = rng.choice(("oldest", "second oldest", "youngest"))
    answer = names[{"oldest": 0, "second oldest": 1, "youngest": 3}[which]]
    prompt = f"{' '.join(facts)} Who is the {which}? Reply with the name."
    key = f"reasoning order {which} {' '.join(names)}"
    return Task(prompt, answer, "choice", 5, "reasoning", key, names, names)


def _shopping(rng: random.Random) -> Task:
    a, x, b, y = rng.randint(2, 9), rng.randint(2, 15), rng.randint(2, 9), rng.randint(2, 15)
    paid = (a * x + b * y + 49) // 50 * 50
    prompt = f"{rng.choice(_NAMES)} buys {a} pens at {x} coins each and {b} cups at {y} coins each, "
    prompt += f"and pays with {paid} coins. How many coins come back?"
    key = f"reasoning shopping {a} {x} {b} {y}"
    return Task(prompt, str(paid - a * x - b * y), "number", 5, "reasoning", key, [str(n) for n in (a, x, b, y, paid)])


def _orchard(rng: random.Random) -> Task:
    rows, trees, fruit = rng.randint(4, 15), rng.randint(5, 20), rng.choice((20, 30, 40, 50))
    lost, age = rng.choice((10, 20, 25, 50)), rng.randint(5, 40)
    whole = rows * trees * fruit
    prompt = (
        f"An orchard, {age} years old, has {rows} rows of {trees} trees, and each tree bears {fruit} apples. "
        f"A storm takes {lost} percent of the apples, and half of the rest are sold. How many apples are sold?"
    )
    kept = whole * (100 - lost)
    if kept % 200:
        return _orchard(rng)
    key = f"reasoning orchard {rows} {trees} {fruit} {lost}"
    given = [str(n) for n in (rows, trees, fruit, lost, age)]
    return Task(prompt, str(kept // 200), "number", 5, "reasoning", key, given)


_LEVELS = {
    1: (_opposite, _gets_more),
    2: (_older, _gives_away),
    3: (_sequence, _in_all),
    4: (_boxes, _weekday),
    5: (_ordering, _shopping, _orchard),
}
