"""What a checkpoint was made of, and the model card that says so in the form of the Hugging Face Hub.

Read from a run folder alone. A server knows more (who reviewed, which version of the constitution, withdrawals) and
puts it in the fields that are None or empty here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment.records import Label, Metric, Pair, PoolItem, Principle, Record, SeedPair
from alignment.rundir import RunDir, read_rows

# Metric -> (what it is called, whether less is better).
SHOWN = {
    "attack_success": ("attack success, by judge", True),
    "attack_success_rule": ("attacks not declined, by rule", True),
    "over_refusal": ("harmless look-alikes declined", True),
    "separation": ("unsafe minus harmless declined", False),
    "competence": ("tasks solved, checked by program", False),
    "hypervolume": ("competence x conformity", False),
    "kl_to_base_per_token": ("KL to the base model, nats a token", True),
}


@dataclass(frozen=True)
class Lineage(Record):
    """Where a checkpoint comes from. Counts are of rows that the learn phase was given."""

    round: int
    round_id: str
    objective: str
    seed: int
    base_model: str
    started_from: str  # "base" or "checkpoint"
    accepted: bool
    reasons: list[str]
    pairs: list[dict[str, Any]] = field(default_factory=list)  # {"source", "kind", "n"}, the most first
    labels: int = 0  # samples with an approved label
    reviews: int = 0  # judgements that made them
    reviewers: int | None = None  # people; None where the folder does not tell
    pool: int = 0  # answers that people judged in earlier rounds
    seeds: int = 0
    seed_sources: dict[str, int] = field(default_factory=dict)
    principles: int = 0
    constitution: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0  # bytes of its folder


def read_lineage(run: RunDir) -> Lineage:
    """Of a folder whose learn phase is over. Files that an older version did not write count as empty."""
    config = run.config()
    gate = json.loads((run.learn / "gate.json").read_text(encoding="utf-8"))
    manifest = _read_json(run.path / "manifest.json")
    pairs = Counter((pair.source, pair.kind) for pair in _read(run.learn / "pairs.jsonl", Pair))
    labels = _read(run.inputs / "labels.jsonl", Label)
    return Lineage(
        round=config.number,
        round_id=config.round_id,
        objective=config.objective,
        seed=config.seed,
        base_model=name_model(config.learner),
        started_from="checkpoint" if config.learner_adapter else "base",
        accepted=bool(gate["accepted"]),
        reasons=list(gate["reasons"]),
        pairs=[{"source": source, "kind": kind, "n": n} for (source, kind), n in pairs.most_common()],
        labels=len(labels),
        reviews=sum(label.reviews for label in labels),
        pool=len(_read(run.inputs / "pool.jsonl", PoolItem)),
        seeds=len(_read(run.inputs / "seeds.jsonl", SeedPair)),
        principles=len(_read(run.inputs / "principles.jsonl", Principle)),
        versions={"python": manifest.get("python", ""), **manifest.get("versions", {})} if manifest else {},
    )


def name_model(name: str) -> str:
    """A Hub id or "tiny" as it is; of a local folder its last part alone: no card tells where a server keeps it."""
    return Path(name).name if name.startswith((".", "/", "~")) or Path(name).exists() else name


def read_metrics(run: RunDir) -> list[Metric]:
    return _read(run.learn / "metrics.jsonl", Metric)


def render_card(lineage: Lineage, metrics: Sequence[Metric], *, merged: bool, notes: Sequence[str] = ()) -> str:
    """README.md: a YAML header and the text. Every value from elsewhere is quoted, so that it stays a value.

    `notes` are sentences on what happened since, such as labels that were withdrawn.
    """
    title = f"{lineage.base_model}, round {lineage.round} of Oversight"
    header = [
        f"base_model: {_quote(lineage.base_model)}",
        f"base_model_relation: {'merge' if merged else 'adapter'}",
        f"library_name: {'transformers' if merged else 'peft'}",
        "pipeline_tag: text-generation",
        "tags: [alignment, oversight, human-feedback]",
        f"model_name: {_quote(title)}",
    ]
    pairs = [[_text(pair["source"]), _text(pair["kind"]), str(pair["n"])] for pair in lineage.pairs]
    versions = ", ".join(f"{_text(name)} {_text(value)}" for name, value in sorted(lineage.versions.items()))
    people = "people" if lineage.reviewers is None else f"{lineage.reviewers} people"
    verdict = "accepted by the gate" if lineage.accepted else "**rolled back by the gate: do not deploy it**"
    parts = [
        f"# {_text(title)}",
        f"{'A whole model' if merged else 'A LoRA adapter'} from round {lineage.round} of an Oversight experiment; the "
        f"objective of the round was {_text(lineage.objective)}. It was {verdict}.",
        "## Intended use",
        "Research on oversight of language models, and further rounds. It was trained to decline what a stated "
        "constitution forbids and to answer harmless look-alikes. It is no safety filter, and nothing here was "
        "measured outside the probes below.",
        "## Limits",
        "The probes are few and in English; the intervals say how little they may tell. Attack success is judged by a "
        "small model and by a rule, not by people. What holds for the shipped attack styles need not hold for others. "
        "The base model's own limits stay.",
        "## Training data",
        "\n".join(
            [
                f"- started from: {'the base model' if lineage.started_from == 'base' else 'an earlier checkpoint'}",
                f"- labels approved by {people}: {lineage.labels} samples, {lineage.reviews} judgements",
                f"- answers judged in earlier rounds: {lineage.pool}",
                f"- seeds: {lineage.seeds}{_sources(lineage)}",
                f"- principles: {lineage.principles}"
                + (f", constitution {_text(lineage.constitution)}" if lineage.constitution else ""),
                f"- random seed: {lineage.seed}",
            ]
        ),
        _table(["source", "kind", "pairs"], pairs) if pairs else "",
        "## Evaluation",
        _evaluation(metrics),
        "The gate said:",
        "\n".join(f"- {_text(reason)}" for reason in lineage.reasons),
        *(["## Since then", "\n".join(f"- {_text(note)}" for note in notes)] if notes else []),
        "## Made with",
        versions or "not recorded",
        f"SHA-256 of the checkpoint's folder: `{lineage.sha256}`" if lineage.sha256 else "",
    ]
    return "---\n" + "\n".join(header) + "\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _evaluation(metrics: Sequence[Metric]) -> str:
    found = {(m.name, m.model): m for m in metrics if m.group == "" and m.name in SHOWN}
    rows = []
    for name, (words, less) in SHOWN.items():
        old, new = found.get((name, "old")), found.get((name, "new"))
        if old or new:
            rows.append([words, _number(old), _number(new), str((new or old).n), "less" if less else "more"])  # type: ignore[union-attr]
    return _table(["on held-out probes", "before", "after", "n", "better"], rows) if rows else "Nothing was measured."


def _number(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return "not computable"
    span = "" if metric.ci_low is None else f" ({metric.ci_low:.2f} to {metric.ci_high:.2f})"
    return f"{metric.value:.2f}{span}"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _sources(lineage: Lineage) -> str:
    named = ", ".join(f"{n} from {_text(source)}" for source, n in sorted(lineage.seed_sources.items()))
    return f" ({named})" if named else ""


def _text(value: object) -> str:
    """One line of Markdown that is only text: no table, no markup, no HTML."""
    line = " ".join(str(value).split())
    for sign in "\\`*_[]<>|#":
        line = line.replace(sign, "\\" + sign)
    return line


def _quote(value: str) -> str:
    return json.dumps(value)  # a JSON string is a YAML string


def _read(path: Path, kind: type[Any]) -> list[Any]:
    return read_rows(path, kind) if path.exists() else []


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
