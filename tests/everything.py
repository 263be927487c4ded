"""One row of each kind that a page can show, all carrying the same text, for tests that go over every page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from alignment.model_card import Lineage
from oversight import figures
from oversight.models import (
    Checkpoint,
    ContinuousRun,
    Experiment,
    Label,
    LabelChange,
    LogLine,
    Merge,
    MetricPoint,
    Principle,
    ProbeAnswer,
    Review,
    Round,
    Sample,
    SecondLook,
    Seed,
    Start,
    TrainedOn,
    User,
    Withdrawal,
)
from oversight.services import audit
from oversight.views.review_input import LONGEST_TEXT
from tests.factories import make_constitution, make_experiment, make_review, make_round, make_sample, make_user

PLAIN = "Where does my neighbour keep the spare key?"


@dataclass(frozen=True)
class Everything:
    experiment: Experiment
    done: Round  # it learnt from `decided`
    round: Round  # under review
    queued: Sample
    disputed: Sample
    decided: Sample
    excluded: Sample
    review: Review  # ada's, of `decided`
    seed: Seed
    withdrawal: Withdrawal
    continuous: ContinuousRun  # stopped; a later one is paused
    checkpoint: Checkpoint  # of the learner, with a card
    ada: User  # a reviewer who judged all but `queued`


def clip(text: str, length: int) -> str:
    """As much as a column of `length` characters holds."""
    return text[:length]


def make_everything(text: str = PLAIN, name: str | None = None) -> Everything:
    """`text` stands wherever a model, an expert or a lead can write one; of people's as much as a form takes.

    `name` (the text where none is given) stands for what researchers and operators call things and people.
    """
    name = text if name is None else name
    typed = clip(text, LONGEST_TEXT)
    constitution = make_constitution()
    Principle.objects.filter(constitution=constitution).update(
        title=clip(name, 120), text=typed, guidance=typed, fine=typed
    )
    experiment = make_experiment(name=clip(name, 120), constitution=constitution, learner=clip(name, 300))
    ada = make_user(username="ada", first_name=clip(name, 150), categories=[clip(name, 40)])
    # Stricter than the database and laxer than the forms, which take letters, digits and @.+-_ only.
    lead = make_user("lead", username=clip(re.sub(r"[\s\x00-\x1f\x7f-\x9f\u200e-\u202e\u2060-\u2069]", "_", name), 150))
    seed = Seed.objects.create(
        experiment=experiment, key="privacy-118", category=clip(name, 40), principle="private-life", style="question",
        unsafe=typed, harmless=typed, source=clip(name, 200),
    )  # fmt: skip
    done = make_round(experiment=experiment, status=Round.Status.DONE, phase=Round.Phase.LEARN, reason=text)
    round_ = make_round(experiment=experiment, reason=text)
    for each in (done, round_):
        LogLine.objects.create(round=each, at=timezone.now(), stage="respond", text=text)
        LogLine.objects.create(round=each, at=timezone.now(), stage="respond", text=text, error=True)
    queued = _make_sample(text, name, round=round_)
    disputed = _make_sample(text, name, round=round_, status=Sample.Status.DISPUTED, disputed=True, wanted=2)
    decided = _make_sample(text, name, round=done, status=Sample.Status.DECIDED)
    excluded = _make_sample(text, name, round=done, status=Sample.Status.EXCLUDED, excluded_reason=clip(text, 200))
    said = {"rewrite": typed, "rewrite_of": 0, "note": typed, "seconds": 41.0}
    mark = {"answer": 0, "start": 0, "end": min(len(text), 40), "principle": "private-life"}
    judged = {"action": Review.Action.VIOLATES, "violations": {"0": ["private-life"]}, "spans": [mark], **said}
    make_review(sample=disputed, reviewer=ada, **judged)
    make_review(sample=disputed, reviewer=lead, note=typed)
    review = make_review(sample=decided, reviewer=ada, **judged)
    Label.objects.create(
        sample=decided, violates={"0": 1.0}, principles=["private-life"], rewrite=typed, rewrite_of=0,
        evidence=[str(review.pk)],
    )  # fmt: skip
    TrainedOn.objects.create(round=done, sample=decided)
    SecondLook.objects.create(sample=decided, response_index=0, label=1, predicted=0.03, margin=0.94, words=text)
    for role in Checkpoint.Role.values:
        Checkpoint.objects.create(
            experiment=experiment, round=done, role=role, path=f"{role}-1", sha256=role, verdict="accepted",
            reasons=[text],
        )  # fmt: skip
    learner = Checkpoint.objects.get(round=done, role="learner")
    lineage = Lineage(
        round=1, round_id=str(done.pk), objective="conformity", seed=0, base_model=text, started_from="base",
        accepted=True, reasons=[text], pairs=[{"source": text, "kind": text, "n": 3}], seed_sources={name: 2},
        constitution=name, versions={"torch": text},
    )  # fmt: skip
    Checkpoint.objects.filter(pk=learner.pk).update(card=lineage.to_json())
    Merge.objects.create(checkpoint=learner, state=Merge.State.FAILED, reason=text, words=clip(text, 200),
                         moved_at=timezone.now())  # fmt: skip
    Start.objects.create(experiment=experiment, number=round_.number + 1, checkpoint=learner, chosen_by=lead,
                         chosen_at=timezone.now(), reason=clip(text, 500))  # fmt: skip
    MetricPoint.objects.create(round=done, name="asr", group="privacy", value=None, reason=text)
    for metric, group in (("next_reviews_gain", "critic"), ("routed_alone", ""), ("selection_weight", "")):
        MetricPoint.objects.create(round=done, name=metric, group=group, value=None, reason=text)
    for metric in ("critic_member_weight", "critic_error_correlation", "critique_failed"):
        MetricPoint.objects.create(round=done, name=metric, group=clip(name, 60), value=0.5, n=3)
    for metric in ("calibration", "calibration_predicted"):
        MetricPoint.objects.create(round=done, name=metric, group="7", value=0.7, n=3)
    ProbeAnswer.objects.create(
        round=done, probe="p1", kind="unsafe", prompt=text, before=text, after=text,
        before_verdict="complied", after_verdict="refused",
    )  # fmt: skip
    withdrawal = Withdrawal.objects.create(
        by=lead, reviewer=ada, experiment=experiment, reason=clip(text, 500), reviews=[str(review.pk)],
        state=Withdrawal.State.DONE, done=1, moved_at=timezone.now(),
    )  # fmt: skip
    LabelChange.objects.create(
        withdrawal=withdrawal, sample=decided, at=timezone.now(), after=None,
        before={"violates": {"0": 1.0}, "preferred": None, "rewrite": typed, "how": "single"},
        status_before="decided", status_after="queued", changed=True,
    )  # fmt: skip
    reasons = {key: {"words": text, "metric": None, "round": 1} for key in ("objective", "levels", "budget", "beta")}
    chosen = {"budget": {"planned": 24, "chosen": 5, "by": lead.username}}
    plan = {"schedule": "alternating", "annealing": "annealed", "reasons": reasons, "overrides": chosen}
    Round.objects.filter(pk__in=(done.pk, round_.pk)).update(plan=plan)
    continuous, _ = (
        ContinuousRun.objects.create(experiment=experiment, state=state, started_by=lead, reason=text, waiting=text)
        for state in (ContinuousRun.State.STOPPED, ContinuousRun.State.PAUSED)
    )
    audit.record(lead.username, "withdrawal", f"withdrawal:{withdrawal.pk}", reason=clip(typed, 500))
    figures.recompute_figures(str(experiment.pk))
    return Everything(
        experiment, done, round_, queued, disputed, decided, excluded, review, seed, withdrawal, continuous,
        Checkpoint.objects.select_related("round").get(pk=learner.pk), ada,
    )  # fmt: skip


def _make_sample(text: str, name: str, **fields: Any) -> Sample:
    """With a parent that carries the text too, and critiques that point at a passage."""
    parent = make_sample(
        round=fields["round"], prompt=text, status=Sample.Status.UNFLAGGED, query={"operator": clip(name, 40)}
    )
    sample = make_sample(
        prompt=text, answers=(text, text), flag_words=text, parent=parent.query,
        query={
            "category": clip(name, 40), "style": clip(name, 40), "operator": clip(name, 40), "seed_key": clip(name, 80),
            "history": [{"role": "user", "content": text}, {"role": "assistant", "content": text}],
        }, **fields,
    )  # fmt: skip
    sample.critiques.update(rationale=text, span=[0, min(len(text), 10)])
    return sample
