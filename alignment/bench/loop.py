"""`python -m alignment bench loop`: does the loop do what it is for, and does each ingredient earn its place.

Rounds with simulated experts, then attack success, over-refusal, competence and cost against stated targets; with
ablations the same with one ingredient taken away. Everything is kept under the output folder: a killed run goes on.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.bench.loop_ablations import FULL, VARIANTS
from alignment.bench.loop_paired import Sheet
from alignment.bench.loop_plots import draw_plots
from alignment.bench.loop_report import Summary, markdown
from alignment.bench.loop_rows import ablation_rows, mean_states, states, write_raw
from alignment.bench.loop_run import FinalSize, LoopRun, run_variant
from alignment.bench.loop_speed import has_gpu, measure_speeds
from alignment.bench.loop_targets import LEVELS, mean_metric, over_seeds, targets
from alignment.demo import cell
from alignment.kl import PER_ANSWER
from alignment.loop import Examiner, LoopSettings, RoundResult, Say
from alignment.records import Metric
from alignment.rundir import write_text

# Small enough for a test of the way through; its numbers mean nothing.
TINY = {
    "attacks": 12, "lookalikes": 4, "competence": 5, "chunk": 24, "multi_turn": 1, "steering_answers": 1,
    "competence_probes": 1, "probes": 4, "sft_steps": 2, "preference_steps": 1,
}  # fmt: skip
TINY_SIZE = FinalSize(tasks=2, per_style=1)
PRINTED = ("attack_success", "attack_success_rule", "over_refusal", "separation", PER_ANSWER)


def run_loop_bench(
    *, profile: str, rounds: int, reviews: int, seeds: int, learner: str, out: Path, ablations: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None, docs: Path | None = None, command: str = "", say: Say = print,
) -> Summary:  # fmt: skip
    """Runs or resumes everything under `out`, prints the figures as they come, and writes the report.

    `reviews`: samples that simulated experts judge in a round, one of them each. `overrides`: RoundConfig settings.
    `docs`: a folder that gets table, plots and JSON, without texts. ValueError names a bad setting.
    """
    if seeds < 1 or reviews < 0:
        raise ValueError(f"seeds is {seeds} and reviews {reviews}; at least 1 and 0")
    tiny = profile == "tiny"
    # No overlap: a review is one judgement of one person, so that the budget is what people do.
    given = {**(TINY if tiny else {}), "budget": reviews, **(overrides or {})}
    size = TINY_SIZE if tiny else FinalSize()
    runs: list[LoopRun] = []
    for seed in range(seeds):
        settings = LoopSettings(profile, rounds, learner, seed, overrides=given, overlap_share=0.0)
        examiner = Examiner(settings.base_config())
        for name in (FULL, *ablations):
            say(f"\n--- {name}, seed {seed}: {VARIANTS[name].words}")
            total = [0.0]

            def print_round(result: RoundResult, total: list[float] = total) -> None:
                total[0] += result.outcome.minutes
                for line in round_lines(result, total[0]):
                    say(line)

            folder = out / f"seed-{seed}" / name
            runs.append(
                run_variant(
                    VARIANTS[name], settings, folder, examiner=examiner, size=size, say=say, on_round=print_round
                )
            )
            write_raw(runs, out)
    config = settings.base_config()
    speeds = measure_speeds(config, say=say) if profile == "gpu" and has_gpu() else []
    about = {
        "command": command or "python -m alignment bench loop", "date": time.strftime("%Y-%m-%d"), "profile": profile,
        "model": Path(config.learner).name, "dtype": config.dtype, "rounds": rounds, "reviews": reviews,
        "seeds": list(range(seeds)), "machine": _machine(), "overrides": dict(overrides or {}),
        "final_tasks": size.tasks, "final_unsafe": sum(p.kind == "unsafe" for p in runs[0].final[0].probes),
    }  # fmt: skip
    summary = summarise(runs, about)
    summary = Summary(**{**vars(summary), "speeds": speeds})
    write_report(summary, out, docs)
    for line in target_lines(summary):
        say(line)
    say(f"\nreport: {out / 'loop.md'}; every row: {out / 'answers.jsonl'}, metrics.jsonl, plans.jsonl")
    return summary


def summarise(runs: Sequence[LoopRun], about: dict[str, Any]) -> Summary:
    """Tables from finished runs; the full loop's runs first, one a seed."""
    full = [run for run in runs if run.variant == FULL]
    each = {run.seed: targets(run) for run in full}
    fronts = {
        "probes of the gate": (_front([r.tuned[0] for r in full]), _front([r.tuned[1] for r in full])),
        "final probes": (_front([r.final[0] for r in full]), _front([r.final[1] for r in full])),
    }
    return Summary(
        about, over_seeds(list(each.values())), each, mean_states([states(run) for run in full]), fronts,
        [(r.plan, r.gate.accepted) for r in full[0].results], ablation_rows(runs) if len(runs) > len(full) else [],
    )  # fmt: skip


