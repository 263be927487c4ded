"""The admin: who enters, what may be changed there, and that its links leak nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from oversight import tasks, workers
from oversight.admin import site
from oversight.models import AuditEvent, Constitution, Label, Review, Role, Round, Seed, User
from tests.factories import make_constitution, make_experiment, make_review, make_round, make_sample, make_user

pytestmark = pytest.mark.django_db
For = Callable[..., Client]


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(tasks.run_phase, "delay", lambda *_: None)


def test_an_outsider_signs_in_on_the_ordinary_page(client: Client) -> None:
    first = client.get("/admin/oversight/round/", follow=True)
    assert first.redirect_chain[-1][0].startswith("/sign-in/?next=")


@pytest.mark.parametrize(("role", "status"), [("reviewer", 403), ("lead", 403), ("researcher", 200), ("operator", 200)])
def test_only_researchers_enter(client_for: For, role: str, status: int) -> None:
    # A staff flag alone, set by mistake, opens nothing.
    client = client_for(make_user(role, is_staff=True))
    assert client.get("/admin/", follow=True).status_code == status


def test_every_list_and_row_opens(client_for: For) -> None:
    round = make_round()
    sample = make_sample(round=round)
    review = make_review(sample=sample, reviewer=make_user())
    Label.objects.create(sample=sample, violates={"0": 1.0}, evidence=[str(review.pk)])
    client = client_for("operator")
    for model in site._registry:
        name = model._meta.model_name
        assert client.get(f"/admin/oversight/{name}/").status_code == 200, name
        row = model._default_manager.first()
        if row is not None:
            assert client.get(f"/admin/oversight/{name}/{row.pk}/change/").status_code == 200, name


LEAKS = [
    ("user", "password__startswith=md5"),
    ("user", "password=x"),
    ("review", "reviewer__password__startswith=md5"),
    ("round", "launched_by__password__startswith=md5"),
    ("round", "config__contains=secret"),
    ("seed", "experiment__rounds__launched_by__password__gt=a"),
    ("auditevent", "detail__text__startswith=a"),
    ("sample", "reviews__reviewer__email__startswith=a"),
]


@pytest.mark.parametrize(("model", "query"), LEAKS)
def test_a_link_can_not_ask_for_other_columns(client_for: For, model: str, query: str) -> None:
    answer = client_for("operator").get(f"/admin/oversight/{model}/?{query}")
    assert answer.status_code == 400, "Django answers a lookup that is not allowed with 400"


def test_the_offered_filters_work(client_for: For) -> None:
    make_round()
    client = client_for("researcher")
    for query in ("status__exact=reviewing", "o=-1", f"experiment__id__exact={Round.objects.get().experiment_id}"):
        assert client.get(f"/admin/oversight/round/?{query}").status_code == 200, query


@pytest.mark.parametrize("model", ["review", "auditevent", "critique", "label", "sample", "checkpoint", "metricpoint"])
def test_evidence_is_read_only(client_for: For, model: str) -> None:
    sample = make_sample()
    review = make_review(sample=sample, reviewer=make_user())
    client = client_for("operator")
    assert client.get(f"/admin/oversight/{model}/add/").status_code == 403
    client.post(f"/admin/oversight/review/{review.pk}/change/", {"action": "violates"})
    client.post(f"/admin/oversight/review/{review.pk}/delete/", {"post": "yes"})
    assert Review.objects.get().action == "approve"


def test_model_text_is_escaped(client_for: For) -> None:
    evil = "<script>alert(1)</script>"
    sample = make_sample(prompt=evil, answers=(evil, evil), flag_words=evil)
    page = client_for("operator").get(f"/admin/oversight/sample/{sample.pk}/change/").content.decode()
    assert evil not in page and "&lt;script&gt;" in page


# --- Rounds -----------------------------------------------------------------------------------------


def test_launch_from_the_admin(client_for: For) -> None:
    experiment = make_experiment()
    Seed.objects.create(experiment=experiment, key="s", category="c", principle="p", style="q", unsafe="x")
    client = client_for("researcher")
    page = client.get("/admin/oversight/round/launch/").content.decode()
    assert "<b>66</b> samples" in page
    sent = {"experiment": str(experiment.pk), "attacks": "10"}
    page = client.post("/admin/oversight/round/launch/", {**sent, "cost": "1"}).content.decode()
    assert "<b>28</b> samples" in page and not experiment.rounds.exists(), "showing the cost launches nothing"
    client.post("/admin/oversight/round/launch/", {**sent, "launch": "1"})
    assert experiment.rounds.get().config["attacks"] == 10
    page = client.post("/admin/oversight/round/launch/", {**sent, "launch": "1"}).content.decode()
    assert "Round 1 is queued" in page and experiment.rounds.count() == 1


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [("cancel_rounds", "reviewing", "cancelled"), ("retry_rounds", "failed", "queued"),
     ("close_reviews", "reviewing", "queued"), ("close_reviews", "done", "done")],
)  # fmt: skip
def test_actions(client_for: For, action: str, before: str, after: str) -> None:
    round = make_round(status=before)
    Label.objects.create(sample=make_sample(round=round), violates={"0": 1.0})
    client = client_for("researcher")
    client.post("/admin/oversight/round/", {"action": action, "_selected_action": [str(round.pk)]})
    round.refresh_from_db()
    assert round.status == after


# --- Constitutions, experiments, people ---------------------------------------------------------------


def test_a_used_constitution_is_copied_not_changed(client_for: For) -> None:
    experiment = make_experiment()
    used = experiment.constitution
    client = client_for("researcher")
    address = f"/admin/oversight/constitution/{used.pk}/change/"
    assert b'name="_save"' in client.get(address).content
    make_round(experiment=experiment)
    assert b'name="_save"' not in client.get(address).content
    assert client.post(address, {"name": "changed", "version": 1}).status_code == 403
    client.post("/admin/oversight/constitution/", {"action": "make_next_version", "_selected_action": [str(used.pk)]})
    copy = Constitution.objects.get(name=used.name, version=2)
    assert [p.key for p in copy.principles.all()] == [p.key for p in used.principles.all()]


def experiment_form(**changes: str) -> dict[str, str]:
    constitution = make_constitution()
    return {
        "name": "New", "constitution": str(constitution.pk), "profile": "tiny", "learner": "tiny", "critic": "",
        "attacker": "", "judge": "", "seed": "0", "settings": "{}", "overlap": "1", "overlap_share": "1",
        "gold_share": "0", **changes,
    }  # fmt: skip


def test_an_experiment_with_a_wrong_setting_is_refused(client_for: For) -> None:
    client = client_for("researcher")
    page = client.post("/admin/oversight/experiment/add/", experiment_form(settings='{"budgett": 3}'))
    assert "config has no setting budgett" in page.content.decode()
    page = client.post("/admin/oversight/experiment/add/", experiment_form(judge="http://host:8000/v1"))
    assert "is no model: give a folder" in page.content.decode()
    answer = client.post("/admin/oversight/experiment/add/", experiment_form(settings='{"budget": 3}'))
    assert answer.status_code == 302
    event = AuditEvent.objects.get(action="admin.add")
    assert event.target.startswith("experiment:")


def test_only_operators_change_people(client_for: For) -> None:
    ada = make_user("reviewer", username="ada")
    form = {"username": "ada", "first_name": "", "last_name": "", "email": "", "role": "operator", "is_active": "on"}
    address = f"/admin/oversight/user/{ada.pk}/change/"
    assert client_for("researcher").post(address, form).status_code == 403
    olga = make_user("operator")
    client = client_for(olga)
    assert client.post(address, form).status_code == 302
    ada.refresh_from_db()
    assert (ada.role, ada.is_staff) == (Role.OPERATOR, True)
    client.post(address, {**form, "role": "lead"})
    ada.refresh_from_db()
    assert (ada.role, ada.is_staff, ada.is_superuser) == (Role.LEAD, False, False), "nothing of the old role stays"
    client.post(f"/admin/oversight/user/{olga.pk}/change/", {**form, "username": "olga", "role": "reviewer"})
    olga.refresh_from_db()
    assert olga.role == Role.OPERATOR, "nobody locks themselves out"


def test_a_new_person_gets_a_link_and_no_password(client_for: For) -> None:
    client = client_for("operator")
    form = {"username": "new", "first_name": "", "last_name": "", "email": "", "role": "lead", "is_active": "on"}
    client.post("/admin/oversight/user/add/", form)
    new = User.objects.get(username="new")
    assert not new.has_usable_password()
    page = client.post(
        "/admin/oversight/user/", {"action": "make_link", "_selected_action": [str(new.pk)]}, follow=True
    )
    assert "/sign-in/" in page.content.decode()
    assert b"password" not in client.get(f"/admin/oversight/user/{new.pk}/change/").content.lower()
    researcher = client_for("researcher").get("/admin/oversight/user/").content
    assert b"make_link" not in researcher
