"""Shared by all tests: one signed-in client a role."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from oversight.models import User
from tests.factories import make_user


@pytest.fixture
def client_for(db: None) -> Callable[..., Client]:
    """client_for("lead") or client_for(user): a client signed in as a person of that role."""

    def sign_in(who: str | User) -> Client:
        client = Client()
        client.force_login(who if isinstance(who, User) else make_user(who))
        return client

    return sign_in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes and a real browser may meet a busy machine: one more try, which the report names (R)."""
    for item in items:
        if item.get_closest_marker("stack") or item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))
