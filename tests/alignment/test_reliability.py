"""The figures about people: agreement by hand, tests, time, and who follows the critic."""

from __future__ import annotations

from typing import Any

import pytest

from alignment.automation_bias import automation_bias, list_switches
from alignment.judgements import Judgement
from alignment.metrics.rates import wilson
from alignment.reliability import blind_alpha, compute_figures, list_gold_answers, quartiles


def judge(rater: str, sample: str, *verdicts: bool | int | None, **fields: Any) -> Judgement:
    """A blind first judgement of answers 0, 1, ...; None says nothing of the answer."""
    first = {index: bool(verdict) for index, verdict in enumerate(verdicts) if verdict is not None}
    given: dict[str, Any] = {
        "round": 1, "principle": "private-life", "purpose": "review", "blind": True, "standing": first, **fields,
    }  # fmt: skip
    return Judgement(rater=rater, sample=sample, first=first, **given)


# --- Agreement --------------------------------------------------------------------------------------

WORKED = {"ada": [1, 1, 0, 0, 1, None], "ben": [1, 0, 0, None, 1, None], "cleo": [None, 1, 0, 1, 1, 1]}


def worked() -> list[Judgement]:
    return [judge(r, f"s{i}", v) for r, row in WORKED.items() for i, v in enumerate(row) if v is not None]


def test_alpha_with_missing_values_by_hand() -> None:
    """Six answers, three people, five judgements missing; the sixth has one judgement and drops out.

        ada   1 1 0 0 1 .      An answer with m judgements adds each ordered pair of them with weight
        ben   1 0 0 . 1 .      1 / (m - 1) to the coincidences:
        cleo  . 1 0 1 1 1        s0 (1 1)    11: 2
                                 s1 (1 0 1)  11: 1   10: 1   01: 1
                                 s2 (0 0 0)  00: 3
                                 s3 (0 1)            10: 1   01: 1
                                 s4 (1 1 1)  11: 3
    Matrix: o11 = 6, o00 = 3, o01 = o10 = 2; n1 = 8, n0 = 5, n = 13.
    alpha = 1 - (n - 1) * o01 / (n0 * n1) = 1 - 12 * 2 / 40 = 0.4.
    """
    metric = blind_alpha(worked(), seed=1)
    assert metric.value == pytest.approx(0.4)
    assert metric.n == 5
    assert metric.ci_low is not None and metric.ci_low < 0.4 < (metric.ci_high or 0)


def test_only_blind_first_judgements_of_reviews_count_for_alpha() -> None:
    noise = [
        judge("dan", "s0", 0, blind=False),
        judge("dan", "s1", 0, purpose="gold", expected={0: True}),
        judge("dan", "s2"),  # a preference: it judges no answer
    ]
    assert compute_figures([*worked(), *noise], seed=1, draws=50).alpha.value == pytest.approx(0.4)


def test_what_was_revised_later_does_not_count_for_alpha() -> None:
    revised = [judge(j.rater, j.sample, *j.first.values(), standing={0: True}) for j in worked()]
    assert compute_figures(revised, seed=1, draws=50).alpha.value == pytest.approx(0.4)


def test_alpha_by_round_and_by_principle() -> None:
    second = [judge(j.rater, f"again-{j.sample}", *j.first.values(), round=10, principle="no-fraud") for j in worked()]
    first = [judge(j.rater, j.sample, *j.first.values(), round=2) for j in worked()]
    lonely = judge("ada", "alone", 1, round=3, principle="")
    figures = compute_figures([*second, *first, lonely], seed=1, draws=50)
    assert [(m.group, m.n) for m in figures.alpha_by_round] == [("2", 5), ("3", 0), ("10", 5)]
    assert figures.alpha_by_round[0].value == pytest.approx(0.4)
    assert "no item was rated by two or more" in figures.alpha_by_round[1].reason
    assert [m.group for m in figures.alpha_by_principle] == ["no-fraud", "private-life"]


# --- Each person ------------------------------------------------------------------------------------


