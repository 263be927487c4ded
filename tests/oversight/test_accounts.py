"""Getting in: links work once and expire, previews don't burn them, guesses are slowed down."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from redis.exceptions import ConnectionError as BrokerDown

from oversight.models import AuditEvent, SignInLink
from oversight.services import accounts
from tests.factories import make_user

BASE = "http://testserver"


@pytest.fixture(autouse=True)
def _no_earlier_guesses():
    cache.clear()


def make_link(user):
    return accounts.make_sign_in_link(user=user, base_url=BASE)


def token_of(link):
    return link.rstrip("/").rsplit("/", 1)[1]


@pytest.mark.django_db
def test_only_the_hash_of_a_link_is_stored():
    link = make_link(make_user())
    stored = SignInLink.objects.get()
    assert stored.digest == hashlib.sha256(token_of(link).encode()).hexdigest()
    assert link == f"{BASE}/sign-in/{token_of(link)}/"


@pytest.mark.django_db
def test_a_link_signs_in_once_and_looking_at_it_does_not_use_it_up(client):
    user = make_user(username="ada")
    path = make_link(user).removeprefix(BASE)
    page = client.get(path)
    assert page.status_code == 200
    assert "no-store" in page.headers["Cache-Control"]
    assert client.get(path).status_code == 200
    assert client.post(path).headers["Location"] == "/"
    assert client.get("/review/").wsgi_request.user == user
    client.logout()
    assert client.get(path).status_code == 410
    again = client.post(path)
    assert again.status_code == 410
    assert b"no longer works" in again.content
    assert AuditEvent.objects.filter(action="account.sign-in", actor="ada").count() == 1


@pytest.mark.django_db
def test_an_expired_an_older_a_foreign_and_an_inactive_link_are_refused():
    user = make_user()
    older = token_of(make_link(user))
    newest = token_of(make_link(user))
    assert accounts.use_sign_in_link(older) is None
    assert accounts.use_sign_in_link("x" * 500) is None
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert accounts.use_sign_in_link(newest) is None
    locked = make_user(is_active=False)
    assert accounts.use_sign_in_link(token_of(make_link(locked))) is None


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_many_browsers_with_the_same_link_one_gets_in():
    token = token_of(make_link(make_user()))
    results = []

    def use():
        try:
            results.append(accounts.use_sign_in_link(token))
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(user is not None for user in results) == 1


@pytest.mark.django_db
def test_password_sign_in_for_those_who_set_one(client):
    user = make_user(username="ada")
    user.set_password("correct horse")
    user.save()
    wrong = client.post("/sign-in/", {"username": "ada", "password": "guess"})
    assert wrong.status_code == 422
    right = client.post("/sign-in/", {"username": "ada", "password": "correct horse", "next": "/review/"})
    assert right.headers["Location"] == "/review/"


@pytest.mark.django_db
def test_nobody_is_sent_to_another_site(client):
    user = make_user(username="ada")
    user.set_password("correct horse")
    user.save()
    for goal in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        answer = client.post("/sign-in/", {"username": "ada", "password": "correct horse", "next": goal})
        assert answer.headers["Location"] == "/"
        client.logout()


@pytest.mark.django_db
def test_guesses_are_slowed_down_and_a_right_password_is_too(client):
    user = make_user(username="ada")
    user.set_password("correct horse")
    user.save()
    for _ in range(accounts.GUESSES_A_NAME):
        assert client.post("/sign-in/", {"username": "Ada", "password": "guess"}).status_code == 422
    answer = client.post("/sign-in/", {"username": "ada", "password": "correct horse"})
    assert answer.status_code == 429
    assert b"Too many attempts" in answer.content


@pytest.mark.django_db
def test_without_the_counter_passwords_wait_and_links_work(client, monkeypatch):
    def down(*args, **kwargs):
        raise BrokerDown("refused")

    monkeypatch.setattr(cache, "add", down)
    user = make_user(username="ada")
    assert client.post("/sign-in/", {"username": "ada", "password": "x"}).status_code == 503
    assert client.post(make_link(user).removeprefix(BASE)).status_code == 302


@pytest.mark.django_db
def test_signing_out_takes_a_post(client_for):
    client = client_for("reviewer")
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").headers["Location"] == "/sign-in/"
    assert client.get("/review/").headers["Location"].startswith("/sign-in/")
