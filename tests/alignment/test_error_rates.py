"""Dawid-Skene: by hand, beside crowd-kit, and on raters whose error rates are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene

from alignment.metrics import error_rates as rates
from alignment.metrics.error_rates import error_rates, fit

NAN = float("nan")
THREE_BY_FOUR = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]]
ONCE = np.ones((4, 1))


def simulate(
    *, sensitivity: Any, specificity: Any, answers: int, votes: int, prior: float, seed: int
) -> tuple[Any, Any]:
    """(ratings [raters, answers], truth [answers]): `votes` raters drawn for each answer, erring independently."""
    rng = np.random.default_rng(seed)
    truth = rng.random(answers) < prior
    table = np.full((len(sensitivity), answers), NAN)
    for i, violates in enumerate(truth):
        for r in rng.choice(len(sensitivity), votes, replace=False):
            table[r, i] = rng.random() < (sensitivity[r] if violates else 1 - specificity[r])
    return table, truth


def decide_disagreements(table: Any, truth: Any) -> Any:
    """The truth of answers whose votes differ, as a lead would have decided them."""
    differ = (table == 1).any(axis=0) & (table == 0).any(axis=0)
    return np.where(differ, truth.astype(float), NAN)


def test_the_first_error_rates_come_from_the_majority_by_hand() -> None:
    """P(violates) starts as the share of votes: 1, 2/3, 1/3, 0.

    Rater 1 says "violates" of a and b: 1 + 2/3 of the 2 expected violations, so 5/6; rater 3 of a and c:
    (1 + 1/3) / 2 = 2/3. The table is symmetric, so specificity equals sensitivity.
    """
    first = fit(THREE_BY_FOUR, ONCE, steps=0)
    assert first.sensitivity_RD[:, 0] == pytest.approx([5 / 6, 5 / 6, 2 / 3])
    assert first.specificity_RD[:, 0] == pytest.approx([5 / 6, 5 / 6, 2 / 3])
    assert first.violating_RD[:, 0] == pytest.approx([2, 2, 2])


def test_one_em_step_by_hand() -> None:
    """Odds, the prior being 1/2: a 5 * 5 * 2 = 50; b 5 * 5 / 2 = 25/2; c the inverse of b, d of a.

    So P = 50/51, 25/27, 2/27, 1/51, and the sensitivities are (50/51 + 25/27) / 2 = 875/918 for raters
    1 and 2, and (50/51 + 2/27) / 2 = 242/459 for rater 3.
    """
    second = fit(THREE_BY_FOUR, ONCE, steps=1)
    assert second.posterior_ID[:, 0] == pytest.approx([50 / 51, 25 / 27, 2 / 27, 1 / 51])
    assert second.sensitivity_RD[:, 0] == pytest.approx([875 / 918, 875 / 918, 242 / 459])
    assert second.specificity_RD[:, 0] == pytest.approx([875 / 918, 875 / 918, 242 / 459])


def test_the_fixed_point_by_hand() -> None:
    """Raters 1 and 2 never err, 3 is right half the time: P = 1, 1, 0, 0 gives these rates and they give P."""
    last = fit(THREE_BY_FOUR, ONCE)
    assert last.posterior_ID[:, 0] == pytest.approx([1, 1, 0, 0], abs=1e-4)
    assert last.sensitivity_RD[:, 0] == pytest.approx([1, 1, 0.5], abs=1e-4)


def test_a_weight_is_a_copy_and_a_known_truth_stays() -> None:
    doubled = fit([[*row, row[1]] for row in THREE_BY_FOUR], np.ones((5, 1)), steps=3)
    weighed = fit(THREE_BY_FOUR, [[1, 1], [2, 1], [1, 1], [1, 1]], steps=3)
    alone = fit(THREE_BY_FOUR, ONCE, steps=3)
    assert weighed.sensitivity_RD[:, 0] == pytest.approx(doubled.sensitivity_RD[:, 0])
    assert weighed.sensitivity_RD[:, 1] == pytest.approx(alone.sensitivity_RD[:, 0])
    known = fit(THREE_BY_FOUR, ONCE, known_I=[NAN, 0, NAN, NAN])
    assert known.posterior_ID[1, 0] == 0.0


@pytest.mark.parametrize("with_truths", [False, True])
def test_it_does_what_crowd_kit_does(monkeypatch: pytest.MonkeyPatch, with_truths: bool) -> None:
    """Forty steps, none stopped early."""
    monkeypatch.setattr(rates, "TOLERANCE", 0.0)
    table, truth = simulate(
        sensitivity=[0.9, 0.8, 0.7, 0.95, 0.6], specificity=[0.9, 0.85, 0.8, 0.7, 0.95],
        answers=60, votes=3, prior=0.4, seed=1,
    )  # fmt: skip
    known = decide_disagreements(table, truth) if with_truths else np.full(60, NAN)
    rows = [(i, r, int(table[r, i])) for i in range(60) for r in range(5) if not np.isnan(table[r, i])]
    theirs = DawidSkene(n_iter=40, tol=-np.inf)
    given = {i: int(value) for i, value in enumerate(known) if not np.isnan(value)}
    posterior = theirs.fit_predict_proba(
        pd.DataFrame(rows, columns=["task", "worker", "label"]),
        true_labels=pd.Series(given, name="label").rename_axis("task") if given else None,
    )
    ours = fit(table, np.ones((60, 1)), known_I=known, steps=40)
    assert ours.posterior_ID[:, 0] == pytest.approx(posterior[1].sort_index().to_numpy(), abs=1e-6)
    assert theirs.errors_ is not None
    for r in range(5):
        assert ours.sensitivity_RD[r, 0] == pytest.approx(theirs.errors_.loc[(r, 1), 1], abs=1e-6)
        assert ours.specificity_RD[r, 0] == pytest.approx(theirs.errors_.loc[(r, 0), 0], abs=1e-6)


TRUE_SENSITIVITY = [0.95, 0.85, 0.75, 0.9, 0.8, 0.7]
TRUE_SPECIFICITY = [0.9, 0.95, 0.85, 0.98, 0.8, 0.92]


@pytest.mark.parametrize(("answers", "votes", "decide"), [(60, 3, False), (200, 3, False), (300, 2, True)])
def test_known_error_rates_are_recovered_and_covered(answers: int, votes: int, decide: bool) -> None:
    """Over 20 seeds and 6 raters: the 95 % intervals hold the truth in nine of ten cases at least."""
    held, errors = [], []
    for seed in range(20):
        table, truth = simulate(
            sensitivity=TRUE_SENSITIVITY, specificity=TRUE_SPECIFICITY,
            answers=answers, votes=votes, prior=0.4, seed=seed,
        )  # fmt: skip
        known = decide_disagreements(table, truth) if decide else None
        clusters = [str(i) for i in range(answers)]
        fitted = error_rates(table, clusters=clusters, known_I=known, seed=seed, draws=200)
        for pair, true_pair in zip(fitted, zip(TRUE_SENSITIVITY, TRUE_SPECIFICITY, strict=True), strict=True):
            for metric, true in zip(pair, true_pair, strict=True):
                if metric.value is None:
                    continue
                assert metric.ci_low is not None and metric.ci_high is not None
                held.append(metric.ci_low <= true <= metric.ci_high)
                errors.append(metric.value - true)
    assert len(held) >= 230
    assert np.mean(held) >= 0.9
    assert abs(np.mean(errors)) < 0.02


def test_two_votes_alone_mislead_and_a_third_or_a_decision_helps() -> None:
    """Why pairs of votes give no value: 4,000 of them still leave sensitivity 0.6 far off."""
    settings: dict[str, Any] = {"sensitivity": [0.6] * 6, "specificity": [0.97] * 6, "answers": 4000, "prior": 0.3}
    pairs, truth = simulate(**settings, votes=2, seed=1)
    triples, _ = simulate(**settings, votes=3, seed=1)
    once = np.ones((4000, 1))
    assert fit(pairs, once, steps=1000).sensitivity_RD.mean() > 0.7
    decided = fit(pairs, once, known_I=decide_disagreements(pairs, truth), steps=1000)
    assert decided.sensitivity_RD.mean() == pytest.approx(0.6, abs=0.03)
    assert fit(triples, once, steps=1000).sensitivity_RD.mean() == pytest.approx(0.6, abs=0.03)


def test_whoever_never_erred_has_an_interval_all_the_same() -> None:
    table, truth = simulate(
        sensitivity=[1.0, 0.8, 0.8], specificity=[1.0, 0.8, 0.8], answers=60, votes=3, prior=0.5, seed=3
    )
    perfect = np.vstack([truth.astype(float), table[1:]])
    sensitivity, _ = error_rates(perfect, clusters=[str(i) for i in range(60)], known_I=truth.astype(float), seed=0)[0]
    assert sensitivity.value == pytest.approx(1.0) and sensitivity.ci_low is not None
    assert 0.8 < sensitivity.ci_low < 0.95, "thirty right of thirty: Wilson's lower end is 0.886"


def table_of(answers: int, raters: int = 3) -> Any:
    rng = np.random.default_rng(0)
    return (rng.random((raters, answers)) < 0.5).astype(float)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (table_of(19), "19 answers were judged by two or more people; 20 are needed"),
        (table_of(40, raters=2), "2 people share answers; 3 are needed"),
        (np.ones((3, 40)), "nobody contradicted anybody"),
        (np.vstack([table_of(60, 2), np.where(np.arange(60) < 4, 1.0, NAN)]), "4 answers have three judgements"),
    ],
)
def test_it_says_why_there_is_no_value(table: Any, reason: str) -> None:
    for pair in error_rates(table, clusters=[str(i) for i in range(table.shape[1])], seed=0):
        for metric in pair:
            assert metric.value is None and reason in metric.reason


def test_a_person_with_few_shared_answers_has_no_value_beside_those_who_have() -> None:
    few = np.where(np.arange(60) < 9, 1.0, NAN)
    rows = error_rates(np.vstack([table_of(60), few]), clusters=[str(i) for i in range(60)], seed=0, draws=50)
    assert rows[0][0].value is not None and rows[0][0].n == 60
    assert "they judged 9 answers that others judged too; 10 are needed" in rows[3][0].reason


def test_nothing_gives_nothing() -> None:
    assert error_rates(np.empty((0, 0)), clusters=[], seed=0) == []
    with pytest.raises(ValueError, match="an answer without a rating"):
        fit([[NAN]], [[1.0]])
    with pytest.raises(ValueError, match="one row for each of 4 answers"):
        fit(THREE_BY_FOUR, np.ones((3, 1)))


def test_the_same_seed_gives_the_same_interval() -> None:
    clusters = [str(i // 2) for i in range(60)]
    first, again = (error_rates(table_of(60), clusters=clusters, seed=5, draws=100) for _ in range(2))
    assert first == again
    assert error_rates(table_of(60), clusters=clusters, seed=6, draws=100) != first
