"""Does the text contain the right answer? Deterministic, no model; prose around the answer is fine where the
task does not forbid it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from alignment.tasks.task import Task

_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
# Not the start of a longer sum: in "the total is 7 + 5 = 12" the 7 is not stated as the answer.
_WHOLE = rf"((?>{_NUMBER}))(?!\s*[-+*/x×=]\s*\d)"
_STATED = re.compile(rf"(?:answer|result|total|sum|product|difference)\s*(?:is|are|=|:)+\s*\W{{0,4}}?{_WHOLE}", re.I)
_EQUALS = re.compile(rf"=\s*[$(]{{0,2}}{_WHOLE}")
_STATED_WORDS = re.compile(r"(?:answer|result)\s*(?:is|:)+\s*(.{1,40})", re.I | re.S)


def check(task: dict[str, Any], text: str) -> bool:
    """Whether `text` answers the task (a `Task` as JSON). Empty text is wrong.

    number: the last number stated as the answer, else the last after "=", else the last that the prompt does
    not itself name, else the last; a number that the end of the text may have cut is passed over where
    there is another. choice: the same order for words. mentions: the word anywhere, in any case, as long as
    there is more than the word. word: nothing but the word. contains: the answer as it is written. numbered:
    the asked number of numbered lines. count: the asked number of comma-separated entries. json: an equal
    object.
    """
    row = Task.from_json(task)
    plain = text.strip()
    if not plain:
        return False
    if row.checker == "number":
        return _same_number(_last_number(plain, row.given), row.answer)
    if row.checker == "choice":
        return _choice(plain, row) == row.answer.lower()
    if row.checker == "mentions":
        return re.search(rf"\b{row.answer}\b", plain, re.I) is not None and len(plain.split()) >= 3
    if row.checker == "numbered":
        lines = _first_list(plain)
        return len(lines) == int(row.answer) == len({line.strip().lower() for line in lines})
    if row.checker == "word":
        return _bare(plain) == row.answer.lower()
    if row.checker == "contains":
        return re.search(rf"(?<![\w-]){re.escape(row.answer)}(?![\w-])", plain) is not None
    if row.checker == "count":
        return _is_list(plain, int(row.answer))
    return _object(plain) == json.loads(row.answer)


def _last_number(text: str, given: list[str]) -> str | None:
    text = re.sub(r"(?<=\d)[\u2212\u2013](?=\d)", "-", text.replace("*" * 2, "").replace("\\", ""))
    for rule in (_STATED, _EQUALS):
        found = list(rule.finditer(text))
        if found:
            return _uncut([(m.group(1), m.end(1)) for m in found], text)
    # In "12-5" the number is 5, not -5.
    numbers = list(re.finditer(rf"(?<![\w.])(?:{_NUMBER})", text))
    fresh = [m for m in numbers if not any(_same_number(m.group(), g) for g in given)]
    return _uncut([(m.group(), m.end()) for m in fresh or numbers], text)


def _uncut(found: list[tuple[str, int]], text: str) -> str | None:
    """The last of (number, end), or the one before where the last touches the end of a longer text."""
    if not found:
        return None
    if len(found) > 1 and found[-1][1] == len(text):
        return found[-2][0] if found[-1][0] != found[-2][0] and len(text) > 60 else found[-1][0]
    return found[-1][0]


def _same_number(found: str | None, answer: str) -> bool:
    if found is None:
        return False
    return float(found.replace(",", "").rstrip(".")) == float(answer)


def _choice(text: str, task: Task) -> str | None:
    """The option that the text settles on, lower case."""
    options = [o.lower() for o in task.options]
    given = {g.lower() for g in task.given}

    def named(part: str) -> list[str]:
        return re.findall(rf"\b(?:{'|'.join(map(re.escape, options))})\b", part.lower())

    for stated in reversed(_STATED_WORDS.findall(text)):
        if named(stated):
            return named(stated)[0]
    found = named(text)
    fresh = [o for o in found if o not in given]
    if fresh:
        return fresh[-1]
    # All options are given ("Who is older, Ann or Ben?"): the first one named is what the text says of them.
    return found[0] if found and set(options) <= given else None


def _bare(text: str) -> str:
    return " ".join(text.lower().strip("\"'`*.,!?()[]:; \n").split())


def _first_list(text: str) -> list[str]:
    """The entries of the first numbered list; small models often begin it a second time."""
    entries: list[str] = []
    for number, entry in re.findall(r"^\s*(\d+)[.)]\s+(.+)$", text, re.M):
        if int(number) != len(entries) + 1:
            break
        entries.append(entry)
    return entries


def _is_list(text: str, entries: int) -> bool:
    line = max(text.splitlines(), key=lambda row: row.count(","))
    line = line.rsplit(":", 1)[-1].strip(" .\"'`*")
    items = [re.sub(r"^and\s+", "", item.strip().lower()) for item in line.split(",")]
    return len(items) == entries and len(set(items)) == entries and all(0 < len(i.split()) <= 3 for i in items)


def _object(text: str) -> object:
    """The first JSON object or array in the text, or None."""
    decoder = json.JSONDecoder()
    for start in (m.start() for m in re.finditer(r"[{\[]", text)):
        try:
            return decoder.raw_decode(text, start)[0]
        except json.JSONDecodeError:
            continue
    return None
