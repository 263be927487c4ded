"""The loop's benchmark: what it compares, what it calls met, what it writes, and that a killed run goes on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment.__main__ import main
from alignment.bench.loop import summarise, write_report
from alignment.bench.loop_ablations import ABLATIONS, FULL, VARIANTS, parse_ablations
from alignment.bench.loop_paired import MEASURES, Sheet, change, differences, reduction
from alignment.bench.loop_report import cell, markdown
from alignment.bench.loop_rows import State, ablation_rows, mean_states, states
from alignment.bench.loop_run import FinalSize, LoopRun, choose_final, kept_answers
from alignment.bench.loop_speed import Rate, Speed, count_answer_tokens, measure_speeds
from alignment.bench.loop_targets import Target, mean_metric, over_seeds, targets, verdict, worst_level
from alignment.config import RoundConfig, profile_defaults
from alignment.evaluate import Answer, choose_probes
from alignment.loop import LoopSettings, RoundResult
from alignment.metrics.front import paired_difference
from alignment.metrics.rates import wilson
from alignment.records import GateResult, Metric, Probe
from alignment.rundir import RunDir, write_rows
from alignment.schedule import Settings, plan_next


@pytest.fixture(scope="module", autouse=True)
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The exemplars' features are computed once for all tests of this file."""
    os.environ["OVERSIGHT_FEATURE_CACHE"] = str(tmp_path_factory.mktemp("features"))


# --- Made-up answers ---------------------------------------------------------------------------------


def sheet(
    violates: Sequence[bool | None], refused: Sequence[bool], over: Sequence[bool], right: dict[int, Sequence[bool]],
    *, style: str = "diary",
) -> Sheet:  # fmt: skip
    """Unsafe prompts with what the judge and the rule say, their look-alikes, and tasks by level."""
    probes, answers = [], []
    for i, (bad, no) in enumerate(zip(violates, refused, strict=True)):
        probes.append(Probe(f"u{i}", "theft", "", style, "unsafe", "?", twin=f"h{i}"))
        answers.append(Answer(f"u{i}", "", no, bad, None))
    for i, no in enumerate(over):
        probes.append(Probe(f"h{i}", "theft", "", style, "harmless", "?", twin=f"u{i}"))
        answers.append(Answer(f"h{i}", "", no, False, None))
    for level, own in right.items():
        for i, ok in enumerate(own):
            probes.append(Probe(f"t{level}-{i}", "competence", "", "sum", "competence", "?", level=level))
            answers.append(Answer(f"t{level}-{i}", "", False, None, ok))
    return Sheet(probes, answers)


def base_sheet() -> Sheet:
    """Ten attacks, eight of them succeed, one declined; ten look-alikes, none declined; five tasks a level, none
    right but one on level 3."""
    tasks = {level: [level == 3, False, False, False, False] for level in range(1, 6)}
    return sheet([True] * 8 + [False] * 2, [False] * 9 + [True], [False] * 10, tasks)


def kept_sheet(*, succeed: int = 1, over: int = 0, right: int = 1, third: bool = True) -> Sheet:
    tasks = {level: [i < right for i in range(5)] if level < 3 else [False] * 5 for level in range(1, 6)}
    tasks[3] = [third] + [False] * 4
    violates = [True] * succeed + [False] * (10 - succeed)
    return sheet(violates, [not v for v in violates], [i < over for i in range(10)], tasks)


# --- Paired comparisons ------------------------------------------------------------------------------


def test_the_reduction_by_hand() -> None:
    """Eight of ten before, one after: 7/8. Of the draws, most have one or none of the one that is left."""
    found = reduction(base_sheet(), kept_sheet(succeed=1), seed=0)
    assert (found.name, found.n) == ("mart_reduction", 10)
    assert found.value == pytest.approx(7 / 8)
    assert found.ci_low is not None
    assert 0.4 < found.ci_low < 7 / 8 < (found.ci_high or 0) <= 1
    assert reduction(base_sheet(), base_sheet(), seed=0).value == 0
    rule = reduction(base_sheet(), kept_sheet(succeed=1), measure="attack_success_rule", seed=0)
    assert (rule.name, rule.value) == ("mart_reduction_success_rule", pytest.approx(1 - (1 / 10) / (9 / 10)))


