"""The loop's results as Markdown and JSON, without any text of a probe or an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alignment.bench.loop_paired import MEASURES
from alignment.bench.loop_rows import FRESH, FRESH_JUDGE, AblationRow, State, state_json
from alignment.bench.loop_speed import Speed
from alignment.bench.loop_targets import LEVELS, Target
from alignment.kl import PER_ANSWER
from alignment.records import Metric
from alignment.schedule import Plan

PLOTS = {"rounds": "Attack success and over-refusal after each round", "levels": "Competence by level",
         "front": "Competence and conformity"}  # fmt: skip
NAMES = {
    "attack_success": "attack success, judge", "attack_success_rule": "attacks not declined",
    FRESH: "fresh attacks, critic", FRESH_JUDGE: "fresh attacks, judge", "over_refusal": "over-refusal",
    "separation": "separation", "competence": "competence", "hypervolume": "hypervolume", PER_ANSWER: "KL, nats",
}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Everything that tables and plots show. `seeds` are the targets of each seed, `targets` their means."""

    about: dict[str, Any]
    targets: list[Target]
    seeds: dict[int, list[Target]]
    states: list[State]
    fronts: dict[str, tuple[Metric, Metric]]  # hypervolume of the base model and of the last learner, by set of probes
    plans: list[tuple[Plan, bool]]  # of the first seed's full loop, and whether the round was accepted
    ablations: list[AblationRow] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.about, "targets": [t.to_json() for t in self.targets],
            "targets_by_seed": {str(s): [t.to_json() for t in rows] for s, rows in self.seeds.items()},
            "states": [state_json(s) for s in self.states],
            "hypervolume": {name: [m.to_json() for m in pair] for name, pair in self.fronts.items()},
            "plans": [{**plan.to_json(), "accepted": accepted} for plan, accepted in self.plans],
            "ablations": [asdict(row) for row in self.ablations], "speeds": [asdict(s) for s in self.speeds],
        }  # fmt: skip


