"""Hidden-state features kept on disk by content, so that the shipped exemplars are read by a model once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from alignment.language_model import Features, LanguageModel


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
