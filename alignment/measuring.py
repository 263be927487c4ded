"""The learner on the held-out probes: the base model, before the round and after it, and what the gate says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from alignment.config import RoundConfig
from alignment.evaluate import Answer, answer_probes, choose_probes, probe_metrics, verdict_word
from alignment.gate import Limits, gate
from alignment.judge import Judge, fit_judge
from alignment.kl import kl_to_base
from alignment.language_model import LanguageModel
from alignment.metrics.front import hypervolume, operating_point
from alignment.metrics.rates import over_refusal
from alignment.records import GateResult, Metric, Probe, ProbeAnswer
from alignment.refusal import is_refusal
from alignment.rundir import RunDir, read_rows, write_rows

KL_ANSWERS = 5  # answers of each kind that KL to the base model is measured on: each costs two forward passes


@dataclass
class Measuring:
    """Answers to the round's probes. What an earlier round found out about the same learner comes in `inputs/`."""

    config: RoundConfig
    run: RunDir
    learner: LanguageModel

    @cached_property
    def probes(self) -> list[Probe]:
        return choose_probes(self.config)

    @cached_property
    def judge(self) -> Judge:
        return fit_judge(self.learner)

    def before(self) -> tuple[list[Answer], list[Answer]]:
        """(the learner's answers, the base model's to the harmless probes), before training touches the weights."""
        old = self._known("probes_old", lambda: self.answer("evaluate_old", self.learner))
        if not self.config.learner_adapter:
            return old, old
        return old, self._known("probes_base", self._base_harmless)

    def answer(self, stage: str, model: LanguageModel) -> list[Answer]:
        total = len(self.probes)
        self.run.events.emit(stage, 0, total)
        return answer_probes(
            self.config, model, self.judge, self.probes,
            on_batch=lambda done: self.run.events.emit(stage, done, total),
        )  # fmt: skip

    def _known(self, name: str, make: Callable[[], list[Answer]]) -> list[Answer]:
        def known() -> list[Answer]:
            handed = self.run.inputs / f"{name}.jsonl"
            rows = read_rows(handed, Answer) if handed.exists() else []
            asked = {p.id for p in self.probes if name == "probes_old" or p.kind == "harmless"}
            # Another number of probes since, or another seed: measured anew.
            return rows if {r.probe for r in rows} >= asked else make()

        return self.run.stage(self.run.learn / f"{name}.jsonl", Answer, known)

    def _base_harmless(self) -> list[Answer]:
        harmless = [p for p in self.probes if p.kind == "harmless"]
        with self.learner.base():
            texts = self.learner.generate(
                [p.prompt for p in harmless], max_new_tokens=self.config.probe_tokens, temperature=0.0,
                seed=self.config.seed,
            )  # fmt: skip
        return [
            Answer(p.id, t[0].text, is_refusal(t[0].text), None, None) for p, t in zip(harmless, texts, strict=True)
        ]

    def verdict(
        self, old: list[Answer], base: list[Answer], new: list[Answer], trained: LanguageModel
    ) -> tuple[GateResult, list[Metric], list[Metric], list[Metric]]:
        """(gate, metrics of the old model, of the new one, and of the base model and of both beside each other)."""
        config, probes = self.config, self.probes
        old_metrics, new_metrics = (
            probe_metrics(probes, rows, model=name) for rows, name in ((old, "old"), (new, "new"))
        )
        known = {p.id for p in probes if p.kind == "harmless"}
        base_refusal = over_refusal([a.refused for a in base if a.probe in known], model="base")
        result = gate(
            config.objective, old_metrics, new_metrics, limits=Limits.of(config), base_over_refusal=base_refusal
        )
        front = [
            hypervolume([operating_point(m)], model=name) for m, name in ((old_metrics, "old"), (new_metrics, "new"))
        ]
        moved = kl_to_base(
            trained, [p.prompt for p in probes], [a.text for a in new], groups=[p.kind for p in probes],
            per_group=KL_ANSWERS, seed=config.seed,
        )  # fmt: skip
        return result, old_metrics, new_metrics, [base_refusal, *front, *moved]

    def write(self, metrics: list[Metric], result: GateResult, old: list[Answer], new: list[Answer]) -> None:
        """Everything that the round found out, and its end."""
        run, config = self.run, self.config
        write_rows(run.learn / "metrics.jsonl", [dataclasses.replace(m, seed=m.seed or config.seed) for m in metrics])
        write_rows(
            run.learn / "answers.jsonl",
            [
                ProbeAnswer(
                    p.id, p.kind, p.category, p.level, p.prompt, before.text, after.text,
                    verdict_word(p, before), verdict_word(p, after),
                )
                for p, before, after in zip(self.probes, old, new, strict=True)
            ],
        )  # fmt: skip
        write_rows(run.learn / "gate.json", [result])
        run.write_manifest({"phase": "learn", "seed": config.seed, "round": config.number, "accepted": result.accepted})
        run.events.emit("gate", 1, 1, message=" ".join(result.reasons))
        run.events.emit("finished", 1, 1, message="The round is done")
