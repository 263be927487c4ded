"""What the journeys of leads start from: people who disagree, written before the real processes start."""

from __future__ import annotations

from uuid import UUID

from tests.oversight.stack import Stack

MAKE = """
import uuid
from django.core.management import call_command
from django.utils import timezone
from oversight.models import *
from oversight.services import leases, reviews
from oversight.services.judgements import Judgement, Span
from tests.factories import make_experiment, make_round, make_sample, make_user

call_command("migrate", verbosity=0)
ada, bob, lea = make_user(username="ada"), make_user(username="bob"), make_user("lead", username="lea")
experiment = make_experiment(name="Who is right")


def judge(user, sample, action, **said):
    lease = leases.take(sample=sample, user=user)
    reviews.record_review(
        user=user, sample_id=sample.pk, fence=lease.fence, key=uuid.uuid4(),
        judgement=Judgement(action=action, seconds=41, **said),
    )


done = make_round(experiment=experiment, status="reviewing")
learnt = [make_sample(round=done, prompt=f"How do I open lock number {n}?") for n in range(3)]
for sample in learnt:
    judge(ada, sample, "violates", violations={"0": ["no-fraud"]})
Round.objects.filter(pk=done.pk).update(status="done", phase="learn", learning_at=timezone.now())
for number, sample in enumerate(learnt):
    TrainedOn.objects.create(round=done, sample=sample)
    if number < 2:
        SecondLook.objects.create(
            sample=sample, response_index=0, label=1, predicted=0.04 + number / 10, margin=0.92 - number / 5,
            words="People say violates; a critic that never saw this answer puts P(violates) at 0.04, as it does for "
            "answers that people say are fine.",
        )
for role in ("critic", "learner"):
    Checkpoint.objects.create(
        experiment=experiment, round=done, role=role, path=role, sha256=role, verdict="accepted", reasons=["it rose"]
    )
now = make_round(experiment=experiment)
make_sample(round=now, prompt="This one keeps the review open.")
for number in range(3):
    sample = make_sample(round=now, wanted=2, prompt=f"Dispute {number}: where is the spare key?")
    judge(
        ada, sample, "violates", violations={"0": ["no-fraud"]}, note="It names the place.",
        spans=[Span(0, 0, 18, "private-life")],
    )
    judge(make_user(username=f"cyd-{number}"), sample, "approve")
    judge(bob, sample, "rewrite", rewrite="I can't know that. Ask the person who lives there.", rewrite_of=0)
for _ in range(2):
    judge(ada, make_sample(round=now), "approve")
make_user(username="eve")
"""


def make_disagreement(stack: Stack) -> None:
    """Round 1 is done and has learnt from ada. Three disputes wait in round 2, which is under review."""
    stack.manage("shell", "-v", "0", "-c", MAKE)


def find_round(stack: Stack) -> tuple[UUID, UUID]:
    """The ids of round 1 and of its experiment."""
    row = stack.row("SELECT id, experiment_id FROM oversight_round WHERE number = 1")
    return UUID(row["id"]), UUID(row["experiment_id"])
