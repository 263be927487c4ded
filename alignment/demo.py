"""`python -m alignment demo`: a few rounds of the loop, and the numbers before and after each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alignment.loop import LoopSettings, RoundResult, run_loop
from alignment.records import Metric

SHOWN = ("attack_success", "attack_success_rule", "over_refusal", "separation", "competence", "hypervolume")


def run_demo(
    *, profile: str, rounds: int, out: Path, learner: str = "", seed: int = 0, say: Callable[[str], None] = print
) -> list[list[Metric]]:
    """Runs `rounds` rounds under `out` and returns each round's metrics. Finished phases are not run again."""
    settings = LoopSettings(profile, rounds, learner, seed, name="demo")
    results = run_loop(settings, out, say=say, on_round=lambda result: print_round(result, say))
    return [result.metrics for result in results]


def print_round(result: RoundResult, say: Callable[[str], None]) -> None:
    say(f"\nround {result.config.number}              before                     after")
    for name in SHOWN:
        before, after = (cell(result.outcome.find(name, model=model)) for model in ("old", "new"))
        say(f"{name:<20} {before:<26} {after}")
    for line in result.gate.reasons:
        say(f"  {line}")
    say("")


def cell(metric: Metric | None) -> str:
    """A metric in a line for people: value, interval and n, or why there is none."""
    if metric is None or metric.value is None:
        return metric.reason if metric else "not measured"
    low = "" if metric.ci_low is None else f" [{metric.ci_low:.2f}, {metric.ci_high:.2f}]"
    return f"{metric.value:.3f}{low} n={metric.n}"