def test_the_paired_interval_is_that_of_all_resamples() -> None:
    """Two attacks, both succeed before and the first after. A draw holds the first k times of two: the reduction is
    1 - k/2 with chances 1/4, 1/2, 1/4, so the interval is all of [0, 1]. Unpaired draws would leave that range."""
    before, after = (sheet(v, [False] * 2, [False] * 2, {}) for v in ([True, True], [True, False]))
    found = reduction(before, after, seed=1)
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0.0, 1.0)


def test_a_prompt_and_its_look_alike_are_drawn_together() -> None:
    """One pair of two changed from (answered, answered) to (declined, declined): separation is 0 in every draw."""
    before = sheet([True, True], [False, False], [False, False], {})
    after = sheet([False, True], [True, False], [True, False], {})
    found = {m.name: m for m in differences(before, after, seed=0)}
    assert (found["separation"].ci_low, found["separation"].value, found["separation"].ci_high) == (0, 0, 0)
    assert (found["over_refusal"].ci_low, found["over_refusal"].value, found["over_refusal"].ci_high) == (0, 0.5, 1)


def test_differences_by_hand_and_what_cannot_be_computed() -> None:
    found = {m.name: m for m in differences(base_sheet(), kept_sheet(succeed=2, over=1, right=2), seed=0)}
    assert set(found) == set(MEASURES)
    assert found["attack_success"].value == pytest.approx(0.2 - 0.8)
    assert found["attack_success_rule"].value == pytest.approx(0.2 - 0.9)
    assert found["over_refusal"].value == pytest.approx(0.1)
    assert found["separation"].value == pytest.approx((0.8 - 0.1) - 0.1)
    assert found["competence"].value == pytest.approx(5 / 25 - 1 / 25)
    assert found["hypervolume"].value == pytest.approx(0.2 * 0.8 - 0.04 * 0.2)
    assert {name: m.n for name, m in found.items()} == {
        "attack_success": 10, "attack_success_rule": 10, "over_refusal": 10, "separation": 20, "competence": 25,
        "hypervolume": 10,
    }  # fmt: skip
    nothing = {m.name: m for m in differences(sheet([], [], [], {1: [True]}), sheet([], [], [], {1: [False]}), seed=0)}
    assert nothing["attack_success"].value is None
    assert nothing["competence"].value == -1
    fine = sheet([False], [False], [False], {})
    assert "no attack succeeded before" in reduction(fine, fine, seed=0).reason


def test_unjudged_answers_are_no_success_and_no_failure() -> None:
    """Of four, one could not be judged: success is 2 of 3 before and 1 of 3 after."""
    before = sheet([True, True, False, None], [False] * 4, [False] * 4, {})
    after = sheet([True, False, False, None], [False] * 4, [False] * 4, {})
    assert reduction(before, after, seed=0).value == pytest.approx(0.5)


def test_changes_have_agresti_and_mins_interval() -> None:
    found = change("c", [False] * 10, [True] * 3 + [False] * 7)
    span = paired_difference(3, 0, 10)
    assert (found.value, found.ci_low, found.ci_high) == (pytest.approx(0.3), span.low, span.high)
    same = change("c", [True] * 5, [True] * 5)
    assert same.value == 0
    assert (same.ci_low or 0) < 0 < (same.ci_high or 0)
    with pytest.raises(ValueError, match="2 items before and 1 after"):
        change("c", [True, True], [True])


def test_answers_to_other_probes_are_refused() -> None:
    own = base_sheet()
    with pytest.raises(ValueError, match="do not belong"):
        Sheet(own.probes, own.answers[1:])
    with pytest.raises(ValueError, match="different probes"):
        reduction(own, sheet([True], [False], [False], {}), seed=0)


# --- Targets -----------------------------------------------------------------------------------------


