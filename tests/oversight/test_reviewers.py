"""/reviewers/: who may see it, what is counted, when it is computed anew, and that nothing in it acts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as NoBroker

from oversight import figures, tasks, workers
from oversight.models import AuditEvent, Critique, Experiment, Label, Review, ReviewFigures, Sample, User
from oversight.selectors import reviewers as selector
from oversight.selectors.categories import list_categories
from oversight.services import reviewers
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user

pytestmark = pytest.mark.django_db
For = Callable[..., Client]
Action = Review.Action


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Experiments whose figures were asked for; a worker listens and nothing was asked before."""
    found: list[str] = []
    cache.clear()
    monkeypatch.setattr(tasks.recompute_figures, "delay", found.append)
    monkeypatch.setattr(workers, "listening", lambda queue: ["default@here"])
    return found


@pytest.fixture
def experiment() -> Experiment:
    experiment = make_experiment(seed=7)
    make_round(experiment=experiment)
    return experiment


def sample_of(experiment: Experiment, **fields: Any) -> Sample:
    return make_sample(round=experiment.rounds.get(), **fields)


def judge_all(experiment: Experiment, *people: User, samples: int = 12) -> list[Sample]:
    """Everybody judges every sample blind; the first finds answer A violating in all, the others in every other."""
    made = [sample_of(experiment, prompt=f"prompt {i}") for i in range(samples)]
    for place, person in enumerate(people):
        for i, sample in enumerate(made):
            fine = place > 0 and i % 2 == 0
            make_review(
                sample=sample, reviewer=person, action=Action.APPROVE if fine else Action.VIOLATES,
                violations={} if fine else {"0": ["private-life"]}, seconds=10.0 + i,
            )  # fmt: skip
    return made


def read_judgements(experiment: Experiment) -> list[Any]:
    return figures.list_judgements(experiment, figures.read_reviews(experiment))


# --- Who may ----------------------------------------------------------------------------------------


def test_nobody_is_sent_to_sign_in_and_a_reviewer_is_refused(
    client: Client, client_for: For, experiment: Experiment
) -> None:
    for address in ("/reviewers/", "/reviewers/ada/"):
        assert client.get(address).headers["Location"].startswith("/sign-in/")
        assert client_for("reviewer").get(address).status_code == 403
    ada = make_user(username="ada")
    assert client_for(ada).post("/reviewers/ada/", {"category": "privacy"}).status_code == 403
    ada.refresh_from_db()
    assert ada.categories == []


@pytest.mark.parametrize("role", ["lead", "researcher", "operator"])
def test_leads_and_above_see_it(client_for: For, experiment: Experiment, role: str) -> None:
    make_user(username="ada")
    client = client_for(role)
    assert b"ada" in client.get("/reviewers/").content
    assert client.get("/reviewers/ada/").status_code == 200


def test_bad_names_and_methods(client_for: For, experiment: Experiment) -> None:
    client = client_for("lead")
    assert client.get("/reviewers/nobody/").status_code == 404
    assert client.post("/reviewers/nobody/").status_code == 404
    assert client.post("/reviewers/").status_code == 405
    assert client.get("/reviewers/?experiment=nonsense").status_code == 200


def test_before_anything_is_there(client_for: For, asked: list[str]) -> None:
    assert b"No experiment yet" in client_for("lead").get("/reviewers/").content
    make_experiment()
    page = client_for("lead").get("/reviewers/").content.decode()
    assert "Nobody has judged a sample of this experiment yet" in page
    assert asked == [] and 'hx-trigger="every' not in page, "nothing to compute"


def test_hostile_names_are_shown_and_do_nothing(client_for: For, experiment: Experiment) -> None:
    name = '"><img src=x onerror=alert(1)>/../{{ 7|add:7 }}?a=b&c#d'
    make_review(sample=sample_of(experiment, prompt="<script>x</script>"), reviewer=make_user(username=name))
    figures.recompute_figures(str(experiment.pk))
    client = client_for("lead")
    listed = client.get("/reviewers/").content.decode()
    person = client.get(reverse("reviewer", args=[name])).content.decode()
    for page in (listed, person):
        assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "<script>x" not in page and "{{ 7|add:7 }}" in page
    assert "reviewer=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%2F" in listed


