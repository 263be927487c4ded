"""What a run of the loop leaves behind: the learner after each round in numbers, and every raw row.

Owns: State and AblationRow, which tables and plots are made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignment.bench.loop_ablations import VARIANTS
from alignment.bench.loop_paired import MEASURES, Sheet, differences
from alignment.bench.loop_run import LoopRun
from alignment.bench.loop_targets import LEVELS, mean_metric
from alignment.evaluate import Answer, verdict_word
from alignment.kl import PER_ANSWER, PER_TOKEN
from alignment.loop import RoundResult
from alignment.records import Metric, Probe
from alignment.rundir import read_rows, write_text

FRESH, FRESH_JUDGE = "fresh_attack_success", "fresh_attack_success_judge"


@dataclass(frozen=True)
class State:
    """The learner after `round` rounds, 0 being the base model. `metrics` by name, a level of competence by
    "competence/1"; one that was not measured is missing."""

    round: int
    metrics: dict[str, Metric]
    objective: str = ""
    accepted: bool = True
    reviews: int = 0
    propose_minutes: float = 0.0
    learn_minutes: float = 0.0

    @property
    def label(self) -> str:
        return "base model" if not self.round else "accepted" if self.accepted else "rolled back"


@dataclass(frozen=True)
class AblationRow:
    """The last learner of a variant on the final probes, and what differs from the full loop's: variant - full."""

    variant: str
    words: str
    values: dict[str, Metric]
    minus_full: dict[str, Metric]
    reviews: int
    minutes: float


def states(run: LoopRun) -> list[State]:
    """0 to the last round. After a rollback the learner is the one before, and so are its numbers."""
    gate_metrics = {(m.name, m.group): m for m in run.tuned[0].metrics(model="old")}
    found = [State(0, _chosen(gate_metrics) | _fresh(run, 0))]
    for result in run.results:
        own = found[-1].metrics
        if result.gate.accepted:
            own = _chosen({(m.name, m.group): m for m in result.metrics if m.model == "new"})
        minutes = {name: seconds / 60 for name, seconds in result.seconds.items()}
        number = result.config.number
        found.append(
            State(
                number, {**own, **_fresh(run, number)}, result.config.objective, result.gate.accepted, result.reviews,
                minutes["propose"] + minutes["label"], minutes["learn"],
            )
        )  # fmt: skip
    return found


def _chosen(metrics: dict[tuple[str, str], Metric]) -> dict[str, Metric]:
    wanted = [(name, "") for name in (*MEASURES, PER_ANSWER, PER_TOKEN)] + [("competence", level) for level in LEVELS]
    return {"/".join(filter(None, key)): metrics[key] for key in wanted if key in metrics}


def _fresh(run: LoopRun, number: int) -> dict[str, Metric]:
    return {FRESH: run.fresh[number], FRESH_JUDGE: run.fresh_judge[number]}


def mean_states(each: Sequence[Sequence[State]]) -> list[State]:
    """Means over seeds with Student's t interval; one seed's own as they are."""
    if len(each) == 1:
        return list(each[0])
    rows = []
    for own in zip(*each, strict=True):
        names = [name for name in own[0].metrics if all(name in s.metrics for s in own)]
        means = {name: mean_metric([s.metrics[name] for s in own]) for name in names}
        count = len(own)
        rows.append(
            State(
                own[0].round, {n: m for n, m in means.items() if m is not None}, own[0].objective,
                all(s.accepted for s in own), max(s.reviews for s in own),
                sum(s.propose_minutes for s in own) / count, sum(s.learn_minutes for s in own) / count,
            )
        )  # fmt: skip
    return rows


