"""Roles, enforced the same way on pages, API and sockets."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from oversight.models import Role, User

# A role may do everything that the roles before it may.
LADDER = (Role.REVIEWER, Role.LEAD, Role.RESEARCHER, Role.OPERATOR)


def has_role(user: User | AnonymousUser, role: Role) -> bool:
    """True where `user` is signed in, active and stands on `role`'s rung or above."""
    if not isinstance(user, User) or not user.is_active:
        return False
    return user.is_superuser or LADDER.index(Role(user.role)) >= LADDER.index(role)


def require_role(role: Role) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """View decorator: sign-in page for nobody, 403 for a lower role."""

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @login_required
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not has_role(request.user, role):
                raise PermissionDenied(f"This needs the role {role.value} or above.")
            return view(request, *args, **kwargs)

        return checked

    return decorate