# --- What is counted --------------------------------------------------------------------------------


def judgements(experiment: Experiment) -> dict[tuple[str, str], Any]:
    """By person and purpose, where each has one sample."""
    names = dict(User.objects.values_list("pk", "username"))
    return {(names[int(j.rater)], j.purpose): j for j in read_judgements(experiment)}


def test_a_judgement_revised_after_the_verdict_keeps_both(experiment: Experiment) -> None:
    sample, ada = sample_of(experiment), make_user(username="ada")
    first = make_review(sample=sample, reviewer=ada, seconds=7.0)
    make_review(
        sample=sample, reviewer=ada, action=Action.VIOLATES, violations={"0": []}, saw_critic=True, supersedes=first
    )
    found = judgements(experiment)["ada", "review"]
    assert found.first == {0: False, 1: False} and found.standing == {0: True, 1: False}
    assert found.blind and found.seconds == 7.0 and found.critic == {0: True, 1: False}
    assert (found.round, found.principle) == (1, "private-life")


def test_a_slip_mended_blind_is_the_first_judgement(experiment: Experiment) -> None:
    sample, ada = sample_of(experiment), make_user(username="ada")
    slip = make_review(sample=sample, reviewer=ada)
    make_review(sample=sample, reviewer=ada, action=Action.UNDO, supersedes=slip)
    make_review(sample=sample, reviewer=ada, action=Action.BOTH_BAD)
    assert judgements(experiment)["ada", "review"].first == {0: True, 1: True}


def test_what_was_taken_back_or_withdrawn_counts_nowhere(experiment: Experiment) -> None:
    ada, lead = make_user(username="ada"), make_user("lead")
    for action, by in ((Action.UNDO, ada), (Action.WITHDRAW, lead)):
        sample = sample_of(experiment)
        gone = make_review(sample=sample, reviewer=ada)
        make_review(sample=sample, reviewer=by, action=action, supersedes=gone)
    make_review(sample=sample_of(experiment), reviewer=ada, action=Action.SKIP)
    assert read_judgements(experiment) == []


def test_what_was_withdrawn_and_restored_counts_as_before(experiment: Experiment) -> None:
    ada, sample = make_user(username="ada"), sample_of(experiment)
    gone = make_review(sample=sample, reviewer=ada, seconds=5.0)
    out = make_review(sample=sample, reviewer=make_user("lead"), action=Action.WITHDRAW, supersedes=gone)
    make_review(sample=sample, reviewer=ada, seconds=5.0, supersedes=out)
    found = judgements(experiment)["ada", "review"]
    assert found.blind and found.first == found.standing == {0: False, 1: False} and found.seconds == 5.0


def test_late_ones_count_and_those_of_excluded_samples_or_other_experiments_do_not(experiment: Experiment) -> None:
    ada = make_user(username="ada")
    make_review(sample=sample_of(experiment), reviewer=ada, held_lease=False)
    make_review(sample=sample_of(experiment, status="excluded"), reviewer=ada)
    make_review(sample=make_sample(), reviewer=ada)
    assert len(read_judgements(experiment)) == 1


def test_a_leads_decision_judges_others_and_is_no_judgement_itself(experiment: Experiment) -> None:
    sample = sample_of(experiment)
    ada, lea = make_user(username="ada"), make_user("lead", username="lea")
    make_review(sample=sample, reviewer=ada)
    own = make_review(sample=sample, reviewer=lea)
    make_review(
        sample=sample, reviewer=lea, action=Action.VIOLATES, violations={"0": []}, purpose="adjudication",
        supersedes=own,
    )  # fmt: skip
    found = judgements(experiment)
    assert set(found) == {("ada", "review"), ("lea", "review")}
    assert found["ada", "review"].decided == {0: True, 1: False}
    assert found["lea", "review"].decided == {}, "nobody decides about themselves"
    assert found["lea", "review"].standing == {0: False, 1: False}


