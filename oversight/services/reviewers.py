"""What leads do about reviewers: assign their categories, and have the figures computed anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from django.core.cache import cache
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from oversight import workers
from oversight.models import Experiment, User
from oversight.selectors.categories import list_categories
from oversight.services import audit

log = logging.getLogger(__name__)
ASK_SECONDS = 15  # figures are asked for at most this often, whoever looks
COMPUTING_SECONDS = 180  # a computation that has not ended by then was killed with its worker


class UnknownCategory(ValueError):
    """A category that nothing has: a sentence made for people."""


@transaction.atomic
def assign_categories(*, user_id: int, categories: Iterable[str], actor: User) -> User:
    """Sets what a person is given to review; an empty list gives everything. What they hold now stays with them."""
    user = User.objects.select_for_update().get(pk=user_id)
    wanted = sorted(set(categories))
    unknown = sorted(set(wanted) - set(list_categories(user)))
    if unknown:
        raise UnknownCategory(
            f"There is no category {', '.join(unknown)}; reload the page and choose from the ones there are."
        )
    if wanted == sorted(user.categories):
        return user
    before, user.categories = user.categories, wanted
    user.save(update_fields=["categories"])
    audit.record(
        actor.get_username(), "reviewer.categories", f"user:{user.get_username()}", before=before, after=wanted
    )
    return user


def request_figures(experiment: Experiment) -> str:
    """Has a worker compute the figures, at most every ASK_SECONDS. Says how that stands, in the pages' words.

    "counting"; "no worker" where none listens on `default`; "no broker" where Redis does not answer. After
    asking, and while one computes, it is "counting" without another look: a busy worker says nothing else.
    """
    from oversight.tasks import recompute_figures

    asked = f"figures-asked:{experiment.pk}"
    try:
        if cache.get_many([asked, computing_key(experiment.pk)]):
            return "counting"
        if not workers.listening("default"):
            return "no worker"
        if cache.add(asked, True, ASK_SECONDS):
            recompute_figures.delay(str(experiment.pk))
    except (OperationalError, RedisError) as error:
        log.warning("figures of %s not asked for: %s", experiment, error)
        return "no broker"
    return "counting"


def computing_key(experiment_id: UUID) -> str:
    """The cache's mark that a worker computes the figures of this experiment."""
    return f"figures-computing:{experiment_id}"
