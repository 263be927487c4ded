"""Answers a file of prompts with a base model or a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from alignment.endpoint import load_generator
from alignment.rundir import write_text


def respond(
    *,
    model: str,
    adapter: str,
    prompts: Path,
    out: Path,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    dtype: str,
) -> None:
    """Writes the rows of `prompts` to `out`, each with `response`, `tokens` and `finish` added.

    `model` may itself be an adapter folder: its base model is then read from adapter_config.json.
    """
    rows = _read_prompts(prompts)
    own_config = Path(model) / "adapter_config.json"
    if own_config.exists() and not adapter:
        adapter, model = model, str(json.loads(own_config.read_text())["base_model_name_or_path"])
    generator = load_generator(model, adapter=adapter, dtype=dtype)
    answers = generator.generate(
        [row["prompt"] for row in rows], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    lines = []
    for row, own in zip(rows, answers, strict=True):
        added = {"response": own[0].text, "tokens": own[0].tokens, "finish": own[0].finish}
        lines.append(json.dumps({**row, **added}, ensure_ascii=False))
    write_text(out, "".join(line + "\n" for line in lines))


def _read_prompts(path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
            raise ValueError(f'{path}, line {number}: needs a non-empty text "prompt"')
        rows.append(row)
    if not rows:
        raise ValueError(f'{path} holds no prompts; write one {{"prompt": ...}} a line')
    return rows