def test_gold_answers_are_first_tries_against_the_known_label() -> None:
    rows = [
        judge("ada", "g1", 1, 0, purpose="gold", expected={0: True, 1: True}, standing={0: True, 1: True}),
        judge("ada", "g2", 0, purpose="gold", expected={0: False}),
        judge("ada", "g3", 1, purpose="gold"),  # its label says nothing of the answer
        judge("ada", "s1", 1, expected={0: False}),  # judged before it became a test
    ]
    golds = list_gold_answers(rows)
    assert [(g.sample, g.answer, g.said, g.expected) for g in golds] == [
        ("g1", 0, True, True), ("g1", 1, False, True), ("g2", 0, False, False),
    ]  # fmt: skip
    (ada,) = compute_figures(rows, seed=0).raters
    interval = wilson(2, 3)
    assert (ada.gold.value, ada.gold.n) == (pytest.approx(2 / 3), 3)
    assert (ada.gold.ci_low, ada.gold.ci_high) == (interval.low, interval.high)
    assert ada.judgements == 4


def test_shared_answers_and_time() -> None:
    rows = [judge("ada", f"s{i}", 1, 0, seconds=float(s)) for i, s in enumerate([4, 8, 12, 16, 100])]
    rows += [judge("ben", "s0", 1), judge("ben", "s1", 0, 0, blind=False)]
    ada, ben = compute_figures(rows, seed=0).raters
    assert (ada.shared, ben.shared) == (1, 1), "only answer 0 of s0 was judged blind by both"
    assert ada.seconds == [8, 12, 16] and ben.seconds is None
    assert quartiles([1, 2]) == [1.25, 1.5, 1.75]


def test_two_judgements_where_one_is_meant_are_an_error() -> None:
    with pytest.raises(ValueError, match="'ada' has two review judgements of 's'"):
        compute_figures([judge("ada", "s", 1), judge("ada", "s", 0)], seed=0)


def test_nobody_gives_reasons() -> None:
    figures = compute_figures([], seed=0)
    assert figures.raters == [] and figures.alpha.value is None and figures.alpha.reason
    assert figures.bias.switched.reason == "the critic contradicted no blind judgement"


# --- Automation bias --------------------------------------------------------------------------------


def contradicted(sample: str, *, now: bool | None, **fields: Any) -> Judgement:
    """Ada found answer 0 fine, the critic a violation; `now` is what she says since."""
    return judge("ada", sample, 0, critic={0: True}, standing={} if now is None else {0: now}, **fields)


def test_automation_bias_by_hand() -> None:
    """Six contradicted; four gave way; of these one the critic had wrong, two right, one nobody decided."""
    rows = [
        contradicted("kept", now=False),
        contradicted("vague", now=None),  # revised to a preference: not what the critic says
        contradicted("wrong", now=True, decided={0: False}),
        contradicted("right", now=True, decided={0: True}),
        contradicted("gold", now=True, purpose="gold", expected={0: True}),
        contradicted("open", now=True),
        judge("ada", "agreed", 1, critic={0: True}),
        judge("ada", "no verdict", 0),
        contradicted("seen", now=True, blind=False),
    ]
    bias = automation_bias(rows)
    assert (bias.switched.value, bias.switched.n) == (pytest.approx(4 / 6), 6)
    assert (bias.switched.ci_low, bias.switched.ci_high) == (wilson(4, 6).low, wilson(4, 6).high)
    assert (bias.misled.value, bias.misled.n, bias.undecided) == (pytest.approx(1 / 3), 3, 1)
    found = [(s.sample, s.critic_was_wrong) for s in list_switches(rows)]
    assert found == [("wrong", True), ("right", False), ("gold", False), ("open", None)]


def test_a_leads_decision_comes_before_the_gold_label() -> None:
    row = contradicted("s", now=True, decided={0: False}, expected={0: True})
    assert list_switches([row])[0].critic_was_wrong is True


def test_without_switches_or_decisions_it_says_so() -> None:
    assert automation_bias([contradicted("s", now=False)]).misled.reason == "nobody switched to the critic"
    open_ones = automation_bias([contradicted("s", now=True), contradicted("t", now=True)])
    assert open_ones.misled.reason == "no lead has decided any of the 2 switches" and open_ones.undecided == 2


def test_bias_is_each_persons_and_everybodys() -> None:
    ben = judge("ben", "b", 0, critic={0: True})
    figures = compute_figures([contradicted("s", now=True), ben], seed=0)
    assert [r.bias.switched.value for r in figures.raters] == [1.0, 0.0]
    assert (figures.bias.switched.value, figures.bias.switched.n) == (0.5, 2)
    assert [s.sample for s in figures.raters[0].switches] == ["s"]
