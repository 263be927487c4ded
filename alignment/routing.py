"""What the critic decides alone in a round: a conformal router on people's labels, and how far it kept its promise.

Calibration answers are those that people judged, with the critic's cross-validated predictions. They were drawn
with unequal chances, and what is left to decide is what was not drawn: each stands for (1 - pi) / pi of those.
Cross-validated predictions stand in for those of a critic fitted without them, so the promise is approximate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignment.conformal import Router, routing_coverage
from alignment.critic import HeldOut, LabelledAnswer
from alignment.metrics.result import measured, not_computable
from alignment.records import Label, Metric, Sample


def fit_router(rows: Sequence[LabelledAnswer], held_out: HeldOut, alpha: float, *, seed: int) -> tuple[Router, Metric]:
    """(router, routing_coverage) from the human rows of `rows`, in the order of `held_out`; the risk holds by class."""
    asked = [row for row in rows if row.human]
    odds = [not_drawn_odds(row.propensity) for row in asked]
    router = Router.fit(held_out.predicted, held_out.observed, alpha, odds, by_class=True)
    coverage = routing_coverage(
        held_out.predicted, held_out.observed, alpha, seed=seed,
        weights=odds, groups=[row.prompt for row in asked], by_class=True,
    )  # fmt: skip
    return router, coverage


def not_drawn_odds(propensity: float) -> float:
    """(1 - pi) / pi: how many undrawn answers a drawn one stands for; 0 where it was not drawn by chance."""
    return (1 - propensity) / propensity if 0 < propensity < 1 else 0.0


def decide(router: Router, violations: Sequence[float | None], propensity: float) -> list[int | None]:
    """The critic's verdict on each answer of a sample, by its P(violates); None where people must decide.

    Nothing is decided against the side of 0.5 that P lies on, though the set may say so.
    """
    p = np.array([np.nan if v is None else v for v in violations])
    verdicts = router.decides(p, np.full(len(p), not_drawn_odds(propensity)))
    return [verdict if verdict == int(value >= 0.5) else None for verdict, value in zip(verdicts, p, strict=True)]


def routed_alone(samples: Sequence[Sample], labels: dict[str, Label], judgements: Sequence[Label]) -> Metric:
    """Share of the unreviewed answers that the critic decided alone; no interval, for these are all of them.

    Answers checked by program are left out. None unreviewed: no value.
    """
    rest = [s for s in samples if s.query["id"] not in labels and s.query["kind"] != "competence"]
    n = sum(len(s.responses) for s in rest)
    if not n:
        return not_computable("routed_alone", "people reviewed every sample")
    return measured("routed_alone", sum(len(label.violates) for label in judgements) / n, None, n)
