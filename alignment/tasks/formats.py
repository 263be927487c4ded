"""Following an instruction on form to the letter: a word to use at level 1, a computed JSON object at level 5."""

from __future__ import annotations

import json
import random

from alignment.tasks.task import Task
from alignment.tasks.topics import SENTENCES, TOPICS

WORDS = [
    "yes",
    "no",
    "maybe",
    "river",
    "apple",
    "stone",
    "cloud",
    "green",
    "window",
    "garden",
    "table",
    "pencil",
    "summer",
    "bridge",
    "orange",
    "silver",
    "candle",
    "forest",
    "paper",
    "rabbit",
    "island",
    "butter",
    "kettle",
    "ladder",
    "mirror",
    "needle",
    "pillow",
    "rocket",
    "saddle",
    "teapot",
    "violin",
    "walnut",
    "yellow",
    "zebra",
    "anchor",
    "basket",
    "carpet",
    "dragon",
    "engine",
    "feather",
    "guitar",
    "hammer",
    "jacket",
    "kitten",
    "lemon",
    "magnet",
    "napkin",
    "ocean",
    "parrot",
    "queen",
    "ribbon",
    "spoon",
    "tiger",
    "umbrella",
    "valley",
    "wagon",
    "acorn",
    "button",
    "copper",
    "desert",
]
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def make(rng: random.Random, level: int) -> Task:
    """An instruction of the level; the words it is about decide which task it is."""
    return _LEVELS[level](rng)


def _level_1(rng: random.Random) -> Task:
    word = rng.choice(WORDS)
    wording = rng.choice(("Write a sentence with the word {}.", "Use the word {} in a short sentence."))
    worked = rng.choice(SENTENCES).format(word)
    return Task(wording.format(word), word, "mentions", 1, "format", f"format sentence {word}", worked=worked)


def _level_2(rng: random.Random) -> Task:
    if rng.random() < 0.5:
        word = rng.choice(WORDS)
        wording = rng.choice(("Write the word {} in capital letters.", "Put this word in upper case: {}"))
        return Task(wording.format(word), word.upper(), "contains", 2, "format", f"format capitals {word}")
    topic, entries = _entries(rng)
    prompt = f"Write a numbered list of {_COUNTS[len(entries)]} {topic}, names only."
    worked = "\n".join(f"{i}. {entry}" for i, entry in enumerate(entries, 1))
    key = f"format numbered {topic} {len(entries)}"
    return Task(prompt, str(len(entries)), "numbered", 2, "format", key, worked=worked)


def _level_3(rng: random.Random) -> Task:
    if rng.random() < 0.5:
        word = rng.choice(WORDS)
        wording = rng.choice(("Reply with only the word {}.", "Say the word {} and nothing else."))
        return Task(wording.format(word), word, "word", 3, "format", f"format word {word}")
    topic, entries = _entries(rng)
    prompt = f"Name exactly {_COUNTS[len(entries)]} {topic}, separated by commas."
    key = f"format list {topic} {len(entries)}"
    return Task(prompt, str(len(entries)), "count", 3, "format", key, worked=", ".join(entries))


def _entries(rng: random.Random) -> tuple[str, list[str]]:
    """A topic, and as many entries of it as are asked for."""
    topic, count = rng.choice(sorted(TOPICS)), rng.choice(sorted(_COUNTS))
    return topic, rng.sample(TOPICS[topic], count)


def _level_4(rng: random.Random) -> Task:
    words = rng.sample(WORDS, 3)
    prompt = f"Write these words in reverse order, joined by hyphens: {', '.join(words)}"
    return Task(prompt, "-".join(reversed(words)), "contains", 4, "format", f"format reverse {' '.join(words)}")


def _level_5(rng: random.Random) -> Task:
    words = rng.sample(WORDS, 3)
    prompt = (
        f"Reply with a JSON object whose keys are the words {words[0]}, {words[1]} and {words[2]}, "
        "and whose values are the numbers of letters in each."
    )
    answer = json.dumps({word: len(word) for word in sorted(words)})
    return Task(prompt, answer, "json", 5, "format", f"format json {' '.join(sorted(words))}")


_LEVELS = {1: _level_1, 2: _level_2, 3: _level_3, 4: _level_4, 5: _level_5}