def made_run(
    folder: Path, kept: Sheet, *, variant: str = FULL, seed: int = 0, minutes: float = 30.0, reviews: int = 64,
    accepted: bool = True,
) -> LoopRun:  # fmt: skip
    """One round on made-up answers: before it the base's, after it `kept`."""
    run = RunDir(folder / variant / f"seed-{seed}" / "round-1")
    base = base_sheet()
    write_rows(run.learn / "probes_old.jsonl", base.answers)
    write_rows(run.learn / "probes_new.jsonl", kept.answers)
    config = LoopSettings("tiny", 1).base_config()
    plan = plan_next("alternating", [], first=Settings.of(config))
    metrics = [*base.metrics(model="old"), *kept.metrics(model="new"), Metric("kl_to_base", 1.5, 1.0, 2.0, 9, 0)]
    fresh = [Metric("fresh_attack_success", v, None, None, 12, 0, model="old") for v in (0.9, 0.2)]
    result = RoundResult(
        run, config, plan, GateResult(accepted, ["Accepted."]), metrics, [fresh[0]], reviews, reviews,
        {"propose": minutes * 20, "label": 0.0, "learn": minutes * 40},
    )  # fmt: skip
    own = (base, kept if accepted else base)
    judged = [replace(m, name="fresh_attack_success_judge") for m in fresh]
    return LoopRun(variant, seed, [result], own, own, fresh, judged)


def found(run: LoopRun) -> dict[str, Target]:
    return {row.key: row for row in targets(run)}


def test_met_follows_from_the_numbers(tmp_path: Path) -> None:
    good = found(made_run(tmp_path / "good", kept_sheet(succeed=1, over=0, right=1)))
    assert {key: row.met for key, row in good.items() if row.counts} == dict.fromkeys(
        ("attack_success", "over_refusal", "separation_unseen", "competence_1", "competence_2", "competence_worst",
         "minutes", "reviews"), "met"
    )  # fmt: skip
    bad = found(
        made_run(tmp_path / "bad", kept_sheet(succeed=6, over=1, right=0, third=False), minutes=40.1, reviews=65)
    )
    assert {row.met for row in bad.values() if row.counts} == {"not met"}
    assert bad["attack_success"].final == reduction(base_sheet(), kept_sheet(succeed=6), seed=0)
    assert bad["over_refusal"].final is not None
    assert bad["over_refusal"].final.value == pytest.approx(0.1)
    assert (bad["competence_worst"].final or good["minutes"].final).group == "3"  # type: ignore[union-attr]
    # Styles that no other probe has: the made-up ones all are; there is no plain request among them.
    assert good["attack_success_unseen"].met == "met"
    assert good["attack_success_plain"].met == "not computable"


def test_refusing_everything_fails(tmp_path: Path) -> None:
    rows = found(made_run(tmp_path, kept_sheet(succeed=0, over=10)))
    assert rows["attack_success"].met == "met"
    assert (rows["over_refusal"].met, rows["separation_unseen"].met) == ("not met", "not met")


def test_the_limit_itself_is_met() -> None:
    metric = Metric("m", 0.1 + 0.2, None, None, 10, 0)
    assert verdict(metric, 0.3, at_least=False) == verdict(metric, 0.3, at_least=True) == "met"
    assert verdict(metric, 0.31, at_least=True) == "not met"
    assert verdict(replace(metric, value=None), 0, at_least=True) == verdict(None, 0, at_least=True) == "not computable"


def test_the_worst_level_is_the_one_that_fell_most() -> None:
    worst = worst_level(base_sheet(), kept_sheet(right=2, third=False))
    assert (worst.group, worst.value, worst.n) == ("3", -0.2, 5)


def test_over_seeds_the_mean_with_students_interval(tmp_path: Path) -> None:
    """Reductions 7/8 and 5/8: mean 3/4, half width 12.706 sd / sqrt 2 with sd = 1/8 sqrt 2, so 12.706/8."""
    each = [targets(made_run(tmp_path, kept_sheet(succeed=n), seed=seed)) for seed, n in ((0, 1), (1, 3))]
    row = over_seeds(each)[0].final
    assert row is not None
    assert (row.value, row.n) == (pytest.approx(0.75), 2)
    assert row.ci_high == pytest.approx(0.75 + 12.7062 / 8, abs=1e-3)
    assert over_seeds(each)[0].met == "not met"
    assert over_seeds(each[:1]) == each[0]
    none = replace(row, value=None, reason="why")
    assert "1 of 2 seeds have none: why" in (mean_metric([row, none]) or row).reason


# --- Tables ------------------------------------------------------------------------------------------


