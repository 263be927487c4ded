"""Figures about the people of an experiment: rows -> `alignment.reliability` -> ReviewFigures.

Runs in a worker of the queue `default`; the science is imported when a recomputation starts.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID

from django.core.cache import cache
from django.db.models import QuerySet
from django.utils import timezone

from oversight.models import Critique, Experiment, Label, Review, ReviewFigures, Sample
from oversight.selectors.reviewers import VERSION, is_fresh, read_seen, reviews_of
from oversight.services.labels import JUDGEMENTS, TAKEN_BACK
from oversight.services.reviewers import COMPUTING_SECONDS, computing_key

if TYPE_CHECKING:
    from alignment.judgements import Judgement

log = logging.getLogger(__name__)
Purpose = Review.Purpose


def recompute_figures(experiment_id: str) -> bool:
    """Computes and stores the figures of an experiment. False where the stored ones have seen everything."""
    experiment = Experiment.objects.filter(pk=experiment_id).first()
    if experiment is None:
        return False
    key = computing_key(experiment.pk)
    cache.set(key, True, COMPUTING_SECONDS)
    try:
        return _recompute(experiment)
    finally:
        cache.delete(key)


def _recompute(experiment: Experiment) -> bool:
    from alignment.reliability import compute_figures

    # Counted before the rows are read: a judgement that arrives meanwhile makes the result stale, not wrong.
    seen = read_seen(experiment)
    row = ReviewFigures.objects.filter(experiment=experiment).first()
    if is_fresh(row, seen):
        return False
    reviews = read_reviews(experiment)
    if row and row.reviews == len(reviews) and is_fresh(row, replace(seen, entries=row.figures.get("entries"))):
        # What came since is of other experiments.
        row.figures["entries"] = seen.entries
        row.save(update_fields=["figures"])
        return False
    started = time.monotonic()
    figures = compute_figures(list_judgements(experiment, reviews), seed=experiment.seed)
    stored = {"version": VERSION, **vars(seen), "standing": count_standing(reviews), **figures.to_json()}
    ReviewFigures.objects.update_or_create(
        experiment=experiment, defaults={"computed_at": timezone.now(), "reviews": len(reviews), "figures": stored}
    )
    log.info("figures of %s: %d reviews, %.1f s", experiment, len(reviews), time.monotonic() - started)
    return True


@dataclass
class Chain:
    """What one person did with one sample, as a review or as a test, oldest first."""

    judgements: list[Review] = field(default_factory=list)

    def standing(self, taken_back: set[UUID]) -> Review | None:
        """What stands now; a lead's decision that supersedes the own review leaves it standing here."""
        corrected = {review.supersedes_id for review in self.judgements}
        stands = [r for r in self.judgements if r.pk not in corrected and r.pk not in taken_back]
        return stands[-1] if stands else None

    def first(self) -> Review:
        """The last one made before the critic's verdict was shown, for a slip may be mended blind; else the first."""
        blind = [review for review in self.judgements if not review.saw_critic]
        return blind[-1] if blind else self.judgements[0]


@dataclass(frozen=True)
class Facts:
    """What is known of a sample beside the judgements."""

    round: int
    principle: str
    answers: int
    critic: dict[int, bool]
    expected: dict[int, bool]  # from its label, where it is gold


def read_reviews(experiment: Experiment) -> list[Review]:
    """Every entry of the experiment, oldest first, without its texts."""
    reviews = reviews_of(experiment).order_by("created_at", "id")
    return list(
        reviews.only(
            "sample", "reviewer", "action", "purpose", "violations", "saw_critic", "seconds", "supersedes", "created_at"
        )
    )


def count_standing(reviews: list[Review]) -> dict[int, int]:
    """Judgements that stand, decisions included, by the reviewer's primary key."""
    superseded = {review.supersedes_id for review in reviews}
    return Counter(r.reviewer_id for r in reviews if r.action in JUDGEMENTS and r.pk not in superseded)


def list_judgements(experiment: Experiment, reviews: list[Review]) -> list[Judgement]:
    """Every person's standing work on every sample that is not excluded, in the order of the first judgements."""
    from alignment.judgements import Judgement

    facts = _read_facts(experiment)
    chains: dict[tuple[int, UUID, str], Chain] = defaultdict(Chain)
    decisions: dict[UUID, list[Review]] = defaultdict(list)
    taken_back: set[UUID] = set()
    for review in reviews:
        if review.action in TAKEN_BACK and review.supersedes_id:
            taken_back.add(review.supersedes_id)
        elif review.action in JUDGEMENTS and review.purpose == Purpose.ADJUDICATION:
            decisions[review.sample_id].append(review)
        elif review.action in JUDGEMENTS:
            chains[review.reviewer_id, review.sample_id, review.purpose].judgements.append(review)
    rows = []
    for (reviewer, sample, purpose), chain in chains.items():
        standing, first = chain.standing(taken_back), chain.first()
        known = facts.get(sample)
        if standing is None or known is None:
            continue
        decided = Chain([r for r in decisions[sample] if r.reviewer_id != reviewer]).standing(taken_back)
        rows.append(
            Judgement(
                rater=str(reviewer),
                sample=str(sample),
                round=known.round,
                principle=known.principle,
                purpose="gold" if purpose == Purpose.GOLD else "review",
                blind=not first.saw_critic,
                first=_verdicts(first, known.answers),
                standing=_verdicts(standing, known.answers),
                critic=known.critic,
                decided=_verdicts(decided, known.answers) if decided else {},
                expected=known.expected,
                seconds=first.seconds,
            )
        )
    return rows


# --- Parts ------------------------------------------------------------------------------------------


def _read_facts(experiment: Experiment) -> dict[UUID, Facts]:
    samples = _judged(experiment)
    critic: dict[UUID, dict[int, bool]] = defaultdict(dict)
    verdicts = Critique.objects.filter(sample__in=samples.values("pk"), violation__isnull=False)
    for sample, index, violation in verdicts.order_by("created_at").values_list(
        "sample", "response_index", "violation"
    ):
        assert violation is not None  # the filter leaves these out
        critic[sample].setdefault(index, violation >= 0.5)  # the first one is what people were shown
    expected: dict[UUID, dict[int, bool]] = {}
    for sample, violates in Label.objects.filter(
        sample__in=Sample.objects.filter(experiment=experiment, gold=True).values("pk")
    ).values_list("sample", "violates"):
        expected[sample] = {int(index): p > 0.5 for index, p in violates.items() if p != 0.5}
    rows = samples.values_list("pk", "round__number", "principle", "responses").iterator()
    return {
        pk: Facts(number, principle, len(responses), critic.get(pk, {}), expected.get(pk, {}))
        for pk, number, principle, responses in rows
    }


def _judged(experiment: Experiment) -> QuerySet[Sample]:
    reviewed = Review.objects.order_by().values("sample")
    return Sample.objects.filter(experiment=experiment, pk__in=reviewed).exclude(status=Sample.Status.EXCLUDED)


def _verdicts(review: Review, answers: int) -> dict[int, bool]:
    said = {index: review.says_violates(index) for index in range(answers)}
    return {index: verdict for index, verdict in said.items() if verdict is not None}