def markdown(summary: Summary, *, data: str) -> str:
    """The whole report. `data` is the JSON file beside it, and the plots are loop-NAME.svg."""
    about = summary.about
    parts: list[Iterable[str]] = [
        ["# The loop, measured", ""],
        [
            f"`{about['command']}` on {about['date']}: {about['model']}, {about['rounds']} rounds, at most "
            f"{about['reviews']} reviews a round, {_seeds(about['seeds'])}, {about['machine']}. "
            f"Every figure: [{data}]({data}).",
            "",
        ],
        _targets(summary),
        _seed_rows(summary),
        [line for key, title in PLOTS.items() for line in (f"![{title}](loop-{key}.svg)", "")],
        _rounds(summary),
        _levels(summary),
        _fronts(summary),
        _plans(summary),
        _ablations(summary),
        _speeds(summary),
        _method(about),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _targets(summary: Summary) -> list[str]:
    heads = ("target", "asked", "probes of the gate", "final probes", "")
    rows = [
        (t.words if t.counts else f"· {t.words}", t.asked, cell(t.tuned), cell(t.final), t.met)
        for t in summary.targets
    ]  # fmt: skip
    met = [t.met for t in summary.targets if t.counts]
    note = (
        f"{met.count('met')} of {len(met)} targets met. The final probes count: no setting was chosen on them and no "
        "gate reads them. Rows with a dot stand beside a target. Values decide, not intervals; intervals are 95%."
    )
    return [*table(heads, rows), "", note, ""]


def _seed_rows(summary: Summary) -> list[str]:
    if len(summary.seeds) < 2:
        return []
    heads = ("final probes", *(f"seed {seed}" for seed in summary.seeds), "mean, t interval over seeds")
    rows = [
        (t.words, *(number(rows[i].final) for rows in summary.seeds.values()), cell(t.final))
        for i, t in enumerate(summary.targets)
    ]
    return [*table(heads, rows), ""]


def _rounds(summary: Summary) -> list[str]:
    heads = ("after round", "objective", "gate", *NAMES.values(), "reviews", "minutes: propose", "learn", "in all")
    rows, total = [], 0.0
    for state in summary.states:
        total += state.propose_minutes + state.learn_minutes
        cells = [cell(state.metrics.get(name)) for name in NAMES]
        spent = (str(state.reviews), f"{state.propose_minutes:.1f}", f"{state.learn_minutes:.1f}", f"{total:.1f}")
        rows.append((str(state.round), state.objective, state.label, *cells, *(spent if state.round else ("",) * 4)))
    note = (
        "On the probes that the gate reads. After a rollback the learner is the one before. Fresh attacks are those of "
        "the next propose phase, so of the attacker as it then is; the critic that judges them learns in the loop, the "
        "judge does not."
    )
    return ["## Round by round", "", *table(heads, rows), "", note, ""]


def _levels(summary: Summary) -> list[str]:
    heads = ("competence, level", *(f"after {s.round}" for s in summary.states))
    rows = [(level, *(cell(s.metrics.get(f"competence/{level}")) for s in summary.states)) for level in LEVELS]
    return [*table(heads, rows), ""]


def _fronts(summary: Summary) -> list[str]:
    heads = ("hypervolume (competence x conformity)", "base model", "last learner")
    return [*table(heads, [(name, cell(a), cell(b)) for name, (a, b) in summary.fronts.items()]), ""]


def _plans(summary: Summary) -> list[str]:
    heads = ("round", "objective", "levels", "attack levels", "reviews", "beta", "gate", "why")
    rows = []
    for i, (plan, accepted) in enumerate(summary.plans):
        own = plan.settings
        why = " ".join(dict.fromkeys(reason.words for reason in plan.reasons.values()))
        rows.append(
            (
                str(i + 1), plan.objective, _list(own.levels), _list(own.attack_levels), str(own.budget),
                f"{own.beta:g}", "accepted" if accepted else "rolled back", why,
            )
        )  # fmt: skip
    return ["## Plans", "", *table(heads, rows), ""]


def _ablations(summary: Summary) -> list[str]:
    if not summary.ablations:
        return []
    heads = ("", "what is left", *(NAMES[m] for m in MEASURES), "reviews", "minutes")
    rows, apart = [], []
    for row in summary.ablations:
        spent = (str(row.reviews), f"{row.minutes:.1f}")
        rows.append((row.variant, row.words, *(cell(row.values[m]) for m in MEASURES), *spent))
        if row.minus_full:
            apart.append((row.variant, *(cell(row.minus_full[m], signed=True) for m in MEASURES)))
    return [
        "## What each ingredient is worth", "", *table(heads, rows), "",
        "Less the full loop, on the same final probes:", "",
        *table(("", *(NAMES[m] for m in MEASURES)), apart), "",
        "Same rounds, queries and training steps. Intervals: paired bootstrap over probes with one seed, Student's t "
        "over seeds with more. One seed says nothing of how another run would come out.", "",
    ]  # fmt: skip


def _speeds(summary: Summary) -> list[str]:
    if not summary.speeds:
        return []
    heads = ("", "tokens a second", "plain Hugging Face loop", "times")
    rows = [(s.what, f"{s.own.rate:,.0f}", f"{s.plain.rate:,.0f}", f"{s.ratio:.2f}") for s in summary.speeds]
    return ["## Speed", "", *table(heads, rows), "", "Same prompts, same batch size, in the same run.", ""]


def _method(about: dict[str, Any]) -> list[str]:
    tasks, unsafe = about["final_tasks"], about["final_unsafe"]
    return [
        "## How",
        "",
        "Simulated experts with known error rates answer from the judge, which is fitted on exemplars of its own and "
        "takes no part in training or selection; the gate reads its verdicts on the probes of the gate. Each reviewed "
        "sample is judged by one of them, so that a review is a judgement. Final probes: "
        f"{unsafe} unsafe prompts with a harmless look-alike each, short questions and imperatives and six styles that "
        f"no seed and no other probe has; {tasks} tasks a level, other ones than the gate's. With {tasks} tasks one "
        f"task is {100 / tasks:.3g} points: a fall of 2 points cannot be told from one of {100 / tasks:.3g}, and no "
        "fall means none lost on balance. Minutes are wall time of propose, labelling and learn, killed attempts "
        "included; the measurements at the end are not in them.",
        "",
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; a bar within a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in line) + " |" for line in lines]


def number(metric: Metric | None, *, signed: bool = False) -> str:
    if metric is None:
        return ""
    if metric.value is None:
        return "not computable"
    if metric.name == "reviews":
        return f"{metric.value:.0f}"
    return f"{metric.value:+.2f}" if signed else f"{metric.value:.2f}"


def cell(metric: Metric | None, *, signed: bool = False) -> str:
    """0.31 [0.20, 0.45], n 60; the group (a level) where there is one; "" where nothing was measured."""
    if metric is None or metric.value is None:
        why = f": {metric.reason}" if metric and metric.reason else ""
        return f"not computable{why}" if metric else ""
    sign = "+" if signed else ""
    span = ""
    if metric.ci_low is not None and metric.ci_high is not None:
        span = f" [{metric.ci_low:{sign}.2f}, {metric.ci_high:{sign}.2f}]"
    level = f" (level {metric.group})" if metric.name == "competence_change" and metric.group else ""
    return f"{number(metric, signed=signed)}{span}, n {metric.n}{level}"


def _list(levels: Sequence[int]) -> str:
    return ", ".join(map(str, levels)) or "all"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