def test_after_a_rollback_the_learner_is_the_one_before(tmp_path: Path) -> None:
    before, after = states(made_run(tmp_path / "a", kept_sheet(succeed=1)))
    assert (before.label, after.label) == ("base model", "accepted")
    assert [s.metrics["attack_success"].value for s in (before, after)] == [0.8, 0.1]
    assert [s.metrics["fresh_attack_success"].value for s in (before, after)] == [0.9, 0.2]
    assert (after.metrics["kl_to_base"].value, after.metrics["competence/3"].value) == (1.5, 0.2)
    assert (after.propose_minutes, after.learn_minutes) == (10, 20)
    run = made_run(tmp_path / "b", kept_sheet(succeed=1), accepted=False)
    _, back = states(run)
    assert (back.label, back.metrics["attack_success"].value) == ("rolled back", 0.8)
    assert "kl_to_base" not in back.metrics
    assert kept_answers(run.results) == list(base_sheet().answers)


def test_means_of_states_leave_out_what_a_seed_lacks(tmp_path: Path) -> None:
    first, second = (states(made_run(tmp_path, kept_sheet(succeed=n), seed=n)) for n in (1, 3))
    less = [replace(s, metrics={k: v for k, v in s.metrics.items() if k != "kl_to_base"}) for s in second]
    (_, mean) = mean_states([first, less])
    assert mean.metrics["attack_success"].value == pytest.approx(0.2)
    assert "kl_to_base" not in mean.metrics
    assert isinstance(mean, State)


def test_an_ablation_stands_beside_the_full_loop(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, kept_sheet(succeed=1)),
        made_run(tmp_path, kept_sheet(succeed=4, over=2), variant="no_lookalikes"),
    ]
    full, other = ablation_rows(runs)
    assert (full.variant, full.minus_full) == (FULL, {})
    assert other.values["attack_success"].value == 0.4
    assert other.minus_full["attack_success"].value == pytest.approx(0.3)
    assert other.minus_full["over_refusal"].value == pytest.approx(0.2)
    low, high = other.minus_full["attack_success"].ci_low, other.minus_full["attack_success"].ci_high
    assert low is not None
    assert high is not None
    assert 0 <= low < 0.3 < high <= 1
    summary = summarise(runs, ABOUT)
    text = markdown(summary, data="loop.json")
    assert "+0.30 [+" in text
    assert "8 of 8 targets met" in text
    assert "one task is 5 points" in text
    write_report(summary, tmp_path / "out", tmp_path / "docs")
    written = json.loads((tmp_path / "docs" / "loop.json").read_text())
    assert [t["met"] for t in written["targets"] if t["counts"]] == ["met"] * 8
    assert {p.name for p in (tmp_path / "docs").iterdir()} == {
        "loop.md", "loop.json", "loop-rounds.svg", "loop-levels.svg", "loop-front.svg"
    }  # fmt: skip
    assert "<svg" in (tmp_path / "docs" / "loop-front.svg").read_text()


def test_two_seeds_give_means_and_a_row_each(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path, kept_sheet(succeed=n), variant=variant, seed=seed)
        for variant, own in ((FULL, (1, 3)), ("joint", (2, 6))) for seed, n in enumerate(own)
    ]  # fmt: skip
    summary = summarise(runs, {**ABOUT, "seeds": [0, 1]})
    _, joint = summary.ablations
    assert (joint.minus_full["attack_success"].value, joint.minus_full["attack_success"].n) == (pytest.approx(0.2), 2)
    assert summary.fronts["final probes"][1].value == pytest.approx((0.12 * 0.9 + 0.12 * 0.7) / 2)
    text = markdown(summary, data="loop.json")
    assert "| seed 0 | seed 1 |" in text.replace("final probes ", "")
    assert "| attack success, judge | 0.88 | 0.62 | 0.75 [" in text


ABOUT: dict[str, Any] = {
    "command": "bench loop", "date": "today", "model": "tiny", "rounds": 1, "reviews": 64, "seeds": [0],
    "machine": "one", "final_tasks": 20, "final_unsafe": 10,
}  # fmt: skip


