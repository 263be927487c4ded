"""Seeds and constitutions from files: the ones that ship with the project, and imported ones."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from oversight.models import Constitution, Experiment, Principle, Seed
from oversight.services import audit
from oversight.services.seed_files import Line, read_seed_file

LONGEST_PROMPT = 8000  # characters
SHIPPED = "alignment/seeds"
SHIPPED_CONSTITUTION = "Oversight principles"
BATCH = 2000  # rows an INSERT


@dataclass
class ImportReport:
    added: int = 0
    unchanged: int = 0  # lines that the experiment already holds
    errors: list[str] = field(default_factory=list)  # "file, line 3: why"
    saved: bool = True


def load_shipped_constitution() -> Constitution:
    """The constitution that ships with the project, made once."""
    constitution, made = Constitution.objects.get_or_create(name=SHIPPED_CONSTITUTION, version=1)
    if made:
        names = ("key", "kind", "title", "text", "guidance", "fine", "safe_answers")
        Principle.objects.bulk_create(
            Principle(
                constitution=constitution,
                position=position,
                category=row.get("category") or "",
                **{name: row[name] for name in names if name in row},
            )
            for position, row in enumerate(_rows(_shipped() / "principles.jsonl"))
        )
    return constitution


def load_shipped_seeds(experiment: Experiment) -> int:
    """Adds the prompt pairs that ship with the project; returns how many."""
    rows = [row for path in sorted((_shipped() / "prompts").glob("*.jsonl")) for row in _rows(path)]
    names = ("category", "principle", "style", "level", "unsafe", "harmless")
    Seed.objects.bulk_create(
        Seed(experiment=experiment, key=row["id"], **{name: row[name] for name in names}) for row in rows
    )
    return len(rows)


def _shipped() -> Path:
    return Path(settings.BASE_DIR) / SHIPPED


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


@transaction.atomic
def import_seeds(*, experiment: Experiment, path: Path, actor: str, partial: bool = False) -> ImportReport:
    """Adds the prompts of a file. Where a line is wrong nothing is saved, unless `partial` keeps the rest.

    A line that the experiment already holds under the same key counts as unchanged, so the same file
    may be imported again. Raises UnreadableFile.
    """
    report = ImportReport()
    principles = dict(experiment.constitution.principles.values_list("key", "category"))
    known = dict(experiment.seeds.values_list("key", "unsafe"))
    new: list[Seed] = []
    for line in read_seed_file(path):
        try:
            seed = _seed(line, principles)
            if seed.key in known and known[seed.key] != seed.unsafe:
                raise ValueError(f"id {seed.key} already belongs to another prompt; give this one another")
        except ValueError as error:
            report.errors.append(f"{line.source}, line {line.number}: {error}")
            continue
        if seed.key in known:
            report.unchanged += 1
            continue
        known[seed.key], seed.experiment = seed.unsafe, experiment
        new.append(seed)
    if not (new or report.unchanged or report.errors):
        report.errors.append(f"{path.name}: there is no prompt in it")
    report.saved = partial or not report.errors
    if report.saved and new:
        Seed.objects.bulk_create(new, batch_size=BATCH)
        report.added = len(new)
        target = f"experiment:{experiment.pk}"
        audit.record(actor, "seeds.import", target, file=path.name, added=len(new), left_out=len(report.errors))
    return report


def _seed(line: Line, principles: dict[str, str]) -> Seed:
    """The row for a line, not saved; `principles` maps key to category. ValueError says what is wrong."""
    if line.problem:
        raise ValueError(line.problem)
    values = line.values
    unsafe, harmless = _text(values, "unsafe"), _text(values, "harmless")
    if not unsafe:
        raise ValueError("there is no prompt: the field unsafe (or prompt) is missing or empty")
    category, principle = _text(values, "category", 40), _text(values, "principle", 60)
    if not principle:
        by_category = {name: key for key, name in principles.items() if name}
        if category not in by_category:
            raise ValueError(f"category {category!r} has no principle; known: {', '.join(sorted(by_category))}")
        principle = by_category[category]
    if principle not in principles:
        raise ValueError(f"principle {principle!r} is not in the constitution; known: {', '.join(sorted(principles))}")
    # Without an id the text names the line, so that a second import finds it again.
    key = _text(values, "id", 80) or f"{Path(line.source).stem[:40]}-{hashlib.sha256(unsafe.encode()).hexdigest()[:12]}"
    return Seed(
        key=key,
        category=category or principles[principle],
        principle=principle,
        style=_text(values, "style", 40) or ("question" if unsafe.endswith("?") else "imperative"),
        level=_level(values.get("level", 1)),
        unsafe=unsafe,
        harmless=harmless,
        source=line.source[:200],
    )


def _text(values: dict[str, Any], name: str, longest: int = LONGEST_PROMPT) -> str:
    text = values.get(name) or ""
    if not isinstance(text, str):
        raise ValueError(f"{name} is {text!r:.80}; it must be a text")
    if len(text) > longest:
        raise ValueError(f"{name} has {len(text)} characters; the limit is {longest}")
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"{name} holds a NUL or half a character, which no database takes")
    return text.strip()


def _level(value: Any) -> int:
    if str(value) not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"level is {value!r:.80}; it must be 1 (blunt) to 5 (well disguised)")
    return int(value)
