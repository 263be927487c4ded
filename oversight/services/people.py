"""Who may come in: accounts are made by invitation only."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction

from oversight.models import Role, User
from oversight.services import audit


@transaction.atomic
def invite_user(*, username: str, role: Role, actor: str) -> User:
    """Makes the account, or gives an existing one this role. ValueError names a bad name or a closed account."""
    user = User.objects.select_for_update().filter(username=username).first()
    if user is None:
        user = User(username=username)
        user.set_unusable_password()
    elif not user.is_active:
        raise ValueError(f"the account {username!r} is closed; open it again in the admin first")
    before = user.role if user.pk else ""
    give_role(user, role)
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise ValueError(f"{username!r} cannot be a user name: {' '.join(error.messages)}") from error
    user.save()
    audit.record(actor, "account.invite", f"user:{username}", role=role.value, before=before)
    return user


def give_role(user: User, role: Role) -> None:
    """Sets the role with the flags that Django's admin reads; the caller saves."""
    user.role = role
    user.is_staff = role in (Role.RESEARCHER, Role.OPERATOR)  # may open the admin
    user.is_superuser = role == Role.OPERATOR
