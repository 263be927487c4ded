"""Roll back, or forward again: a person chooses what an experiment's next round starts from."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from oversight.events import publish
from oversight.models import Checkpoint, Experiment, Round, Start, User
from oversight.selectors.starts import describe_checkpoint, read_next_beginning
from oversight.services import audit
from oversight.services.round_rows import RoundRefused

LONGEST_REASON = 500


@transaction.atomic
def choose_start(
    *, experiment: Experiment, checkpoint: Checkpoint | None, user: User, reason: str, seen: str | None = None
) -> Start:
    """The next round starts from `checkpoint`, None being the base model. Choosing again undoes it.

    `seen` is the token of the beginning that the person was shown; where that has changed since, nothing is written.
    Raises RoundRefused with sentences for people. Locks the experiment, then its open round.
    """
    experiment = Experiment.objects.select_for_update().get(pk=experiment.pk)
    open_round = Round.objects.select_for_update().filter(experiment=experiment, status__in=Round.OPEN).first()
    now = read_next_beginning(experiment)
    reason = reason.replace("\x00", "").strip()
    problems = []
    if not reason:
        problems.append("Say why: the reason stands on the pages and in the audit log.")
    if len(reason) > LONGEST_REASON:
        problems.append(f"The reason has {len(reason)} characters; {LONGEST_REASON} are kept, so shorten it.")
    if checkpoint is not None and checkpoint.experiment_id != experiment.pk:
        problems.append(f"That checkpoint is of another experiment, not of {experiment.name}.")
    if checkpoint is not None and checkpoint.role != Checkpoint.Role.LEARNER:
        problems.append("A round starts from a learner's checkpoint; this one is a critic's.")
    if open_round is not None and open_round.phase == Round.Phase.LEARN:
        problems.append(f"Round {open_round.number} is learning; wait for its end, or cancel it.")
    if seen is not None and seen != now.token:
        problems.append("Somebody chose or launched meanwhile; look at what holds now, then choose again.")
    if problems:
        raise RoundRefused(*problems)
    start = Start(
        experiment=experiment, number=now.number, checkpoint=checkpoint, chosen_by=user, chosen_at=timezone.now(),
        reason=reason,
    )  # fmt: skip
    Start.objects.bulk_create(
        [start], update_conflicts=True, unique_fields=["experiment", "number"],
        update_fields=["checkpoint", "chosen_by", "chosen_at", "reason"],
    )  # fmt: skip
    audit.record(
        user.get_username(), "experiment.start", f"experiment:{experiment.pk}", round=now.number,
        checkpoint=str(checkpoint.pk) if checkpoint else "base", words=describe_checkpoint(checkpoint),
        before=now.words, reason=reason,
    )  # fmt: skip
    publish("round")
    return start
