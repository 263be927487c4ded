"""What a person keeps away from, blurs, and when they rest."""

from __future__ import annotations

import re

import pytest

from oversight.models import AuditEvent, Lease
from oversight.services import leases, preferences
from tests.factories import make_constitution, make_sample, make_user


@pytest.fixture
def page(ada, client_for):
    make_constitution()  # names the category "privacy"
    return client_for(ada)


def text(answer):
    return " ".join(answer.content.decode().split())


@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher", "operator"])
def test_each_role_has_preferences(role, client_for):
    make_constitution()
    html = text(client_for(role).get("/review/preferences/"))
    assert 'name="opted_out" value="privacy"' in html
    assert 'name="break_minutes" type="number" min="0" max="480" value="50"' in html


def test_saved_shown_and_audited(page, ada):
    data = {"opted_out": ["privacy"], "blurred": ["privacy"], "break_minutes": "25"}
    answer = page.post("/review/preferences/", data, follow=True)
    html = text(answer)
    assert "Saved." in html
    assert 'name="opted_out" value="privacy" checked' in html
    ada.refresh_from_db()
    assert (ada.opted_out, ada.blurred, ada.break_minutes) == (["privacy"], ["privacy"], 25)
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.target) == ("ada", "account.preferences", "user:ada")
    assert event.detail == {"opted_out": ["privacy"], "blurred": ["privacy"], "break_minutes": 25}
    page.post("/review/preferences/", {"break_minutes": "0"})
    ada.refresh_from_db()
    assert (ada.opted_out, ada.blurred, ada.break_minutes) == ([], [], 0)


@pytest.mark.parametrize(
    "data",
    [
        {"opted_out": "nonsense", "break_minutes": "5"},
        {"break_minutes": "481"},
        {"break_minutes": "-1"},
        {"break_minutes": "soon"},
        {"break_minutes": "1" * 400},
        {},
    ],
)
def test_what_can_not_be_is_refused_and_nothing_saved(data, page, ada):
    answer = page.post("/review/preferences/", data)
    assert answer.status_code == 422
    assert 'role="alert"' in text(answer)
    ada.refresh_from_db()
    assert (ada.opted_out, ada.break_minutes) == ([], 50)
    assert not AuditEvent.objects.exists()


def test_opting_out_gives_back_what_was_held_of_it(ada):
    sample, other = make_sample(), make_sample(query={"category": "fraud"})
    for held in (sample, other):
        leases.take(sample=held, user=ada)
    preferences.opt_out(user=ada, category="privacy")
    assert Lease.objects.get(sample=sample).holder is None
    assert Lease.objects.get(sample=other).holder == ada
    preferences.opt_out(user=ada, category="fraud")
    assert ada.opted_out == ["fraud", "privacy"]  # one after the other, not one instead of the other
    assert leases.claim_next(user=ada) is None


def test_nobody_changes_another_persons(page, ada):
    bob = make_user()
    page.post("/review/preferences/", {"opted_out": "privacy", "break_minutes": "5", "user": bob.pk, "username": "x"})
    bob.refresh_from_db()
    assert (bob.opted_out, bob.break_minutes) == ([], 50)


def test_a_choice_stays_when_its_category_is_gone(page, ada):
    ada.opted_out = ["of old"]
    ada.save()
    assert 'value="of old" checked' in text(page.get("/review/preferences/"))


def test_a_blurred_sample_is_closed_until_it_is_opened(page, ada):
    sample = make_sample()
    html = text(page.get("/review/"))
    assert "data-reveal" not in html and "inert" not in html
    ada.blurred = ["privacy"]
    ada.save()
    html = text(page.get("/review/"))
    veil = '<div class="stack veil" inert aria-hidden="true">'
    assert veil in html
    assert html.index(veil) < html.index('id="prompt-title"')
    assert re.search(r'href="\?reveal=1" data-reveal', html)
    html = text(page.get(f"/review/{sample.pk}/", {"reveal": "1"}))  # the way without JavaScript
    assert "inert" not in html


def test_the_reminder_carries_the_persons_minutes(page, ada):
    ada.break_minutes = 20
    ada.save()
    assert 'id="break" data-minutes="20"' in text(page.get("/review/"))