def test_gold_answers_are_held_against_the_label(experiment: Experiment) -> None:
    sample, ada = sample_of(experiment, gold=True, status="decided"), make_user(username="ada")
    Label.objects.create(sample=sample, violates={"0": 1.0, "1": 0.5})
    make_review(sample=sample, reviewer=ada, purpose="gold")
    found = judgements(experiment)["ada", "gold"]
    assert found.expected == {0: True}, "a label of one half expects nothing"
    figures.recompute_figures(str(experiment.pk))
    person = selector.read_figures(experiment).people[ada.pk]
    assert (person.gold.value, person.gold.n) == (0.0, 1)
    assert [(t.sample, t.letter, t.said, t.other, t.judged) for t in person.golds] == [
        (str(sample.pk), "A", False, True, False)
    ]


def test_a_failed_critique_contradicts_nobody_and_the_first_one_counts(experiment: Experiment) -> None:
    sample, ada = sample_of(experiment, violations=(None, 0.2)), make_user(username="ada")
    Critique.objects.create(sample=sample, response_index=1, status="ok", violation=0.9)
    make_review(sample=sample, reviewer=ada)
    assert judgements(experiment)["ada", "review"].critic == {1: False}


# --- Stored, stale, fresh ---------------------------------------------------------------------------


def test_the_figures_survive_the_database(experiment: Experiment) -> None:
    """What the page reads is what was computed, number for number."""
    from alignment.reliability import compute_figures

    people = [make_user(username=name) for name in ("ada", "ben", "cleo")]
    judge_all(experiment, *people)
    assert figures.recompute_figures(str(experiment.pk))
    whole = compute_figures(read_judgements(experiment), seed=7)
    shown = selector.read_figures(experiment)
    assert shown.alpha is not None and whole.alpha.value is not None
    assert (shown.alpha.value, shown.alpha.low, shown.alpha.high, shown.alpha.n) == (
        whole.alpha.value, whole.alpha.ci_low, whole.alpha.ci_high, whole.alpha.n,
    )  # fmt: skip
    assert (shown.seed, shown.draws) == (7, 1000)
    assert [n.group for n in shown.rounds] == ["1"] and [n.group for n in shown.principles] == ["private-life"]
    for person, computed in zip(people, sorted(whole.raters, key=lambda r: int(r.rater)), strict=True):
        stored = shown.people[person.pk]
        assert stored.seconds == computed.seconds == [12.75, 15.5, 18.25]
        assert (stored.judgements, stored.shared) == (12, 24)
        assert stored.sensitivity.value == computed.sensitivity.value is not None
        assert stored.specificity.low == computed.specificity.ci_low
        assert stored.switched.reason == computed.bias.switched.reason


def test_computing_twice_does_the_work_once(experiment: Experiment) -> None:
    judge_all(experiment, make_user(), samples=2)
    assert figures.recompute_figures(str(experiment.pk))
    assert not figures.recompute_figures(str(experiment.pk))
    assert not figures.recompute_figures(str(uuid.uuid4()))
    assert ReviewFigures.objects.count() == 1


def test_what_makes_them_stale(experiment: Experiment) -> None:
    (first, second) = judge_all(experiment, make_user(), samples=2)

    def fresh() -> bool:
        return selector.read_figures(experiment).fresh

    def again() -> bool:
        return figures.recompute_figures(str(experiment.pk)) and fresh()

    assert not fresh() and again()
    make_review(sample=first, reviewer=make_user(), action=Action.SKIP)
    assert not fresh() and selector.read_figures(experiment).newer == 1 and again()
    Sample.objects.filter(pk=first.pk).update(gold=True)
    assert not fresh() and again()
    Sample.objects.filter(pk=second.pk).update(status="excluded")
    assert not fresh() and again()
    make_review(sample=make_sample(), reviewer=make_user())
    assert not fresh(), "only a worker sees which experiment it is of"
    computed_at = ReviewFigures.objects.get().computed_at
    assert not figures.recompute_figures(str(experiment.pk)) and fresh(), "another experiment's: nothing to compute"
    assert ReviewFigures.objects.get().computed_at == computed_at
    row = ReviewFigures.objects.get()
    row.figures["version"] = 0
    row.save()
    assert not fresh() and selector.read_figures(experiment).alpha is None and again()


