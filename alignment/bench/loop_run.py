"""One run of the loop as the benchmark has it: its rounds, then the measurements that no round has seen.

Owns: LoopRun, one variant under one seed. Everything is kept under its folder, so that a killed run goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment.bench.loop_ablations import Variant
from alignment.bench.loop_paired import Sheet
from alignment.config import RoundConfig
from alignment.evaluate import Answer, answer_probes, choose_probes
from alignment.language_model import LanguageModel
from alignment.learn import load_samples
from alignment.loop import Examiner, LoopSettings, RoundResult, Say, last_adapter, prepare_round, run_loop
from alignment.metrics.rates import attack_success
from alignment.phases import Phases
from alignment.propose import propose
from alignment.records import Metric, Probe
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.seed_files import final_probes
from alignment.simulate import read_truth
from alignment.tasks import generate

PLAIN_STYLES = ("plain_question", "plain_imperative")
FINAL_SEED = 7919  # added to the seed of the final tasks, which are none of the gate's


@dataclass(frozen=True)
class FinalSize:
    """What is measured at the end: `tasks` a level, and `per_style` unsafe probes a style with their twins; 0: all."""

    tasks: int = 20
    per_style: int = 0


@dataclass(frozen=True)
class LoopRun:
    """`tuned` and `final`: the answers of the base model and of the learner that is kept, on the probes that the gate
    reads and on those that nothing was tuned on. `fresh` and `fresh_judge`: success of the attacks written against
    the learner after 0, 1, ... rounds, by the critic of that time and by the judge."""

    variant: str
    seed: int
    results: list[RoundResult]
    tuned: tuple[Sheet, Sheet]
    final: tuple[Sheet, Sheet]
    fresh: list[Metric]
    fresh_judge: list[Metric]

    @property
    def unseen_styles(self) -> list[str]:
        return sorted({p.style for p in self.final[0].probes if p.kind == "unsafe"} - set(PLAIN_STYLES))

    @property
    def minutes(self) -> float:
        """Machine time of the rounds; the measurements at the end are not in it."""
        return sum(r.outcome.minutes for r in self.results)


def run_variant(
    variant: Variant, settings: LoopSettings, folder: Path, *, examiner: Examiner, size: FinalSize, say: Say,
    on_round: Callable[[RoundResult], None],
) -> LoopRun:  # fmt: skip
    """Runs or resumes `settings` as `variant` changes it, in `folder`. The base model's answers to the final probes lie
    beside it, for all variants of the seed."""
    own = variant.apply(settings)
    results = run_loop(own, folder, examiner=examiner, say=say, on_round=on_round)
    say("fresh attacks on the last learner")
    runs = [*(r.run for r in results), fresh_attacks(own, results, folder)]
    fresh = [_fresh(run) for run in runs]
    by_judge = [_fresh_by_judge(run, examiner, folder) for run in runs]
    say("probes that nothing was tuned on")
    config = settings.base_config()
    probes = choose_final(config, size)
    base_path = folder.parent / "final_base.jsonl"
    base = _stage(base_path, lambda: answer_probes(config, examiner.model, examiner.judge, probes))
    kept = _stage(folder / "final.jsonl", lambda: _answer_kept(config, results, examiner, probes, base))
    gate_probes = choose_probes(config)
    tuned = (Sheet(gate_probes, base_answers(results)), Sheet(gate_probes, kept_answers(results)))
    final = (Sheet(probes, base), Sheet(probes, kept))
    return LoopRun(variant.name, settings.seed, results, tuned, final, fresh, by_judge)


def choose_final(config: RoundConfig, size: FinalSize) -> list[Probe]:
    """The final probes, and tasks of the probe split that are none of the gate's."""
    chosen: list[Probe] = []
    for style in dict.fromkeys(p.style for p in final_probes()):
        unsafe = [p for p in final_probes() if p.style == style and p.kind == "unsafe"]
        chosen += unsafe[: size.per_style or len(unsafe)]
    twins = {p.id: p for p in final_probes()}
    chosen += [twins[p.twin] for p in chosen if p.twin in twins]
    for level in range(1, 6):
        gates = {t.key for t in generate(config.seed, level, config.competence_probes, "probe")}
        drawn = generate(config.seed + FINAL_SEED, level, size.tasks + len(gates), "probe")
        own = [t for t in drawn if t.key not in gates][: size.tasks]
        chosen += [
            Probe(
                id=f"final-task-{level}-{i}", category="competence", principle="", style=task.family,
                kind="competence", prompt=task.prompt, level=level, task=task.to_json(),
            )
            for i, task in enumerate(own)
        ]  # fmt: skip
    return chosen


def base_answers(results: Sequence[RoundResult]) -> list[Answer]:
    """The base model's answers to the gate's probes: round 1 starts from it."""
    return read_rows(results[0].run.learn / "probes_old.jsonl", Answer)


def kept_answers(results: Sequence[RoundResult]) -> list[Answer]:
    """Those of the last accepted checkpoint, the base model's where none was."""
    accepted = [r for r in results if r.gate.accepted]
    return read_rows(accepted[-1].run.learn / "probes_new.jsonl", Answer) if accepted else base_answers(results)


def fresh_attacks(settings: LoopSettings, results: Sequence[RoundResult], folder: Path) -> RunDir:
    """One more propose phase, attacks only, of the attacker as it is now against the learner that is kept."""
    run = RunDir(folder / "fresh")
    number = len(results) + 1
    prepare_round(settings, run, number, results[-1].plan, results, lookalikes=0, competence=0, budget=0)
    Phases(folder).run(run, "propose", lambda: propose(run))
    return run


def _fresh(run: RunDir) -> Metric:
    found = read_rows(run.propose / "metrics.jsonl", Metric)
    return next(m for m in found if m.name == "fresh_attack_success" and m.group == "")


def _fresh_by_judge(run: RunDir, examiner: Examiner, folder: Path) -> Metric:
    """As `fresh_attack_success`, where the judge finds any answer violating: the critic learns in the loop, it does
    not."""
    path = folder / f"fresh_judge-{run.path.name}.jsonl"
    if not path.exists():
        samples = [s for s in load_samples(run) if s.query["kind"] == "unsafe"]
        truth = read_truth(samples, examiner.model, examiner.judge)
        worst = [any(truth[r["id"]] for r in s.responses) for s in samples]
        write_rows(path, [attack_success(worst, name="fresh_attack_success_judge", model="old")])
    return read_rows(path, Metric)[0]


def _answer_kept(
    config: RoundConfig, results: Sequence[RoundResult], examiner: Examiner, probes: Sequence[Probe],
    base: list[Answer],
) -> list[Answer]:  # fmt: skip
    adapter = last_adapter(results)
    if adapter is None:
        return base
    model = LanguageModel.load(config.learner, adapter=adapter, dtype=config.dtype, device=config.device)
    answers = answer_probes(config, model, examiner.judge, probes)
    del model
    gc.collect()
    return answers


def _stage(path: Path, make: Callable[[], list[Answer]]) -> list[Answer]:
    if not path.exists():
        write_rows(path, make())
    return read_rows(path, Answer)
