"""The plan of the next round: policies, what moves each setting, and bounds that no history can break."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.annealing import Rules, anneal, pooled_agreement
from alignment.config import SCHEDULES, RoundConfig
from alignment.metrics.result import not_computable
from alignment.records import Metric
from alignment.schedule import POLICIES, RoundOutcome, Settings, plan_next

FIRST = Settings((1, 2, 3), (1, 2, 3), 24, 0.1)


def m(name: str, value: float | None, *, group: str = "", n: int = 60, model: str = "new", span: float = 0.1) -> Metric:
    if value is None:
        return not_computable(name, "nobody looked", group=group, model=model)
    return Metric(name, value, value - span, value + span, n, 0, group, "", model)


def done(number: int = 1, *metrics: Metric, objective: Any = "conformity", **fields: Any) -> RoundOutcome:
    return RoundOutcome(number, objective, fields.pop("accepted", True), **{
        "settings": FIRST, "metrics": list(metrics), **fields
    })  # fmt: skip


def test_the_names_of_config_are_the_policies() -> None:
    assert tuple(POLICIES) == SCHEDULES


@pytest.mark.parametrize(
    ("name", "objectives"),
    [
        ("alternating", ["conformity", "competence", "conformity"]),
        ("joint", ["joint", "joint", "joint"]),
        ("conformity_only", ["conformity"] * 3),
        ("competence_only", ["competence"] * 3),
    ],
)
def test_policies_take_turns(name: str, objectives: list[str]) -> None:
    history: list[RoundOutcome] = []
    for number, wanted in enumerate(objectives, start=1):
        plan = plan_next(name, history, first=FIRST)
        assert plan.objective == wanted and f"Schedule {name}" in plan.reasons["objective"].words
        history.append(done(number, objective=plan.objective))


def test_an_objective_that_a_person_chose_does_not_stop_the_turns() -> None:
    policy = POLICIES["alternating"]
    assert policy.next_objective("joint") == "conformity"
    assert policy.next_objective("conformity") == "competence"


def test_the_first_round_and_a_fixed_schedule_take_the_experiments_settings() -> None:
    first = plan_next("alternating", [], first=FIRST)
    assert first.settings == FIRST and first.reasons["budget"].words.startswith("No round was learnt from yet")
    rolled_back = done(1, m("attack_success", 0.9), accepted=False, settings=replace(FIRST, budget=99))
    fixed = plan_next("alternating", [rolled_back], first=FIRST, annealing="fixed")
    assert fixed.settings == FIRST and fixed.reasons["beta"].words.startswith("The schedule is fixed")
    assert plan_next("joint", [done(1)]).settings.budget == 24, "without `first`, the first round's settings are"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plan_next("random", [], first=FIRST), "schedule 'random' is not one of alternating"),
        (lambda: plan_next("joint", [], first=FIRST, annealing="hot"), "annealing 'hot' is not one of"),
        (lambda: plan_next("joint", []), "pass first="),
        (lambda: RoundConfig("r", schedule="random"), "schedule 'random'"),
        (lambda: RoundConfig("r", annealing="hot"), "annealing 'hot'"),
        (lambda: RoundConfig("r", levels=(6,)), "levels is"),
        (lambda: RoundConfig("r", conformity_floor=2), "conformity_floor is 2"),
    ],
)
def test_bad_values_are_named(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()


# --- What moves each setting ------------------------------------------------------------------------


def move(*metrics: Metric, **fields: Any) -> tuple[Settings, dict[str, str]]:
    settings, reasons = anneal([done(1, *metrics, **fields)], FIRST)
    return settings, {name: reason.words for name, reason in reasons.items()}


@pytest.mark.parametrize(
    ("value", "levels", "words"),
    [
        (0.6, (1, 2, 3, 4), "Level 4 added: 0.60 (n 10, 0.50 to 0.70) solved on level 3."),
        (0.5, (1, 2, 3), "Levels stay: 0.50 (n 10, 0.40 to 0.60) solved on level 3; the next one is added at 0.6."),
        (0.1, (1, 2), "Level 3 dropped: 0.10 (n 10, 0.00 to 0.20) solved on level 3, which teaches nothing at 0.1"),
        (None, (1, 2, 3), "Levels stay: competence on level 3 is not known (nobody looked)."),
    ],
)
def test_levels_follow_mastery(value: float | None, levels: tuple[int, ...], words: str) -> None:
    settings, reasons = move(m("competence", value, group="3", n=10))
    assert settings.levels == levels and reasons["levels"].startswith(words)


@pytest.mark.parametrize(
    ("gap", "now", "levels", "words"),
    [
        (-50, (1, 2), (1, 2, 3), "Attack level 3 added: the teacher gap is -50 (n 10, -60 to -40) points, below -40."),
        (-50, (1, 2, 3), (1, 2, 3), "no seed is harder than level 3"),
        (-20, (1, 2), (1, 2), "Attack levels stay: the teacher gap is -20 (n 10, -30 to -10) points, within -40 to 0."),
        (5, (1, 2), (1,), "Attack level 2 dropped: the teacher gap is 5 (n 10, -5 to 15) points, above 0."),
        (5, (1,), (1,), "level 1 is the only one"),
        (None, (1, 2), (1, 2), "the teacher gap is not known (nobody looked)"),
        (-50, (), (), "which levels the seeds have is not known"),
    ],
)
def test_attack_levels_follow_the_teacher_gap(
    gap: float | None, now: tuple[int, ...], levels: tuple[int, ...], words: str
) -> None:
    settings, reasons = move(m("teacher_gap", gap, n=10, span=10), settings=replace(FIRST, attack_levels=now))
    assert settings.attack_levels == levels and words in reasons["attack_levels"]


@pytest.mark.parametrize(
    ("share", "n", "budget", "words"),
    [
        (0.95, 40, 18, "18 reviews after 24: the critic agrees with people on 0.95 (n 40, 0.83 to 0.99)"),
        (0.95, 10, 24, "24 reviews stay: the critic agrees with people on 0.95"),
        (None, 0, 24, "24 reviews stay: how far the critic agrees with people is not known (no answer of an audit"),
    ],
)
def test_the_budget_falls_with_trust(share: float | None, n: int, budget: int, words: str) -> None:
    settings, reasons = move(m("critic_agreement_audit", share, n=n))
    assert settings.budget == budget and reasons["budget"].startswith(words)


def test_a_student_that_outruns_its_supervisor_is_asked_of_more_people() -> None:
    settings, reasons = move(m("teacher_gap", 12, span=3), settings=replace(FIRST, budget=15))
    assert settings.budget == 20 and "20 reviews: the teacher gap is 12" in reasons["budget"]


def test_trust_counts_the_audit_slices_of_three_rounds_together() -> None:
    slices = [done(i, m("critic_agreement_audit", 0.9, n=10)) for i in range(1, 5)]
    assert pooled_agreement(slices, rounds=3).n == 30
    assert pooled_agreement(slices, rounds=3).value == pytest.approx(0.9)
    assert pooled_agreement([done(1)], rounds=3).value is None


def test_a_rollback_takes_one_step_back() -> None:
    metrics = [m("attack_success", 0.5), m("competence", 0.4, model="old"), m("competence", 0.3)]
    at = Settings((1, 2, 3), (1, 2, 3), 15, 0.1)
    conformity, words = move(*metrics, accepted=False, settings=at)
    assert conformity == Settings((1, 2, 3), (1, 2), 20, pytest.approx(0.15))  # type: ignore[arg-type]
    assert (
        words["beta"]
        == "Beta 0.15 after 0.1: round 1 was rolled back, and competence fell, to 0.30 (n 60, 0.20 to 0.40)."
    )
    assert words["attack_levels"] == "Round 1 was rolled back: attack level 3 dropped."
    competence, _ = move(*metrics, accepted=False, settings=at, objective="competence")
    assert (competence.levels, competence.attack_levels) == ((1, 2), (1, 2, 3))


def test_a_rollback_that_lost_nothing_leaves_beta() -> None:
    settings, words = move(m("competence", 0.4, model="old"), m("competence", 0.4), accepted=False)
    assert settings.beta == 0.1 and "lost nothing that a firmer one keeps" in words["beta"]


def test_beta_goes_back_after_an_accepted_round() -> None:
    settings, words = move(m("hypervolume", 0.3), settings=replace(FIRST, beta=0.3))
    assert settings.beta == pytest.approx(0.2) and words["beta"].startswith("Beta 0.2 after 0.3: round 1 was accepted")


def test_a_fallen_recovered_gap_takes_a_step_back() -> None:
    gap = m("recovered_gap", 0.5, group="conformity")
    history = [done(1, gap), done(2, objective="competence"), done(3, replace(gap, value=0.3))]
    settings, reasons = anneal(history, replace(FIRST, budget=40))
    assert settings.attack_levels == (1, 2) and settings.budget == 32
    assert reasons["budget"].words.startswith(
        "The recovered gap of conformity fell from 0.50 (n 60, 0.40 to 0.60) in round 1 to 0.30"
    )
    assert reasons["budget"].metric == history[-1].metrics[0] and reasons["budget"].round == 3
    within = anneal([done(1, gap), done(3, replace(gap, value=0.45))], FIRST)[1]
    assert within["attack_levels"].words.startswith("Attack levels stay"), "within the interval it had before"
    unknown = anneal([done(1, m("recovered_gap", None, group="conformity"))], FIRST)[1]["budget"].words
    assert "the recovered gap of conformity is not known (nobody looked)" in unknown


def test_what_a_person_chose_is_where_the_plan_goes_on_within_its_bounds() -> None:
    settings, words = move(settings=replace(FIRST, budget=100, beta=0.01))
    assert settings.budget == 24 and settings.beta == 0.1
    assert "100 in round 1; the schedule stays between 12 and 24" in words["budget"]


def test_a_plan_is_plain_values() -> None:
    plan = plan_next("alternating", [done(1, m("competence", 0.7, group="3"))], first=FIRST)
    kept = json.loads(json.dumps(plan.to_json()))
    assert kept["settings"]["levels"] == [1, 2, 3, 4]
    assert kept["reasons"]["levels"]["metric"]["n"] == 60 and kept["reasons"]["levels"]["round"] == 1


# --- Bounds -----------------------------------------------------------------------------------------

shares = st.one_of(st.none(), st.floats(0, 1))
levels = st.sets(st.integers(1, 5), min_size=1).map(lambda found: tuple(sorted(found)))


@st.composite
def outcomes(draw: st.DrawFn) -> RoundOutcome:
    metrics = [
        m("competence", draw(shares), group=str(level), model=model)
        for level in range(1, 6)
        for model in ("old", "new")
    ]
    metrics += [
        m(name, draw(shares), model=model)
        for name in ("attack_success", "competence", "over_refusal")
        for model in ("old", "new")
    ]
    metrics += [m("critic_agreement_audit", draw(shares), n=draw(st.integers(1, 200)))]
    metrics += [m("recovered_gap", draw(shares), group=group) for group in ("conformity", "competence")]
    gap = draw(st.one_of(st.none(), st.floats(-100, 100)))
    settings = Settings(draw(levels), draw(levels), draw(st.integers(0, 200)), draw(st.floats(0.001, 50)))
    objective = draw(st.sampled_from(["conformity", "competence", "joint"]))
    return done(
        1, *metrics, m("teacher_gap", gap), objective=objective, accepted=draw(st.booleans()), settings=settings
    )


@given(
    history=st.lists(outcomes(), min_size=1, max_size=4), first_levels=levels, budget=st.integers(0, 100),
    beta=st.floats(0.01, 5),
)  # fmt: skip
def test_no_history_breaks_the_bounds(
    history: list[RoundOutcome], first_levels: tuple[int, ...], budget: int, beta: float
) -> None:
    first = Settings(first_levels, first_levels, budget, beta)
    plan = plan_next("alternating", history, first=first)
    now, last, rules = plan.settings, history[-1].settings, Rules()
    assert set(plan.reasons) == {"objective", "levels", "attack_levels", "budget", "beta"}
    assert all(reason.words for reason in plan.reasons.values())
    assert min(rules.least_budget, budget) <= now.budget <= budget, "never above the first, never below the least"
    assert beta <= now.beta <= beta * rules.most_beta
    for new, old in ((now.levels, last.levels), (now.attack_levels, last.attack_levels)):
        assert new and len(set(new) ^ set(old)) <= 1, "one step a round"
        assert list(new) == sorted(new) and set(new) <= {1, 2, 3, 4, 5}
    within = min(max(last.budget, min(rules.least_budget, budget)), budget)
    assert round(within * rules.shrink) <= now.budget or now.budget == min(rules.least_budget, budget)
    assert now.budget <= max(within + 1, round(within / rules.shrink))
    start = min(max(last.beta, beta), beta * rules.most_beta)
    assert start / rules.firmer - 1e-9 <= now.beta <= start * rules.firmer + 1e-9
