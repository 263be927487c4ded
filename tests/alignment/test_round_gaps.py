"""The gaps that a round writes and the schedule of the next one reads."""

from __future__ import annotations

import math

import pytest

from alignment.metrics.gaps import agreement_gap, elicited_competence
from alignment.metrics.result import not_computable
from alignment.metrics.round_gaps import recovered_gaps, round_gaps
from alignment.records import Metric


def m(name: str, value: float, n: int = 100, span: float = 0.1) -> Metric:
    return Metric(name, value, value - span, value + span, n, 0)


def test_elicited_competence_is_pass_at_n() -> None:
    found = elicited_competence([[1, 0], [0, 0], [1, 1], [0, 1]])
    assert (found.value, found.n, found.reason) == (0.75, 4, "a proxy")
    assert found.ci_low is not None and found.ci_low < 0.75
    assert elicited_competence([[1], [0]]).value is None
    assert elicited_competence([]).reason == "there are no items"


def test_agreement_gap_is_a_difference_with_mover() -> None:
    found = agreement_gap(m("human_alpha", 0.8), m("critic_human_alpha", 0.5, n=40))
    assert found.value == pytest.approx(0.3) and found.n == 40
    assert found.ci_high == pytest.approx(0.3 + math.hypot(0.1, 0.1))
    why = agreement_gap(not_computable("human_alpha", "no item was rated by two or more"), m("c", 0.5)).reason
    assert why == "the agreement among people is not known: no item was rated by two or more"


def test_recovered_gap_of_either_objective() -> None:
    old = [m("attack_success", 0.8), m("competence", 0.3)]
    new = [m("attack_success", 0.4), m("competence", 0.45)]
    conformity, competence = recovered_gaps([m("elicitation_gap", 0.3)], old, new, seed=1)
    # Conformity 0.2 -> 0.6 of 1; competence 0.3 -> 0.45 of 0.6.
    assert (conformity.group, competence.group) == ("conformity", "competence")
    assert conformity.value == pytest.approx(0.5) and competence.value == pytest.approx(0.5)
    assert conformity.n == 100 and conformity.reason == "a proxy"
    assert conformity.ci_low is not None and conformity.ci_high is not None
    assert conformity.ci_low < 0.5 < conformity.ci_high


def test_what_is_not_known_has_a_reason() -> None:
    old = [m("attack_success", 0.8), m("competence", 0.3, n=20)]
    conformity, competence = recovered_gaps([m("elicitation_gap", 0.1)], old, old[1:], seed=1)
    assert conformity.reason == "conformity was not measured: it was not measured"
    assert competence.reason == "the ceiling 0.40 and the score before, 0.30, lie within noise (n 20)"
    assert recovered_gaps([], old, old, seed=1)[1].reason.startswith("the elicitation gap is not known: the round did")
    teacher, people, *_ = round_gaps([], old, old, [], seed=1)
    assert teacher.reason == "the student's capacity is not known: the round did not measure it"
    assert people.value is None and people.name == "agreement_gap"


def test_the_teacher_gap_is_capacity_minus_agreement_in_points() -> None:
    proposed = [m("elicited_competence", 0.4, n=20)]
    teacher = round_gaps(proposed, [], [], [m("critic_agreement_audit", 0.9, n=10)], seed=1)[0]
    assert teacher.value == pytest.approx(-50.0) and teacher.n == 10
    assert teacher.ci_low is not None and teacher.ci_low < -50
