"""The loop without a server: rounds one after the other, judged by simulated experts, each from where the last ended.

What the server keeps in its database is read from the run folders here: the last accepted adapter, people's labels, the
attacker's archive and adapter, the weights of the mix, and what is known of the learner's probe answers.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from alignment.archive import carry_over
from alignment.config import RoundConfig, profile_defaults
from alignment.judge import Judge, fit_judge
from alignment.language_model import LanguageModel
from alignment.learn import learn, load_samples
from alignment.phases import Phases
from alignment.propose import propose
from alignment.records import GateResult, Label, Metric, PoolItem, Sample
from alignment.rundir import RunDir, read_rows, write_rows
from alignment.schedule import Plan, RoundOutcome, Settings, plan_next
from alignment.seed_files import shipped_principles, shipped_seeds
from alignment.simulate import simulate_labels

Say = Callable[[str], None]


@dataclass(frozen=True)
class LoopSettings:
    """What decides a run of the loop. `overrides` are RoundConfig settings for every round."""

    profile: str
    rounds: int
    learner: str = ""  # a model folder or Hub id; not needed for tiny
    seed: int = 0
    schedule: str = "alternating"
    annealing: str = "annealed"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    overlap_share: float = 0.3  # of the samples, those that two simulated experts judge
    name: str = "loop"  # tells the rounds' ids apart from those of other runs

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; a loop has 1 or more")
        if self.profile != "tiny" and not self.learner:
            raise ValueError(
                f"the {self.profile} profile needs a model: --learner FOLDER (make demo names the converted one)"
            )

    def base_config(self) -> RoundConfig:
        """The settings of every round before any plan."""
        own = {**profile_defaults(self.profile), **({"learner": self.learner} if self.learner else {})}
        return RoundConfig.from_json(
            {
                **own, **self.overrides, "round_id": "", "seed": self.seed, "schedule": self.schedule,
                "annealing": self.annealing,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Examiner:
    """The base model and the judge that is kept apart from everything that trains; loaded once, when first asked."""

    config: RoundConfig

    @cached_property
    def model(self) -> LanguageModel:
        return LanguageModel.load(self.config.learner, dtype=self.config.dtype, device=self.config.device)

    @cached_property
    def judge(self) -> Judge:
        return fit_judge(self.model)


@dataclass(frozen=True)
class RoundResult:
    """A finished round. `metrics` are those of the learn phase, `proposed` those of the propose phase."""

    run: RunDir
    config: RoundConfig
    plan: Plan
    gate: GateResult
    metrics: list[Metric]
    proposed: list[Metric]
    samples: int  # that people judged
    reviews: int  # judgements of people
    seconds: dict[str, float]  # of machine time, by phase: propose, label, learn

    @property
    def outcome(self) -> RoundOutcome:
        minutes = sum(self.seconds.values()) / 60
        return RoundOutcome(
            self.config.number, self.config.objective, self.gate.accepted, Settings.of(self.config), self.metrics,
            self.reviews, minutes,
        )  # fmt: skip

    @property
    def kept(self) -> str:
        """Which of the two models the next round starts from, as metrics name it: "new" or "old"."""
        return "new" if self.gate.accepted else "old"

    def find(self, name: str, group: str = "") -> Metric | None:
        """The metric of the learner that the next round starts from."""
        return self.outcome.find(name, group, model=self.kept)


def run_loop(
    settings: LoopSettings, out: Path, *, examiner: Examiner | None = None, say: Say = print,
    on_round: Callable[[RoundResult], None] = lambda result: None,
) -> list[RoundResult]:  # fmt: skip
    """Runs `settings.rounds` rounds under `out`; finished phases are not run again. ValueError where `out` holds
    rounds of other settings."""
    base = settings.base_config()
    examiner = examiner or Examiner(base)
    first = Settings.of(base, seed_levels=sorted({s.level for s in shipped_seeds()}))
    results: list[RoundResult] = []
    for number in range(1, settings.rounds + 1):
        history = [r.outcome for r in results]
        plan = plan_next(settings.schedule, history, first=first, annealing=settings.annealing)
        run = RunDir(out / f"round-{number}")
        config = prepare_round(settings, run, number, plan, results)
        results.append(_run_round(settings, run, config, plan, examiner, say))
        on_round(results[-1])
    return results


def prepare_round(
    settings: LoopSettings, run: RunDir, number: int, plan: Plan, results: Sequence[RoundResult], **changes: Any
) -> RoundConfig:
    """Writes config.json and inputs/ of the round after `results`. What is there stays."""
    adapter = last_adapter(results)
    config = replace(
        settings.base_config(),
        **{
            "round_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"oversight-{settings.name}-{settings.seed}-{number}")),
            "number": number, "objective": plan.objective, "levels": plan.settings.levels,
            "attack_levels": plan.settings.attack_levels, "budget": plan.settings.budget, "beta": plan.settings.beta,
            "learner_adapter": "inputs/adapter" if adapter else "",
            "attacker_adapter": "inputs/attacker" if number > 1 else "",
            **_learnt_mix(settings, results), **changes,
        },
    )  # fmt: skip
    run.create(config)
    for name, rows in (
        ("principles", shipped_principles()), ("seeds", shipped_seeds()),
        ("pool", [item for r in results for item in pool_of(r.run, r.config.number)]),
    ):  # fmt: skip
        if not (run.inputs / f"{name}.jsonl").exists():
            write_rows(run.inputs / f"{name}.jsonl", rows)
    if adapter:
        _copy(adapter, run.inputs / "adapter")
    if results:
        carry_over(results[-1].run, run)
        _carry_probes(results[-1], run)
    return config


def last_adapter(results: Sequence[RoundResult]) -> Path | None:
    """The last accepted checkpoint; None for the base model."""
    return next((r.run.learn / "adapter" for r in reversed(results) if r.gate.accepted), None)


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


def _run_round(
    settings: LoopSettings, run: RunDir, config: RoundConfig, plan: Plan, examiner: Examiner, say: Say
) -> RoundResult:
    phases, number = Phases(run.path.parent), config.number
    labels_path = run.inputs / "labels.jsonl"

    def label() -> None:
        if not labels_path.exists():
            asked = within_budget(load_samples(run), config.budget)
            seed = settings.seed + number
            write_rows(labels_path, judge_samples(asked, examiner, seed=seed, overlap_share=settings.overlap_share))

    say(f"round {number} ({config.objective}): propose")
    seconds = {"propose": phases.run(run, "propose", lambda: propose(run))}
    seconds["label"] = phases.run(run, "label", label)
    labels = read_rows(labels_path, Label)
    say(f"round {number}: {seconds['propose']:.0f} s; {len(labels)} samples judged; learn")
    seconds["learn"] = phases.run(run, "learn", lambda: learn(run))
    say(f"round {number}: {seconds['learn']:.0f} s")
    return RoundResult(
        run, config, plan, read_rows(run.learn / "gate.json", GateResult)[0],
        read_rows(run.learn / "metrics.jsonl", Metric), read_rows(run.propose / "metrics.jsonl", Metric),
        len(labels), sum(label.reviews for label in labels), seconds,
    )  # fmt: skip


def within_budget(samples: Sequence[Sample], budget: int) -> list[Sample]:
    """The flagged samples that people get to: at most `budget`, where more were flagged because no critic could judge
    them, without the last of those."""
    flagged = [s for s in samples if s.flag is not None]
    drawn = [s for s in flagged if s.flag and s.flag["reason"] != "unjudged"]
    left = budget - len(drawn)
    unjudged = [s for s in flagged if s.flag and s.flag["reason"] == "unjudged"][: max(left, 0)]
    kept = {s.query["id"] for s in [*drawn[:budget], *unjudged]}
    return [s for s in flagged if s.query["id"] in kept]


def judge_samples(samples: list[Sample], examiner: Examiner, *, seed: int, overlap_share: float) -> list[Label]:
    """What simulated experts make of `samples`; none for none, without loading a model."""
    if not samples:
        return []
    return simulate_labels(samples, examiner.model, examiner.judge, seed=seed, overlap_share=overlap_share)


def _learnt_mix(settings: LoopSettings, results: Sequence[RoundResult]) -> dict[str, float]:
    """The weights that the last round learnt; none where any was chosen, as only ratios matter (as on the server)."""
    if not results or any(name.startswith("mix_") for name in settings.overrides):
        return {}
    learnt = [m for r in results for m in r.metrics if m.name == "selection_weight"]
    return {f"mix_{m.group}": m.value for m in learnt if m.value is not None}


def _carry_probes(earlier: RoundResult, run: RunDir) -> None:
    """The probe answers of the learner that `run` starts from, and of the base model: the same ones would be given."""
    learn_, inputs = earlier.run.learn, earlier.run.inputs
    old = [learn_ / "probes_old.jsonl", inputs / "probes_old.jsonl"]
    base = [learn_ / "probes_base.jsonl", inputs / "probes_base.jsonl"]
    if not earlier.config.learner_adapter:  # the learner of the round was the base model
        base += old
    for name, sources in (
        ("probes_old.jsonl", [learn_ / "probes_new.jsonl"] if earlier.gate.accepted else old),
        ("probes_base.jsonl", base),
    ):
        source = next((path for path in sources if path.exists()), None)
        if source is not None:
            _copy(source, run.inputs / name)


def _copy(source: Path, target: Path) -> None:
    """Copies a file or a folder, whole or not at all; what is there stays."""
    if target.exists():
        return
    partial = target.with_name(f".{target.name}.part")
    if source.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
    else:
        shutil.copyfile(source, partial)
    partial.replace(target)
