"""What a lead does about a label that looks wrong: ask one more person, or keep it. To change it they decide.

The review of the round has ended by then, so the new judgement is an extra one: it is shown beside the others and
makes no label. The label stands, and trains, until a lead decides otherwise (`adjudication.decide`).
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from oversight.events import publish
from oversight.models import Sample, SecondLook, User
from oversight.services import adjudication, audit, reviews
from oversight.services.adjudication import AdjudicationRefused

State = SecondLook.State


@transaction.atomic
def ask(*, user: User, sample_id: UUID) -> None:
    """The sample comes to one more person, before all that waits unassigned; not to `user`, nor to who answered it."""
    sample = reviews.lock_sample(sample_id)
    open_ = SecondLook.objects.filter(sample=sample, state__in=(State.OPEN, State.ANSWERED))
    if not open_.exists():
        raise AdjudicationRefused("Nothing is to be asked about this label: somebody dealt with it meanwhile.")
    if sample.status != Sample.Status.DECIDED:
        raise AdjudicationRefused(f"This sample is {sample.get_status_display().lower()} by now; its label is gone.")
    if not adjudication.list_unasked(sample, user=user):
        raise AdjudicationRefused("Everybody who reviews this category has answered it; decide it yourself.")
    open_.update(state=State.ASKED, asked_by=user)
    audit.record(user.get_username(), "second_look.ask", f"sample:{sample.pk}")
    publish("queue", str(sample.round_id))


@transaction.atomic
def keep(*, user: User, sample_id: UUID) -> None:
    """The label is right after all: it leaves the list."""
    sample = reviews.lock_sample(sample_id)
    if SecondLook.objects.filter(sample=sample).exclude(state=State.CLOSED).update(state=State.CLOSED):
        audit.record(user.get_username(), "second_look.keep", f"sample:{sample.pk}")
        publish("queue", str(sample.round_id))
