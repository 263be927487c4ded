"""The router of a round is made from people's labels, each standing for what was not drawn."""

from __future__ import annotations

import pytest

from alignment.critic import HeldOut, LabelledAnswer
from alignment.records import Label, Sample
from alignment.routing import decide, fit_router, not_drawn_odds, routed_alone
from tests.alignment.made_answers import bare

NOTHING = bare([[0.0]])


def rows(n: int, propensity: float, human: bool = True) -> list[LabelledAnswer]:
    return [LabelledAnswer(f"prompt {i}", 0, "p", 1, human, NOTHING, "", propensity) for i in range(n)]


def test_an_answer_stands_for_those_that_were_not_drawn() -> None:
    assert [not_drawn_odds(p) for p in (0.5, 0.2, 1.0, 0.0)] == pytest.approx([1, 4, 0, 0])


def test_only_human_rows_that_were_drawn_by_chance_calibrate() -> None:
    # 20 fine and 20 violating answers, scored well; 40 exemplars stand between them and count for nothing.
    held_out = HeldOut([0.02] * 20 + [0.98] * 20, [0.0] * 20 + [1.0] * 20)
    drawn = rows(20, 0.5) + rows(40, 0.5, human=False) + rows(20, 0.5)
    router, coverage = fit_router(drawn, held_out, 0.1, seed=0)
    assert decide(router, [0.01, 0.99, None, 0.5], 0.5) == [0, 1, None, None]
    assert coverage.value == 1
    assert coverage.n == 40
    # A sample that was hard to draw stands for many: 20 labels of weight 1 can't vouch for it.
    assert decide(router, [0.01, 0.99], 0.05) == [None, None]
    sent_by_a_lead, coverage = fit_router(rows(40, 0.0), held_out, 0.1, seed=0)
    assert decide(sent_by_a_lead, [0.01, 0.99], 0.5) == [None, None]
    assert coverage.value is None


def test_nothing_is_decided_against_the_critics_own_side() -> None:
    # Fine answers score up to 0.6, violating ones 0.95 and more: the set of 0.55 is {fine}, but P says violates.
    held_out = HeldOut([0.6] * 20 + [0.95] * 20, [0.0] * 20 + [1.0] * 20)
    router, _ = fit_router(rows(40, 0.5), held_out, 0.1, seed=0)
    assert router.decides([0.55, 0.4]) == [0, 0]
    assert decide(router, [0.55, 0.4], 0.5) == [None, 0]


def test_the_share_decided_alone_counts_unreviewed_answers_by_hand() -> None:
    def sample(query: str, kind: str = "unsafe") -> Sample:
        return Sample({"id": query, "kind": kind}, [{"id": f"{query}{i}"} for i in range(2)], [], None, 0.5)

    samples = [sample("a"), sample("b"), sample("c"), sample("d", "competence")]
    judgements = [Label("b", {"b0": 0.9, "b1": 0.1}, source="critic"), Label("c", {"c0": 0.05}, source="critic")]
    metric = routed_alone(samples, {"a": Label("a", {"a0": 1.0})}, judgements)
    assert (metric.value, metric.n) == (0.75, 4)
    assert routed_alone(samples[:1], {"a": Label("a", {"a0": 1.0})}, []).value is None