def write_report(summary: Summary, out: Path, docs: Path | None = None) -> None:
    """summary.json, loop.md and loop-NAME.svg in `out`; in `docs` the same, the first as loop.json."""
    plots = draw_plots(summary.states, summary.ablations)
    write_text(out / "summary.json", json.dumps(summary.to_json(), indent=1) + "\n")
    write_text(out / "loop.md", markdown(summary, data="summary.json"))
    for name, svg in plots.items():
        write_text(out / f"loop-{name}.svg", svg)
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        write_text(docs / "loop.md", markdown(summary, data="loop.json"))
        shutil.copyfile(out / "summary.json", docs / "loop.json")
        for name in plots:
            shutil.copyfile(out / f"loop-{name}.svg", docs / f"loop-{name}.svg")


def round_lines(result: RoundResult, minutes: float) -> list[str]:
    """What is printed after a round; `minutes` are those of all rounds so far."""
    plan = result.plan.settings
    own = {name: seconds / 60 for name, seconds in result.seconds.items()}
    fresh = next((m for m in result.proposed if m.name == "fresh_attack_success" and not m.group), None)
    lines = [
        f"round {result.config.number} ({result.config.objective}): "
        f"{'accepted' if result.gate.accepted else 'rolled back'}; levels {plan.levels}, beta {plan.beta:g}; "
        f"{result.reviews} reviews; {own['propose'] + own['label']:.1f} min propose, {own['learn']:.1f} min learn, "
        f"{minutes:.1f} min so far",
        f"  {'fresh attacks':<20} {cell(fresh)} (critic, on the learner before)",
    ]
    for name in PRINTED:
        before, after = (cell(result.outcome.find(name, model=model)) for model in ("old", "new"))
        lines.append(f"  {name:<20} {after}   before: {before}")
    levels = [(level, result.outcome.find("competence", level, model="new")) for level in LEVELS]
    whole = cell(result.outcome.find("competence", model="new"))
    lines.append(f"  {'competence':<20} {whole}; " + ", ".join(f"level {n} {_value(m)}" for n, m in levels))
    return lines + [f"  {line}" for line in result.gate.reasons if line.startswith(("Failed", "Rolled", "Accepted"))]


def target_lines(summary: Summary) -> list[str]:
    lines = [f"\n{'target':<46}{'asked':<28}{'gate probes':<32}{'final probes':<32}"]
    for row in summary.targets:
        words = row.words if row.counts else f"  {row.words}"
        columns = [cell(m) if m is not None else "" for m in (row.tuned, row.final)]
        lines.append(f"{words:<46}{row.asked:<28}{columns[0]:<32}{columns[1]:<32}{row.met}")
    for name, (base, kept) in summary.fronts.items():
        lines.append(f"hypervolume, {name}: {cell(base)} -> {cell(kept)}")
    for ablation in summary.ablations:
        own = {**ablation.values, **{f"{k} less full": v for k, v in ablation.minus_full.items()}}
        shown = "; ".join(f"{name} {cell(own[name])}" for name in own if name.startswith(("attack_success", "over_")))
        lines.append(f"{ablation.variant:<18}{shown}")
    return lines


def _front(sheets: Sequence[Sheet]) -> Metric:
    found = [next(m for m in sheet.metrics(model="new") if m.name == "hypervolume") for sheet in sheets]
    return found[0] if len(found) == 1 else mean_metric(found) or found[0]


def _value(metric: Metric | None) -> str:
    return "?" if metric is None or metric.value is None else f"{metric.value:.2f}"


def _machine() -> str:
    return f"{os.cpu_count()} processors ({platform.machine()})"
