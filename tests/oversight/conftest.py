"""People and a round that many tests of the workbench begin with."""

from __future__ import annotations

import pytest

from tests.factories import make_round, make_user


@pytest.fixture
def ada(db):
    return make_user(username="ada")


@pytest.fixture
def bob(db):
    return make_user(username="bob")


@pytest.fixture
def lea(db):
    return make_user("lead", username="lea")


@pytest.fixture
def round_(db):
    return make_round()


@pytest.fixture
def page(ada, client_for):
    return client_for(ada)
