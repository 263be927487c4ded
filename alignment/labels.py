"""From the judgements of several people to one label a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alignment.metrics.error_rates import why_unfit
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
                votes={r: [v.violates[r] for v in own if r in v.violates] for r in responses},
                raters={r: [v.rater for v in own if r in v.violates] for r in responses},
            )
        )
    return labels


def soften(labels: Sequence[Label]) -> tuple[list[Label], str]:
    """`labels` with posteriors P(violates) where several judged an answer, and what was done, in words.

    The posterior is Dawid-Skene's, fitted on the votes of all `labels` with the answers that a lead decided as
    known truths. What a lead decided stays. An answer that everybody agreed on never leaves its side of 0.5: the
    model may doubt an approved result, not turn it (ours). Where no fit can be trusted (see
    `error_rates.why_unfit`: fewer than 20 overlapping answers, two raters, ...) each label keeps its mean.
    """
    votes = _read_votes(labels)
    truths = {(one.query, r): p >= 0.5 for one in labels if one.decided for r, p in one.violates.items()}
    shared = {(one.query, r) for one in labels for r in one.violates if len(one.raters.get(r, [])) >= 2}
    if not shared:
        return list(labels), "no answer was judged by two or more"
    table, items = _tabulate(votes)
    why = why_unfit(table, np.array([float(truths.get(item, np.nan)) for item in items]))
    if why:
        return list(labels), f"{len(shared)} overlapping answers by their mean: {why}"
    posterior = violation_chances(votes, min_overlap=0, truths=truths)
    softened = [one if one.decided else replace(one, violates=_soft(one, posterior, shared)) for one in labels]
    changed = sum(
        new.violates[r] != p for old, new in zip(labels, softened, strict=True) for r, p in old.violates.items()
    )
    people = len({vote.rater for vote in votes})
    return softened, f"{changed} of {len(shared)} overlapping answers softened by Dawid-Skene over {people} people"


def _read_votes(labels: Sequence[Label]) -> list[Vote]:
    """The judgements of every answer that a label names, one Vote a person and query."""
    said: dict[tuple[str, str], dict[str, bool]] = {}
    for label in labels:
        for response, raters in label.raters.items():
            if len(raters) != len(label.votes.get(response, [])):
                raise ValueError(f"{response}: {len(raters)} raters but {len(label.votes.get(response, []))} votes")
            for rater, violates in zip(raters, label.votes[response], strict=True):
                said.setdefault((label.query, rater), {})[response] = violates
    return [Vote(query, rater, violates) for (query, rater), violates in said.items()]


def _soft(label: Label, posterior: Mapping[tuple[str, str], float], shared: set[tuple[str, str]]) -> dict[str, float]:
    out = {}
    for response, p in label.violates.items():
        chance = posterior[label.query, response] if (label.query, response) in shared else p
        # 0.5 itself counts as a violation everywhere, so the fine side ends just below it.
        out[response] = max(chance, 0.5) if p == 1.0 else min(chance, 0.49) if p == 0.0 else chance
    return out


def violation_chances(
    votes: Sequence[Vote], *, min_overlap: int = MIN_OVERLAP, truths: Mapping[tuple[str, str], bool] | None = None
) -> dict[tuple[str, str], float]:
    """P(violates) by (query, response): mean of the votes, or Dawid-Skene's posterior for overlapping ones.

    `truths` are verdicts known from elsewhere, for the fit.
    """
    ballots: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for vote in votes:
        for response, violates in vote.violates.items():
            ballots.setdefault((vote.query, response), []).append((vote.rater, violates))
    chances = {key: float(np.mean([v for _, v in own])) for key, own in ballots.items()}
    overlapping = [key for key, own in ballots.items() if len(own) >= 2]
    both_sides = len({violates for own in ballots.values() for _, violates in own}) == 2
    if len(overlapping) >= min_overlap and both_sides:
        posterior = _dawid_skene(ballots, truths or {})
        chances.update({key: posterior[key] for key in overlapping})
    return chances


def ratings(votes: Sequence[Vote]) -> tuple[NDArray[np.float64], list[str]]:
    """([raters, responses] of 0, 1 and nan, the query of each response): the input of `metrics.agreement.alpha`."""
    table, items = _tabulate(votes)
    return table, [query for query, _ in items]


def _tabulate(votes: Sequence[Vote]) -> tuple[NDArray[np.float64], list[tuple[str, str]]]:
    raters = {rater: i for i, rater in enumerate(dict.fromkeys(v.rater for v in votes))}
    items = {k: i for i, k in enumerate(dict.fromkeys((v.query, r) for v in votes for r in v.violates))}
    table = np.full((len(raters), len(items)), np.nan)
    for vote in votes:
        for response, violates in vote.violates.items():
            table[raters[vote.rater], items[vote.query, response]] = float(violates)
    return table, list(items)


def _dawid_skene(
    ballots: dict[tuple[str, str], list[tuple[str, bool]]], truths: Mapping[tuple[str, str], bool]
) -> dict[tuple[str, str], float]:
    # Imported here: crowd-kit brings pandas, and most rounds have no overlapping reviews.
    import pandas as pd  # type: ignore[import-untyped]
    from crowdkit.aggregation import DawidSkene

    keys = list(ballots)
    rows = [(i, rater, violates) for i, key in enumerate(keys) for rater, violates in ballots[key]]
    table = pd.DataFrame(rows, columns=["task", "worker", "label"])
    known = pd.Series({i: truths[key] for i, key in enumerate(keys) if key in truths}, dtype=object)
    model = DawidSkene(n_iter=EM_STEPS)
    posterior = model.fit_predict_proba(table, true_labels=known if len(known) else None)
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