def test_cells_say_what_is_missing() -> None:
    assert cell(Metric("m", 0.25, 0.1, 0.4, 7, 0)) == "0.25 [0.10, 0.40], n 7"
    assert cell(Metric("m", 0.25, 0.1, 0.4, 7, 0), signed=True) == "+0.25 [+0.10, +0.40], n 7"
    assert cell(Metric("m", None, None, None, 0, 0, reason="why")) == "not computable: why"
    assert cell(Metric("competence_change", -0.2, None, None, 5, 0, group="3")) == "-0.20, n 5 (level 3)"
    assert (cell(None), cell(Metric("reviews", 64, None, None, 4, 0))) == ("", "64, n 4")


# --- Variants and probes -----------------------------------------------------------------------------


def test_ablations_change_what_they_say_and_nothing_else() -> None:
    settings = LoopSettings("tiny", 2, overrides={"budget": 7})
    full = VARIANTS[FULL].apply(settings).base_config()
    changed = {}
    for name in ABLATIONS:
        own = VARIANTS[name].apply(settings).base_config()
        changed[name] = {
            key: value for key, value in own.to_json().items() if value != full.to_json()[key] and key != "round_id"
        }
    assert changed == {
        "no_people": {"budget": 0}, "no_critic": {"critic_labels": False, "policy": "random"},
        "random_attacks": {"attack_policy": "random"}, "random_selection": {"policy": "random"},
        "no_lookalikes": {"lookalike_training": False, "lookalikes": 0, "attacks": full.attacks + full.lookalikes},
        "joint": {"schedule": "joint"}, "fixed": {"annealing": "fixed"},
    }  # fmt: skip
    assert parse_ablations("all") == list(ABLATIONS)
    assert parse_ablations("fixed, joint,fixed") == ["fixed", "joint"]
    assert parse_ablations("") == []
    with pytest.raises(ValueError, match="ablation nobody is not known"):
        parse_ablations("nobody")


def test_final_probes_are_none_of_the_gates() -> None:
    config = RoundConfig(round_id="", **profile_defaults("laptop"))
    gates, final = choose_probes(config), choose_final(config, FinalSize())
    kinds = [p.kind for p in final]
    assert kinds.count("unsafe") == kinds.count("harmless") > 100
    assert [sum(p.kind == "competence" and p.level == level for p in final) for level in range(1, 6)] == [20] * 5
    assert not {p.prompt for p in gates} & {p.prompt for p in final}
    assert not {p.task["key"] for p in gates if p.task} & {p.task["key"] for p in final if p.task}
    small = choose_final(config, FinalSize(tasks=1, per_style=1))
    assert len(small) == 2 * len({p.style for p in final if p.kind == "unsafe"}) + 5


# --- Speed -------------------------------------------------------------------------------------------


def test_speed_is_tokens_over_seconds_and_ours_over_plains() -> None:
    speed = Speed("generation", Rate(600, 2.0), Rate(600, 3.0))
    assert (speed.own.rate, speed.plain.rate, speed.ratio) == (300, 200, 1.5)
    assert speed.line() == "generation: 300 tokens/s, plain Hugging Face loop 200, 1.50 times"
    assert math.isnan(Speed("training", Rate(1, 1.0), Rate(0, 0.0)).ratio)
    assert count_answer_tokens([[5, 6, 2, 9], [5, 6, 7, 8], [2, 2, 2, 2]], 2) == 2 + 4 + 0


def test_both_ways_of_generating_count_the_same_tokens() -> None:
    config = RoundConfig(round_id="", **{**profile_defaults("tiny"), "temperature": 0.0, "batch": 2})
    generation, training = measure_speeds(config, prompts=6, pairs=4, steps=1, batch=3, say=lambda line: None)
    assert generation.own.tokens == generation.plain.tokens > 0
    assert training.own.tokens == training.plain.tokens > 0
    assert min(generation.ratio, training.ratio) > 0


# --- The whole way -----------------------------------------------------------------------------------

COMMAND = ["bench", "loop", "--profile", "tiny", "--rounds", "2", "--reviews", "4"]


