"""`manage.py invite` and `manage.py prepare_demo`."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from oversight.models import AuditEvent, Experiment, User
from tests.factories import make_user

pytestmark = pytest.mark.django_db


def invite(*arguments: str) -> str:
    out = StringIO()
    call_command("invite", *arguments, stdout=out)
    return out.getvalue().strip()


@pytest.mark.parametrize(
    ("role", "staff", "superuser"),
    [("reviewer", False, False), ("lead", False, False), ("researcher", True, False), ("operator", True, True)],
)
def test_invite_makes_an_account_with_its_role(role: str, staff: bool, superuser: bool) -> None:
    link = invite("ada", "--role", role, "--base-url", "https://oversight.example")
    assert re.fullmatch(r"https://oversight\.example/sign-in/[\w-]{30,}/", link)
    user = User.objects.get(username="ada")
    assert (user.role, user.is_staff, user.is_superuser) == (role, staff, superuser)
    assert not user.has_usable_password()
    assert AuditEvent.objects.filter(action="account.invite", target="user:ada").exists()


def test_the_link_signs_in_once() -> None:
    path = invite("ada").removeprefix("http://localhost:8000")
    assert Client().get(path).status_code == 200  # a link preview does not use it up
    client = Client()
    assert client.post(path).status_code == 302
    assert client.session["_auth_user_id"] == str(User.objects.get(username="ada").pk)
    other = Client()
    other.post(path)
    assert "_auth_user_id" not in other.session


def test_invite_takes_rights_back() -> None:
    make_user("operator", username="ada", is_staff=True, is_superuser=True)
    invite("ada", "--role", "reviewer")
    user = User.objects.get(username="ada")
    assert (user.role, user.is_staff, user.is_superuser) == ("reviewer", False, False)


@pytest.mark.parametrize("arguments", [["a b"], ["ada", "--role", "king"], ["ada", "--base-url", "javascript:1"]])
def test_invite_refuses(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        invite(*arguments)
    assert not User.objects.exists()


def test_invite_leaves_closed_accounts_closed() -> None:
    make_user(username="ada", is_active=False)
    with pytest.raises(CommandError, match="closed"):
        invite("ada", "--role", "operator")


def test_prepare_demo_fills_an_empty_database_once() -> None:
    call_command("prepare_demo", stdout=StringIO())
    experiment = Experiment.objects.get(name="Laptop demo")
    assert experiment.constitution.principles.count() >= 16
    assert experiment.seeds.count() >= 240
    assert set(experiment.seeds.values_list("principle", flat=True)) <= set(
        experiment.constitution.principles.values_list("key", flat=True)
    )
    admin = User.objects.get(username="admin")
    assert admin.role == "operator" and not admin.has_usable_password()
    call_command("prepare_demo", stdout=StringIO())
    assert Experiment.objects.count() == 1
    assert User.objects.count() == 1
