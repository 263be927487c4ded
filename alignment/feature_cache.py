"""Hidden-state features kept on disk by content, so that the shipped exemplars are read by a model once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from alignment.language_model import Features, LanguageModel, middle_layers
from alignment.records import Sample
from alignment.rundir import RunDir


def cached_features(
    model: LanguageModel, prompts: list[str], responses: list[str], *, layers: tuple[int, ...], folder: Path | None
) -> list[Features]:
    """As `LanguageModel.features`, without sentence means, through `folder` (None: no cache).

    The key is the SHA-256 of the model's name, its dtype, the layers and all texts; a damaged file is made anew.
    """
    if folder is None:
        return model.features(prompts, responses, layers=layers)
    name = Path(model.name).name
    content = "\x00".join([name, str(model.model.dtype), str(layers), *prompts, "\x01", *responses])
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"
    try:
        with np.load(path, allow_pickle=False) as saved:
            means, lasts = saved["mean"], saved["last"]
    except (OSError, ValueError, KeyError):
        found = model.features(prompts, responses, layers=layers)
        means = np.stack([f.mean_KD for f in found]).astype(np.float16)
        lasts = np.stack([f.last_prompt_KD for f in found]).astype(np.float16)
        _write(path, means, lasts)
    none = np.zeros((0, *means.shape[1:]), dtype=np.float32)
    return [
        Features(mean.astype(np.float32), last.astype(np.float32), [], none)
        for mean, last in zip(means, lasts, strict=True)
    ]


def _write(path: Path, means: np.ndarray, lasts: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, mean=means, last=lasts)
        os.replace(temporary, path)
    except OSError:
        # A cache that cannot be written costs time, not the round.
        temporary.unlink(missing_ok=True)


def cache_folder(model_name: str) -> Path | None:
    """OVERSIGHT_FEATURE_CACHE, else beside a local model's files, else none (a Hub id's folder is not ours)."""
    named = os.environ.get("OVERSIGHT_FEATURE_CACHE")
    if named:
        return Path(named)
    folder = Path(model_name)
    return folder / "features" if folder.is_dir() else None


def save_chunk(path: Path, ids: list[str], features: list[Features]) -> None:
    """Keeps a chunk's features beside its samples, so that learn need not read the answers again."""
    means = np.stack([f.mean_KD for f in features]).astype(np.float16)
    lasts = np.stack([f.last_prompt_KD for f in features]).astype(np.float16)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        np.savez(file, mean=means, last=lasts, ids=np.array(ids))
    os.replace(temporary, path)


def read_features(run: RunDir, reader: LanguageModel, samples: list[Sample]) -> dict[str, Features]:
    """By response id, from the files of propose; what is missing there is read anew. Competence answers need none."""
    found: dict[str, Features] = {}
    for path in sorted(run.propose.glob("features-*.npz")):
        with np.load(path, allow_pickle=False) as saved:
            means, lasts = saved["mean"].astype(np.float32), saved["last"].astype(np.float32)
            for i, key in enumerate(saved["ids"].tolist()):
                found[key] = Features(means[i], lasts[i], [], means[:0])
    asked = [(s.query["text"], r) for s in samples if s.query["kind"] != "competence" for r in s.responses]
    missing = [(q, r) for q, r in asked if r["id"] not in found]
    if missing:
        anew = reader.features(
            [q for q, _ in missing], [r["text"] for _, r in missing], layers=middle_layers(reader.layers)
        )
        found |= {r["id"]: f for (_, r), f in zip(missing, anew, strict=True)}
    return found
