"""From the judgements of several people to one label a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alignment.records import Label

MIN_OVERLAP = 20  # answers with two judgements or more, below which rater error rates cannot be fitted
EM_STEPS = 100


@dataclass(frozen=True)
class Vote:
    """One person's judgement of one sample. `violates` maps the ids of the judged responses to the verdict."""

    query: str
    rater: str
    violates: dict[str, bool]
    principles: list[str] = field(default_factory=list)
    preferred: str | None = None
    rewrite: str | None = None
    audit: bool = False


def aggregate(
    votes: Sequence[Vote], *, source: Literal["human", "critic", "simulated"] = "human", min_overlap: int = MIN_OVERLAP
) -> list[Label]:
    """One Label a query, in order of first appearance. P(violates) is soft. Empty input: an empty list.

    An answer judged once keeps its verdict; judged more often, the mean of its votes, or, where at least
    `min_overlap` answers were, the posterior of a Dawid-Skene model (1979) fitted on all votes, which
    weighs raters by how often they err. Principles are those that half or more of the people who saw a
    violation named, or else the most named. `preferred` needs a strict majority of those who preferred one.
    The last rewrite is kept.
    """
    seen: set[tuple[str, str]] = set()
    for vote in votes:
        if (vote.query, vote.rater) in seen:
            raise ValueError(f"{vote.rater!r} judged {vote.query!r} twice; pass only the judgement that stands")
        seen.add((vote.query, vote.rater))
    chances = violation_chances(votes, min_overlap=min_overlap)
    by_query: dict[str, list[Vote]] = {}
    for vote in votes:
        by_query.setdefault(vote.query, []).append(vote)
    labels = []
    for query, own in by_query.items():
        responses = dict.fromkeys(r for vote in own for r in vote.violates)
        rewrites = [vote.rewrite for vote in own if vote.rewrite]
        labels.append(
            Label(
                query=query,
                violates={r: chances[query, r] for r in responses},
                principles=_principles(own),
                preferred=_majority([vote.preferred for vote in own if vote.preferred]),
                rewrite=rewrites[-1] if rewrites else None,
                source=source,
                reviews=len(own),
                audit=any(vote.audit for vote in own),
            )
        )
    return labels


def violation_chances(votes: Sequence[Vote], *, min_overlap: int = MIN_OVERLAP) -> dict[tuple[str, str], float]:
    """P(violates) by (query, response): mean of the votes, or Dawid-Skene's posterior for overlapping ones."""
    ballots: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for vote in votes:
        for response, violates in vote.violates.items():
            ballots.setdefault((vote.query, response), []).append((vote.rater, violates))
    chances = {key: float(np.mean([v for _, v in own])) for key, own in ballots.items()}
    overlapping = [key for key, own in ballots.items() if len(own) >= 2]
    both_sides = len({violates for own in ballots.values() for _, violates in own}) == 2
    if len(overlapping) >= min_overlap and both_sides:
        posterior = _dawid_skene(ballots)
        chances.update({key: posterior[key] for key in overlapping})
    return chances


def ratings(votes: Sequence[Vote]) -> tuple[NDArray[np.float64], list[str]]:
    """([raters, responses] of 0, 1 and nan, the query of each response): the input of `metrics.agreement.alpha`."""
    raters = {rater: i for i, rater in enumerate(dict.fromkeys(v.rater for v in votes))}
    items = {k: i for i, k in enumerate(dict.fromkeys((v.query, r) for v in votes for r in v.violates))}
    table = np.full((len(raters), len(items)), np.nan)
    for vote in votes:
        for response, violates in vote.violates.items():
            table[raters[vote.rater], items[vote.query, response]] = float(violates)
    return table, [query for query, _ in items]


def _dawid_skene(ballots: dict[tuple[str, str], list[tuple[str, bool]]]) -> dict[tuple[str, str], float]:
    # Imported here: crowd-kit brings pandas, and most rounds have no overlapping reviews.
    import pandas as pd  # type: ignore[import-untyped]
    from crowdkit.aggregation import DawidSkene

    keys = list(ballots)
    rows = [(i, rater, violates) for i, key in enumerate(keys) for rater, violates in ballots[key]]
    table = pd.DataFrame(rows, columns=["task", "worker", "label"])
    posterior = DawidSkene(n_iter=EM_STEPS).fit_predict_proba(table)
    column = posterior[True].to_dict()
    return {key: float(column[i]) for i, key in enumerate(keys)}


def _principles(votes: list[Vote]) -> list[str]:
    naming = [vote.principles for vote in votes if any(vote.violates.values()) and vote.principles]
    counts = Counter(p for principles in naming for p in dict.fromkeys(principles))
    if not counts:
        return []
    agreed = [p for p, count in counts.items() if 2 * count >= len(naming)]
    return agreed or [counts.most_common(1)[0][0]]


def _majority(preferred: list[str]) -> str | None:
    if not preferred:
        return None
    response, count = Counter(preferred).most_common(1)[0]
    return response if 2 * count > len(preferred) else None
