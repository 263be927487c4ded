"""Takes a checkpoint out of a run folder: the adapter as it is, or merged into its base model, with a model card.

Merging adds each LoRA product to the weight that it adapts, so the merged model answers as the pair does, up to
rounding in the number format of the base model, in which it is saved.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from alignment.model_card import read_lineage, read_metrics, render_card
from alignment.rundir import RunDir
from alignment.tiny_model import TINY

CARD = "README.md"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
STEPS = ("loading the base model and the adapter", "merging", "saving", "done")
Say = Callable[[int, int, str], None]  # steps done, of how many, what happens now


def export(run: RunDir, out: Path, *, merged: bool, say: Say | None = None, card: str = "") -> None:
    """Writes `out` whole or not at all. `card` stands in for the one that the run folder alone gives.

    Raises ValueError where there is no adapter to export, or where `out` holds something already.
    """
    adapter = run.learn / "adapter"
    missing = [name for name in ADAPTER_FILES if not (adapter / name).exists()]
    if missing:
        raise ValueError(f"{adapter} has no {missing[0]}: the learn phase of this round left no checkpoint to export")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; name a folder that does not exist yet")
    say = say or (lambda done, of, words: None)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    partial.mkdir(parents=True)
    try:
        if merged:
            _merge(run, adapter, partial, say)
        else:
            for name in ADAPTER_FILES:
                shutil.copyfile(adapter / name, partial / name)
        (partial / CARD).write_text(card or make_card(run, merged=merged), encoding="utf-8")
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(len(STEPS) - 1, len(STEPS) - 1, STEPS[-1])


def make_card(run: RunDir, *, merged: bool) -> str:
    """The model card from the run folder alone."""
    digest = hashlib.sha256((run.learn / "adapter" / ADAPTER_FILES[0]).read_bytes()).hexdigest()
    lineage = dataclasses.replace(read_lineage(run), sha256="")
    note = f"SHA-256 of {ADAPTER_FILES[0]}: {digest}"
    return render_card(lineage, read_metrics(run), merged=merged, notes=[note])


def _merge(run: RunDir, adapter: Path, out: Path, say: Say) -> None:
    from alignment.language_model import LanguageModel

    config, total = run.config(), len(STEPS) - 1
    say(0, total, STEPS[0])
    loaded = LanguageModel.load(config.learner, adapter=adapter, dtype=_stored_dtype(config.learner), device="cpu")
    say(1, total, STEPS[1])
    model = loaded.model.merge_and_unload(safe_merge=True)  # refuses weights that are not finite
    say(2, total, STEPS[2])
    model.save_pretrained(out, safe_serialization=True)
    loaded.tokenizer.save_pretrained(out)


def _stored_dtype(name: str) -> str:
    """The number format that the base model is kept in, by torch's name."""
    if name == TINY:
        return "float32"
    from transformers import AutoConfig

    dtype = getattr(AutoConfig.from_pretrained(name, trust_remote_code=False), "dtype", None)
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")
