"""Readings of answers kept by content: what a model has read once it does not read again.

A cache is one SQLite file beside the model (or OVERSIGHT_FEATURE_CACHE); a row's key is the SHA-256 of the model's
name, its dtype, the layers, the prompt and the response. A cache that cannot be used costs time, not the round.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from alignment.language_model import LanguageModel, critic_layers
from alignment.readings import Reading, read_answer
from alignment.records import Sample
from alignment.rundir import RunDir

log = logging.getLogger(__name__)
FORMAT = 2  # part of the key: raise it where a reading changes its meaning
TABLE = "CREATE TABLE IF NOT EXISTS readings (key BLOB PRIMARY KEY, reading BLOB NOT NULL) WITHOUT ROWID"
PARTS = ("mean_RKD", "peak_RPD", "words_RW")


def cached_readings(
    model: LanguageModel,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    layers: tuple[int, ...] | None = None,
    folder: Path | None = None,
) -> list[Reading]:
    """One Reading an answer, in order, from `folder` where it is there (None: no cache). `layers`: the critic's."""
    layers = layers or critic_layers(model.layers)
    asked = list(zip(prompts, responses, strict=True))
    keys = [_key(model, layers, *answer) for answer in asked]
    known = _load(folder, set(keys)) if folder else {}
    missing = [i for i, key in enumerate(keys) if key not in known]
    if missing:
        read = model.features([asked[i][0] for i in missing], [asked[i][1] for i in missing], layers=layers)
        made = {keys[i]: _halved(read_answer(features)) for i, features in zip(missing, read, strict=True)}
        known |= made
        if folder:
            _store(folder, made)
    return [known[key] for key in keys]


def cache_folder(model_name: str) -> Path | None:
    """OVERSIGHT_FEATURE_CACHE, else beside a local model's files, else none (a Hub id's folder is not ours)."""
    named = os.environ.get("OVERSIGHT_FEATURE_CACHE")
    if named:
        return Path(named)
    folder = Path(model_name)
    return folder / "features" if folder.is_dir() else None


def save_chunk(path: Path, ids: list[str], readings: list[Reading]) -> None:
    """Keeps a chunk's readings beside its samples, so that learn need not read the answers again."""
    from safetensors.numpy import save

    named = zip(ids, map(_halved, readings), strict=True)
    tensors = {f"{key}/{part}": getattr(reading, part) for key, reading in named for part in PARTS}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(save(tensors))
    os.replace(temporary, path)


def read_chunks(run: RunDir, reader: LanguageModel, samples: list[Sample]) -> dict[str, Reading]:
    """By response id, from the files of propose; what is missing there is read anew. Competence answers need none."""
    from safetensors.numpy import load_file

    found: dict[str, Reading] = {}
    for path in sorted(run.propose.glob("features-*.safetensors")):
        tensors = load_file(path)
        for key in {name.rsplit("/", 1)[0] for name in tensors}:
            found[key] = Reading(*(tensors[f"{key}/{part}"] for part in PARTS))
    asked = [(s.query["text"], r) for s in samples if s.query["kind"] != "competence" for r in s.responses]
    missing = [(q, r) for q, r in asked if r["id"] not in found]
    anew = cached_readings(reader, [q for q, _ in missing], [r["text"] for _, r in missing])
    return found | {r["id"]: reading for (_, r), reading in zip(missing, anew, strict=True)}


def _key(model: LanguageModel, layers: tuple[int, ...], prompt: str, response: str) -> bytes:
    content = [str(FORMAT), Path(model.name).name, str(model.model.dtype), str(layers), prompt, response]
    return hashlib.sha256("\x00".join(f"{len(part)}:{part}" for part in content).encode("utf-8", "replace")).digest()


def _halved(reading: Reading) -> Reading:
    limit = float(np.finfo(np.float16).max)
    return Reading(*(np.clip(getattr(reading, part), -limit, limit).astype(np.float16) for part in PARTS))


def _load(folder: Path, keys: set[bytes]) -> dict[bytes, Reading]:
    from safetensors.numpy import load

    path = folder / "readings.sqlite3"
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            one = "SELECT key, reading FROM readings WHERE key = ?"
            rows = [connection.execute(one, (key,)).fetchone() for key in keys]
        return {key: Reading(*(load(value)[part] for part in PARTS)) for key, value in filter(None, rows)}
    except Exception as error:  # noqa: BLE001 - a damaged cache is read around, whatever is wrong with it
        log.warning("the feature cache %s cannot be read (%s); answers are read anew", path, error)
        return {}


def _store(folder: Path, made: dict[bytes, Reading]) -> None:
    from safetensors.numpy import save

    path = folder / "readings.sqlite3"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(TABLE)
            rows = [(key, save({part: getattr(r, part) for part in PARTS})) for key, r in made.items()]
            connection.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?)", rows)
    except (OSError, sqlite3.Error) as error:
        log.warning("the feature cache %s cannot be written: %s", path, error)
