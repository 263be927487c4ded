"""Getting in: one-time links, and a slow-down for guessed passwords. There is no sign-up."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from oversight.models import SignInLink, User
from oversight.services import audit

GUESS_SECONDS = 900  # how long a wrong password counts
GUESSES_A_NAME = 8
GUESSES_AN_ADDRESS = 40  # an office shares one address


@transaction.atomic
def make_sign_in_link(*, user: User, base_url: str) -> str:
    """A link that signs `user` in once, for SIGN_IN_LINK_SECONDS. Earlier unused links stop working."""
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    SignInLink.objects.filter(user=user, used_at=None).delete()
    SignInLink.objects.create(
        user=user, digest=_digest(token), expires_at=now + timedelta(seconds=settings.SIGN_IN_LINK_SECONDS)
    )
    audit.record("system", "account.link", f"user:{user.get_username()}")
    return base_url.rstrip("/") + reverse("sign-in-link", args=[token])


def is_link_open(token: str) -> bool:
    """Whether the link would sign somebody in now; reading it does not use it up."""
    links = SignInLink.objects.filter(digest=_digest(token), user__is_active=True)
    return links.filter(used_at=None, expires_at__gt=timezone.now()).exists()


@transaction.atomic
def use_sign_in_link(token: str) -> User | None:
    """The person whose link this is, once; None for a used, expired or unknown link, or a closed account."""
    # One conditional UPDATE decides: of two browsers with the same link, one gets in. It must not join
    # another table: PostgreSQL would not look again at a condition that stands in a subquery.
    now = timezone.now()
    links = SignInLink.objects.filter(digest=_digest(token))
    if not links.filter(used_at=None, expires_at__gt=now).update(used_at=now):
        return None
    user = links.select_related("user").get().user
    if not user.is_active:
        return None
    audit.record(user.get_username(), "account.sign-in", f"user:{user.get_username()}", by="link")
    return user


def count_guess(*, username: str, address: str) -> bool:
    """Counts a password attempt before it is checked; False where there were too many. Raises RedisError."""
    allowed = True
    for kind, value, limit in (("name", username.casefold(), GUESSES_A_NAME), ("from", address, GUESSES_AN_ADDRESS)):
        key = f"guess:{kind}:{_digest(value)}"
        cache.add(key, 0, GUESS_SECONDS)
        allowed &= cache.incr(key) <= limit
    return allowed


def forget_guesses(*, username: str) -> None:
    """After a right password, the name's earlier attempts no longer count."""
    cache.delete(f"guess:name:{_digest(username.casefold())}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