def ablation_rows(runs: Sequence[LoopRun]) -> list[AblationRow]:
    """One a variant, the full loop first; with one seed the paired bootstrap's interval, with more Student's t."""
    full = {run.seed: run for run in runs if run.variant == "full"}
    rows = []
    for name in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == name]
        found = [{m.name: m for m in run.final[1].metrics(model="new") if not m.group} for run in own]
        apart = [{m.name: m for m in _against(full[run.seed].final[1], run.final[1], run.seed)} for run in own]
        rows.append(
            AblationRow(
                name, VARIANTS[name].words, {m: _mean([f[m] for f in found]) for m in MEASURES},
                {} if name == "full" else {m: _mean([a[m] for a in apart]) for m in MEASURES},
                max(sum(r.reviews for r in run.results) for run in own),
                sum(run.minutes for run in own) / len(own),
            )
        )  # fmt: skip
    return rows


def _against(full: Sheet, own: Sheet, seed: int) -> list[Metric]:
    return differences(full, own, seed=seed)


def _mean(metrics: Sequence[Metric]) -> Metric:
    return metrics[0] if len(metrics) == 1 else mean_metric(metrics) or metrics[0]


def write_raw(runs: Sequence[LoopRun], out: Path) -> None:
    """answers.jsonl (a row an answer to a probe), metrics.jsonl, plans.jsonl: what every figure is made from."""
    _write(out / "answers.jsonl", (row for run in runs for row in _answers(run)))
    _write(out / "metrics.jsonl", (row for run in runs for row in _metrics(run)))
    _write(out / "plans.jsonl", (row for run in runs for row in _plans(run)))


def _answers(run: LoopRun) -> Iterator[dict[str, Any]]:
    about = {"variant": run.variant, "seed": run.seed}
    sheets = [
        ("gate", 0, "base", run.tuned[0].probes, run.tuned[0].answers),
        *(
            ("gate", r.config.number, "accepted" if r.gate.accepted else "rolled back", run.tuned[0].probes, _new(r))
            for r in run.results
        ),
        ("final", 0, "base", run.final[0].probes, run.final[0].answers),
        ("final", len(run.results), "kept", run.final[1].probes, run.final[1].answers),
    ]
    for probes_set, number, model, probes, answers in sheets:
        for probe, answer in zip(probes, answers, strict=True):
            yield {**about, "set": probes_set, "round": number, "model": model, **_answer(probe, answer)}


def _new(result: RoundResult) -> list[Answer]:
    return read_rows(result.run.learn / "probes_new.jsonl", Answer)


def _answer(probe: Probe, answer: Answer) -> dict[str, Any]:
    return {
        "probe": probe.id, "kind": probe.kind, "category": probe.category, "style": probe.style, "level": probe.level,
        "refused": answer.refused, "violates": answer.violates, "correct": answer.correct,
        "verdict": verdict_word(probe, answer), "text": answer.text,
    }  # fmt: skip


def _metrics(run: LoopRun) -> Iterator[dict[str, Any]]:
    about = {"variant": run.variant, "seed": run.seed}
    for result in run.results:
        own = {**about, "round": result.config.number}
        for phase, metrics in (("propose", result.proposed), ("learn", result.metrics)):
            yield from ({**own, "phase": phase, **m.to_json()} for m in metrics)
    for number, (critic, judge) in enumerate(zip(run.fresh, run.fresh_judge, strict=True)):
        yield from ({**about, "round": number, "phase": "fresh", **m.to_json()} for m in (critic, judge))
    for model, sheet in zip(("base", "kept"), run.final, strict=True):
        rows = sheet.metrics(model=model)
        yield from ({**about, "round": len(run.results), "phase": "final", **m.to_json()} for m in rows)


def _plans(run: LoopRun) -> Iterator[dict[str, Any]]:
    for r in run.results:
        yield {
            "variant": run.variant, "seed": run.seed, "round": r.config.number, **r.plan.to_json(),
            "accepted": r.gate.accepted, "gate": r.gate.reasons, "samples": r.samples, "reviews": r.reviews,
            "seconds": r.seconds,
        }  # fmt: skip


def state_json(state: State) -> dict[str, Any]:
    return {**asdict(state), "label": state.label}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
