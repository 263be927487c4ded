"""What a first start finds on an empty database, and what a start does with the rounds of the last one."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from redis.exceptions import RedisError

from oversight import workers
from oversight.models import Experiment, Role, Round, User
from oversight.services import accounts, audit, following, launching, people, rounds, seeds
from oversight.services.round_rows import RoundRefused
from oversight.watch import send_lost_messages

ADMIN = "admin"
DEMO = "Laptop demo"


@transaction.atomic
def make_demo() -> Experiment | None:
    """The administrator where there is no operator, and the demo experiment where there is none at all."""
    if not User.objects.filter(role=Role.OPERATOR, is_active=True).exists():
        people.invite_user(username=ADMIN, role=Role.OPERATOR, actor="system")
    if Experiment.objects.exists():
        return None
    experiment = Experiment.objects.create(
        name=DEMO,
        constitution=seeds.load_shipped_constitution(),
        profile=settings.PROFILE,
        learner=settings.LEARNER_MODEL,
        critic=settings.CRITIC_MODEL,
        attacker=settings.ATTACKER_MODEL,
        judge=settings.JUDGE_MODEL,
    )
    count = seeds.load_shipped_seeds(experiment)
    audit.record("system", "experiment.create", f"experiment:{experiment.pk}", name=DEMO, seeds=count)
    return experiment


def admin_link(base_url: str) -> str:
    """A new one-time link for the first operator."""
    operators = User.objects.filter(role=Role.OPERATOR, is_active=True)
    user = operators.filter(username=ADMIN).first() or operators.order_by("pk")[0]
    return accounts.make_sign_in_link(user=user, base_url=base_url)


def workers_listen() -> bool:
    try:
        return bool(workers.listening("gpu"))
    except RedisError:
        return False


def fail_interrupted_rounds() -> list[Round]:
    """Ends what is marked as running. Only for a start on which no worker can be at work."""
    interrupted = list(Round.objects.filter(status__in=(Round.Status.PROPOSING, Round.Status.LEARNING)))
    for round in interrupted:
        reason = f"Oversight was stopped during stage {round.stage or 'load'} of the {round.phase} phase."
        if round.cancel_requested:
            following.finish_cancel(round.pk, round.attempt)
        else:
            following.fail_round(round.pk, reason=reason, attempt=round.attempt)
    return [round for round in interrupted if not round.cancel_requested]


def take_up(interrupted: list[Round]) -> list[str]:
    """Retries the interrupted rounds, sends queued ones again, launches the demo's first; says what it did.

    Needs a listening worker.
    """
    said = [f"{round} was queued; its message was sent again" for round in send_lost_messages(after=0)]
    for round in interrupted:
        try:
            rounds.retry_round(round=round, user=None)
            said.append(f"{round} was interrupted; it goes on with its {round.phase} phase")
        except RoundRefused as error:
            said.append(f"{round} was interrupted and could not be taken up: {error}")
    demo = Experiment.objects.filter(name=DEMO, rounds=None).first()
    if demo is not None:
        try:
            launching.launch_round(experiment=demo, user=None, overrides={})
            said.append(f'round 1 of "{DEMO}" is launched; its flagged samples arrive in the review queue')
        except (RoundRefused, ValueError) as error:
            said.append(f'round 1 of "{DEMO}" was not launched: {error}')
    return said