def test_the_page_asks_once_fetches_itself_and_stops(client_for: For, experiment: Experiment, asked: list[str]) -> None:
    judge_all(experiment, make_user(), samples=2)
    client = client_for("lead")
    page = client.get("/reviewers/").content.decode()
    assert "Computing the figures" in page and 'hx-trigger="every 3s"' in page
    part = client.get("/reviewers/", headers={"HX-Target": "reviewers-figures"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="reviewers-figures" hx-get=')
    assert asked == [str(experiment.pk)], "however often the page looks"
    tasks.recompute_figures(str(experiment.pk))
    part = client.get("/reviewers/", headers={"HX-Target": "reviewers-figures"}).content.decode()
    assert "hx-trigger" not in part and "As of" in part and "being counted" not in part
    make_review(sample=sample_of(experiment), reviewer=make_user())
    page = client.get("/reviewers/").content.decode()
    assert "As of" in page and "1 newer entry" in page and "being counted" in page


def test_after_a_while_a_lost_message_is_sent_again(experiment: Experiment, asked: list[str]) -> None:
    judge_all(experiment, make_user(), samples=1)
    reviewers.request_figures(experiment)
    cache.clear()  # as ASK_SECONDS do
    reviewers.request_figures(experiment)
    assert len(asked) == 2


def test_a_worker_that_computes_is_not_taken_for_none(
    experiment: Experiment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It announces itself to nobody meanwhile, and is not asked again."""
    said: list[str] = []
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    monkeypatch.setattr(figures, "read_reviews", lambda _: said.append(reviewers.request_figures(experiment)) or [])
    judge_all(experiment, make_user(), samples=1)
    figures.recompute_figures(str(experiment.pk))
    assert said == ["counting"] and asked == []
    assert reviewers.request_figures(experiment) == "no worker", "the mark goes with the computation"


def test_without_a_worker_it_says_what_to_do(
    client_for: For, experiment: Experiment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_all(experiment, make_user(), samples=1)
    monkeypatch.setattr(workers, "listening", lambda queue: [])
    page = client_for("lead").get("/reviewers/").content.decode()
    assert "No worker listens on the queue" in page and "make run" in page and asked == []


@pytest.mark.parametrize("error", [NoBroker("gone"), OperationalError("gone")])
def test_without_a_broker_it_says_so(
    client_for: For, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    judge_all(experiment, make_user(), samples=1)
    monkeypatch.setattr(tasks.recompute_figures, "delay", refuse)
    page = client_for("lead").get("/reviewers/").content.decode()
    assert "The broker does not answer" in page


def test_the_task_goes_to_the_default_queue() -> None:
    from oversight.celery import app

    assert app.amqp.router.route({}, "oversight.tasks.recompute_figures")["queue"].name == "default"


# --- What is shown ----------------------------------------------------------------------------------


def test_every_number_has_its_interval_and_n(client_for: For, experiment: Experiment) -> None:
    people = [make_user(username=name) for name in ("ada", "ben", "cleo")]
    judge_all(experiment, *people)
    figures.recompute_figures(str(experiment.pk))
    page = client_for("lead").get("/reviewers/").content.decode()
    shown = selector.read_figures(experiment)
    assert shown.alpha is not None
    for number in (shown.alpha, shown.people[people[1].pk].sensitivity):
        assert number.value is not None and f'<b class="digits">{number.value:.2f}</b>' in page
        assert re.fullmatch(r"-?0\.\d\d to -?[01]\.\d\d, n 24", number.words) and number.words in page
    assert "because no gold sample came their way" in page
    assert "24 answers shared" in page and "style=" not in page


def test_without_overlap_it_says_how_to_get_some(client_for: For, experiment: Experiment) -> None:
    judge_all(experiment, make_user(), samples=2)
    figures.recompute_figures(str(experiment.pk))
    assert b"Set <b>overlap</b> to 3" in client_for("lead").get("/reviewers/").content
    address = f"/admin/oversight/experiment/{experiment.pk}/change/"
    assert address not in client_for("lead").get("/reviewers/").content.decode(), "a lead has no admin"
    assert address in client_for("researcher").get("/reviewers/").content.decode()


def test_two_opinions_an_answer_come_with_a_warning(client_for: For, experiment: Experiment) -> None:
    Experiment.objects.filter(pk=experiment.pk).update(overlap=2)
    judge_all(experiment, make_user(), make_user(), samples=2)
    figures.recompute_figures(str(experiment.pk))
    assert b"With an overlap of 2" in client_for("lead").get("/reviewers/").content


def test_those_who_left_are_shown_where_they_judged(client_for: For, experiment: Experiment) -> None:
    judge_all(experiment, make_user(username="left-with-work", is_active=False), samples=1)
    make_user(username="left-without", is_active=False)
    figures.recompute_figures(str(experiment.pk))
    page = client_for("lead").get("/reviewers/").content.decode()
    assert "left-with-work" in page and "account closed" in page and "left-without" not in page


def test_the_page_of_a_person(client_for: For, experiment: Experiment) -> None:
    ada = make_user(username="ada")
    sample = sample_of(experiment, prompt="Where is the key?")
    first = make_review(sample=sample, reviewer=ada, seconds=9.0)
    make_review(
        sample=sample, reviewer=ada, action=Action.VIOLATES, violations={"0": []}, saw_critic=True, supersedes=first
    )
    make_review(sample=make_sample(prompt="elsewhere"), reviewer=ada)
    figures.recompute_figures(str(experiment.pk))
    page = client_for("lead").get(f"/reviewers/ada/?experiment={experiment.pk}").content.decode()
    assert "superseded" in page and "after the critic&#x27;s verdict" in page.replace("critic's", "critic&#x27;s")
    assert page.count("Where is the key?") == 3, "two entries and one switch"
    assert "not decided" in page and "elsewhere" not in page
    assert f"/samples/{sample.pk}/" in page


def test_as_many_queries_for_many_people_as_for_one(
    client_for: For, experiment: Experiment, django_assert_max_num_queries: Any
) -> None:
    client, counts = client_for("lead"), []
    for size in (1, 15):
        people = [make_user() for _ in range(size)]
        judge_all(experiment, *people, samples=3)
        figures.recompute_figures(str(experiment.pk))
        for address in ("/reviewers/", reverse("reviewer", args=[people[0].username])):
            with django_assert_max_num_queries(20) as captured:
                assert client.get(address).status_code == 200
            counts.append(len(captured))
    assert counts[:2] == counts[2:]


# --- Categories -------------------------------------------------------------------------------------


def test_a_lead_assigns_categories_and_it_is_audited(client_for: For, experiment: Experiment) -> None:
    ada, lead = make_user(username="ada"), make_user("lead", username="lea")
    client = client_for(lead)
    address = f"/reviewers/ada/?experiment={experiment.pk}"
    answer = client.post(address, {"category": ["privacy"]}, follow=True)
    assert answer.redirect_chain == [(address, 302)] and b"Saved." in answer.content
    ada.refresh_from_db()
    assert ada.categories == ["privacy"]
    event = AuditEvent.objects.get(action="reviewer.categories")
    assert (event.actor, event.target, event.detail) == ("lea", "user:ada", {"before": [], "after": ["privacy"]})
    assert re.search(r'value="privacy"\s+checked', client.get(address).content.decode())
    client.post(address, {"category": ["privacy"]})
    assert AuditEvent.objects.filter(action="reviewer.categories").count() == 1, "nothing changed"
    client.post(address, {})
    ada.refresh_from_db()
    assert ada.categories == []


def test_an_unknown_category_is_refused_by_name(client_for: For, experiment: Experiment) -> None:
    make_user(username="ada", categories=["since-removed"])
    answer = client_for("lead").post("/reviewers/ada/", {"category": ["since-removed", "<b>"]}, follow=True)
    assert "There is no category &lt;b&gt;" in answer.content.decode()
    assert User.objects.get(username="ada").categories == ["since-removed"]


def test_nothing_is_lost_of_what_was_assigned_before(experiment: Experiment) -> None:
    user = make_user(categories=["since-removed"])
    assert "since-removed" in list_categories(user) and "privacy" in list_categories(user)


def test_an_experiment_that_nobody_judged_says_so_beside_one_that_people_did(
    client_for: For, experiment: Experiment
) -> None:
    judge_all(make_round().experiment, make_user(username="elsewhere"), samples=1)
    assert figures.recompute_figures(str(experiment.pk))
    page = client_for("lead").get(f"/reviewers/?experiment={experiment.pk}").content.decode()
    assert "Nobody has judged a sample of this experiment yet" in page and 'hx-trigger="every' not in page
    assert selector.read_figures(experiment).standing == {}