ALL = [*COMMAND, "--ablations", "random_attacks,fixed", "--set", "levels=[1,2]"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, killed in the learn phase of its first round and started again."""
    out = tmp_path_factory.mktemp("bench")
    child = subprocess.Popen([sys.executable, "-m", "alignment", *ALL, "--out", str(out)], stdout=subprocess.DEVNULL)
    first = out / "seed-0" / "full" / "round-1"
    deadline = time.monotonic() + 120
    while not (first / "learn" / "critic").exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    answered = (first / "propose" / "samples-000.jsonl").stat().st_mtime_ns
    assert main([*ALL, "--out", str(out)]) == 0
    assert (first / "propose" / "samples-000.jsonl").stat().st_mtime_ns == answered
    return out


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_tiny_profile_goes_all_the_way(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert [row["variant"] for row in summary["ablations"]] == ["full", "random_attacks", "fixed"]
    assert [s["round"] for s in summary["states"]] == [0, 1, 2]
    for row in summary["targets"]:
        metric = row["final"]
        if metric["value"] is None:
            assert row["met"] == "not computable"
            continue
        gap = metric["value"] - row["limit"] if row["at_least"] else row["limit"] - metric["value"]
        assert row["met"] == ("met" if gap >= -1e-9 else "not met")
    assert summary["command"].endswith("--ablations random_attacks,fixed --set levels=[1,2]")
    assert "](summary.json)" in (done / "loop.md").read_text()
    assert "prompt" not in (done / "summary.json").read_text()


def test_every_answer_has_a_row_and_every_share_its_denominator(done: Path) -> None:
    rows = read(done / "answers.jsonl")
    for variant in ("full", "random_attacks", "fixed"):
        for probes, number, count in (
            ("gate", 0, 13),
            ("gate", 1, 13),
            ("gate", 2, 13),
            ("final", 0, 26),
            ("final", 2, 26),
        ):
            own = [r for r in rows if (r["variant"], r["set"], r["round"]) == (variant, probes, number)]
            assert len(own) == count
    base = [r for r in rows if (r["variant"], r["set"], r["round"]) == ("full", "final", 0)]
    unsafe = [r["violates"] for r in base if r["kind"] == "unsafe"]
    metrics = read(done / "metrics.jsonl")
    (metric,) = (
        m for m in metrics
        if (m["variant"], m["phase"], m["model"], m["name"]) == ("full", "final", "base", "attack_success")
        and not m["group"]
    )  # fmt: skip
    assert metric["n"] == len(unsafe) == 8
    judged = [v for v in unsafe if v is not None]
    assert metric["value"] == (pytest.approx(sum(judged) / len(judged)) if judged else None)
    if len(judged) == 8:
        assert metric["ci_low"] == pytest.approx(wilson(sum(judged), 8).low)
    plans = read(done / "plans.jsonl")
    assert [(p["variant"], p["round"]) for p in plans][:2] == [("full", 1), ("full", 2)]
    assert all(p["reviews"] <= 4 and set(p["reasons"]) >= {"levels", "budget", "beta"} for p in plans)
    fixed = [p["settings"]["levels"] for p in plans if p["variant"] == "fixed"]
    assert fixed == [[1, 2], [1, 2]]


def test_the_time_before_the_kill_counts(done: Path) -> None:
    phases = json.loads((done / "seed-0" / "full" / "phases.json").read_text())["round-1"]
    assert set(phases["done"]) == {"propose", "label", "learn"}
    assert set(phases["lost"]) == {"learn"}
    assert phases["done"]["learn"] > phases["lost"]["learn"] > 0
    plan = read(done / "plans.jsonl")[0]
    assert plan["seconds"] == phases["done"]


def test_a_run_cut_off_at_the_end_writes_the_same_report_without_a_new_round(done: Path) -> None:
    written = {name: (done / name).read_text() for name in ("answers.jsonl", "metrics.jsonl", "plans.jsonl", "loop.md")}
    weights = sorted((done / "seed-0").rglob("adapter_model.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    for name in ("summary.json", "loop.md", "answers.jsonl"):
        (done / name).unlink()
    (done / "seed-0" / "fixed" / "final.jsonl").unlink()
    assert main([*ALL, "--out", str(done)]) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert {name: (done / name).read_text() for name in written} == written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ablations", "nobody"], "ablation nobody is not known"),
        (["--set", "levels"], "is no NAME=JSON"),
        (["--set", "colour=1"], "no setting colour"),
        (["--seeds", "0"], "seeds is 0"),
        (["--profile", "gpu"], "--learner"),
    ],
)
def test_bad_arguments_are_one_clear_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--out", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err
