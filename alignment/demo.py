"""Whole rounds without a server: propose, simulated experts, learn; then the numbers before and after."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from alignment.config import RoundConfig, profile_defaults
from alignment.judge import fit_judge
from alignment.language_model import LanguageModel
from alignment.learn import learn, load_samples
from alignment.propose import load_learner, propose
from alignment.records import GateResult, Label, Metric, PoolItem
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.schedule import POLICIES
from alignment.seed_files import shipped_principles, shipped_seeds
from alignment.simulate import simulate_labels

SHOWN = ("attack_success", "attack_success_rule", "over_refusal", "separation", "competence", "hypervolume")


def run_demo(
    *, profile: str, rounds: int, out: Path, learner: str = "", seed: int = 0, say: Callable[[str], None] = print
) -> list[list[Metric]]:
    """Runs `rounds` rounds under `out` and returns each round's metrics. Finished rounds are not run again."""
    if profile != "tiny" and not learner:
        raise ValueError(f"the {profile} profile needs a model: --learner FOLDER (make demo names the converted one)")
    adapter: Path | None = None
    objective: str | None = None
    pool: list[PoolItem] = []
    table = []
    for number in range(1, rounds + 1):
        run = RunDir(out / f"round-{number}")
        settings = profile_defaults(profile)
        objective = POLICIES["alternating"].next_objective(objective)
        if learner:
            settings["learner"] = learner
        config = RoundConfig(
            round_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"oversight-demo-{seed}-{number}")),
            **{
                **settings, "number": number, "seed": seed, "objective": objective,
                "learner_adapter": "inputs/adapter" if adapter else "",
            },
        )  # fmt: skip
        run.create(config)
        write_rows(run.inputs / "principles.jsonl", shipped_principles())
        write_rows(run.inputs / "seeds.jsonl", shipped_seeds())
        write_rows(run.inputs / "pool.jsonl", pool)
        if adapter and not (run.inputs / "adapter").exists():
            shutil.copytree(adapter, run.inputs / "adapter")
        started = time.time()
        say(f"round {number} ({config.objective}): propose")
        propose(run)
        labels_path = run.inputs / "labels.jsonl"
        if not labels_path.exists():
            write_rows(labels_path, _judge(config, run, seed=seed + number))
        proposed = time.time()
        say(f"round {number}: {proposed - started:.0f} s; learn")
        learn(run)
        say(f"round {number}: {time.time() - proposed:.0f} s")
        gate = read_rows(run.learn / "gate.json", GateResult)[0]
        metrics = read_rows(run.learn / "metrics.jsonl", Metric)
        _print_round(number, metrics, gate, say)
        table.append(metrics)
        if gate.accepted:
            adapter = run.learn / "adapter"
        pool += pool_of(run, number)
    return table


def _judge(config: RoundConfig, run: RunDir, *, seed: int) -> list[Label]:
    model = load_learner(replace(config, learner_adapter=""), run)
    if not isinstance(model, LanguageModel):
        raise ValueError("the demo needs a local learner: its simulated experts read hidden states")
    return simulate_labels(load_samples(run), model, fit_judge(model), seed=seed)


def pool_of(run: RunDir, number: int) -> list[PoolItem]:
    """The round's labelled answers, as the next rounds' critic and replay take them."""
    labels = {label.query: label for label in read_rows(run.inputs / "labels.jsonl", Label)}
    return [
        PoolItem(
            prompt=s.query["text"], response=r["text"], violates=label.violates[r["id"]], kind=s.query["kind"],
            category=s.query["category"], principle=next(iter(label.principles), s.query["principle"]),
            audit=label.audit, round=number, propensity=s.propensity if s.flag else 0.0,
        )
        for s in load_samples(run)
        if (label := labels.get(s.query["id"]))
        for r in s.responses
        if r["id"] in label.violates
    ]  # fmt: skip


def _print_round(number: int, metrics: list[Metric], gate: GateResult, say: Callable[[str], None]) -> None:
    say(f"\nround {number}              before                     after")
    for name in SHOWN:
        cells = []
        for model in ("old", "new"):
            found = next((m for m in metrics if m.name == name and m.model == model and m.group == ""), None)
            cells.append(_cell(found))
        say(f"{name:<20} {cells[0]:<26} {cells[1]}")
    for line in gate.reasons:
        say(f"  {line}")
    say("")


def _cell(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return metric.reason if metric else "not measured"
    low = "" if metric.ci_low is None else f" [{metric.ci_low:.2f}, {metric.ci_high:.2f}]"
    return f"{metric.value:.3f}{low} n={metric.n}"
