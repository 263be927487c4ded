"""A merged model of a checkpoint: asked for by a person, made by a worker, kept until it is made anew.

`attempt` fences out a worker that was taken for dead: what an older one reports changes nothing.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from oversight.models import Checkpoint, Merge, User
from oversight.services import audit
from oversight.services.round_rows import RoundRefused, worker_problems

State = Merge.State


def is_lost(merge: Merge) -> bool:
    """Whether it runs, and nothing was heard of it for so long that no worker can be at it."""
    silent = (timezone.now() - merge.moved_at).total_seconds()
    return merge.state == State.RUNNING and silent > settings.LOST_AFTER_SECONDS


@transaction.atomic
def ask_merge(*, checkpoint: Checkpoint, user: User, gone: bool = False) -> Merge:
    """Queues the merge of a learner's checkpoint; again where it failed or was lost, or where it waits in vain.

    `gone`: the files of an earlier merge are not there any more.
    """
    checkpoint = Checkpoint.objects.select_for_update().get(pk=checkpoint.pk)
    if checkpoint.role != Checkpoint.Role.LEARNER:
        raise RoundRefused("Only a learner's checkpoint has weights to merge; a critic is a head on hidden states.")
    merge = Merge.objects.select_for_update().filter(checkpoint=checkpoint).first()
    if merge is not None and merge.state == State.DONE and not gone:
        raise RoundRefused("It is merged already; download it.")
    if merge is not None and merge.state == State.RUNNING and not is_lost(merge):
        raise RoundRefused("It is being merged now.")
    problems = worker_problems()
    if problems:
        raise RoundRefused(*problems)
    merge = merge or Merge(checkpoint=checkpoint, attempt=0)
    merge.attempt += 1
    merge.state, merge.words, merge.reason, merge.done, merge.total = State.QUEUED, "", "", 0, 0
    merge.asked_by, merge.moved_at = user, timezone.now()
    merge.save()
    audit.record(user.get_username(), "checkpoint.merge", f"checkpoint:{checkpoint.pk}", attempt=merge.attempt)
    merge_id, attempt = str(merge.pk), merge.attempt

    def send() -> None:
        from oversight.tasks import run_merge  # tasks import the code that merges, which imports this module

        try:
            run_merge.delay(merge_id, attempt)
        except OperationalError as error:
            finish_merge(UUID(merge_id), attempt, reason=f"The broker did not take the job ({error}); try again.")

    transaction.on_commit(send)
    return merge


def start_merge(merge_id: UUID, attempt: int) -> Merge | None:
    """Claims it; None where another attempt has it, or where it is over. One conditional write."""
    mine = Merge.objects.filter(pk=merge_id, attempt=attempt, state=State.QUEUED)
    if not mine.update(state=State.RUNNING, moved_at=timezone.now()):
        return None
    return Merge.objects.select_related("checkpoint__round__experiment").get(pk=merge_id)


def note_step(merge_id: UUID, attempt: int, *, done: int, total: int, words: str) -> bool:
    """False where this attempt is not wanted any more."""
    mine = Merge.objects.filter(pk=merge_id, attempt=attempt, state=State.RUNNING)
    return bool(mine.update(done=done, total=total, words=words[:200], moved_at=timezone.now()))


def finish_merge(merge_id: UUID, attempt: int, *, reason: str = "", sha256: str = "", size: int = 0) -> bool:
    """Done, or failed where there is a `reason`."""
    mine = Merge.objects.filter(pk=merge_id, attempt=attempt, state__in=(State.QUEUED, State.RUNNING))
    state = State.FAILED if reason else State.DONE
    return bool(mine.update(state=state, reason=reason, sha256=sha256, size=size, moved_at=timezone.now()))
