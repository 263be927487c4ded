"""Withdrawals: judgements taken out and put back, labels made anew, what was trained on them, crashes in between."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from oversight import tasks
from oversight.models import AuditEvent, Checkpoint, Label, LabelChange, Review, Round, Sample, TrainedOn, Withdrawal
from oversight.selectors.withdrawals import count_withdrawn, describe_label, list_trained, read_withdrawal
from oversight.services import adjudication, audit, leases, reviews, rounds, withdrawal_batches, withdrawals
from oversight.services.judgements import Judgement
from oversight.services.withdrawals import Wanted, WithdrawalRefused
from tests.factories import make_experiment, make_round, make_sample, make_user
from tests.hostile import HOSTILE

PLAIN = ("violates", "principles", "preferred", "rewrite", "rewrite_of", "how")


def judge(user, sample, action="approve", **said):
    """As the workbench does it, whatever the queue would serve."""
    lease = leases.take(sample=sample, user=user)
    return reviews.record_review(
        user=user, sample_id=sample.pk, fence=lease.fence, key=uuid.uuid4(), judgement=Judgement(action=action, **said)
    )


def withdraw(user, *, reviewer=None, review=None, experiment=None, key=None, reason="tired", **days):
    if review is not None:
        wanted = Wanted(reviewer=review.reviewer, experiment=review.sample.experiment, review=review)
    else:
        wanted = Wanted(reviewer=reviewer, experiment=experiment, **days)
    return withdrawals.withdraw(user=user, wanted=wanted, reason=reason, key=key or uuid.uuid4())


def labels():
    """Everything that training reads, and how each label came to be; evidence is new rows after a restore."""
    return {label.sample_id: {name: getattr(label, name) for name in PLAIN} for label in Label.objects.all()}


def standing(user):
    return Review.objects.filter(reviewer=user, superseded_by=None).exclude(action__in=("undo", "withdraw"))


def close(round_):
    """The review ended, as `rounds.close_review` leaves it."""
    Round.objects.filter(pk=round_.pk).update(status="done", phase="learn", learning_at=timezone.now())
    round_.refresh_from_db()


def make_checkpoints(round_, *samples):
    TrainedOn.objects.bulk_create([TrainedOn(round=round_, sample=sample) for sample in samples])
    return [
        Checkpoint.objects.create(
            experiment=round_.experiment, round=round_, role=role, path=role, sha256=role, verdict="accepted"
        )
        for role in ("critic", "learner")
    ]


# --- Taking out -------------------------------------------------------------------------------------


def test_one_judgement_is_taken_out_and_its_sample_waits_again(lea, ada, round_):
    sample = make_sample(round=round_)
    made = judge(ada, sample, "violates", violations={"0": ["no-fraud"]})
    withdrawal = withdraw(lea, review=made, reason=" saw the critic first ")
    sample.refresh_from_db()
    assert (sample.status, Label.objects.count()) == ("queued", 0)
    row = Review.objects.get(action="withdraw")
    assert (row.reviewer, row.supersedes, row.note, row.purpose) == (lea, made, "saw the critic first", "review")
    assert (withdrawal.state, withdrawal.done, withdrawal.reviewer) == ("done", 1, ada)
    change = withdrawal.changes.get()
    assert change.before["violates"] == {"0": 1.0, "1": 0.0}
    assert (change.after, change.changed) == (None, True)
    assert (change.status_before, change.status_after) == ("decided", "queued")
    assert audit.find_break() is None
    events = dict(AuditEvent.objects.filter(target=f"withdrawal:{withdrawal.pk}").values_list("action", "detail"))
    assert events["review.withdraw"]["reviews"] == [str(made.pk)]
    assert events["withdrawal.start"]["reason"] == "saw the critic first"


def test_the_person_is_not_asked_again_and_others_are(lea, ada, bob, round_):
    made = judge(ada, make_sample(round=round_))
    withdraw(lea, review=made)
    assert leases.claim_next(user=ada) is None
    assert leases.claim_next(user=bob).sample == made.sample


def test_all_of_a_person_in_one_experiment(lea, ada, bob, round_):
    mine = [make_sample(round=round_) for _ in range(3)]
    elsewhere = make_sample(round=make_round())
    for sample in (*mine, elsewhere):
        judge(ada, sample)
    undone = judge(ada, make_sample(round=round_))
    reviews.undo_last(user=ada, key=uuid.uuid4())
    other = judge(bob, make_sample(round=round_))
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    assert withdrawal.total == 3
    assert {review.sample for review in standing(ada)} == {elsewhere}
    assert set(labels()) == {elsewhere.pk, other.sample_id}
    assert not Review.objects.filter(supersedes=undone, action="withdraw").exists()


def test_days_bound_what_is_taken_out(lea, ada, round_):
    made = [judge(ada, make_sample(round=round_)) for _ in range(3)]
    today = timezone.localdate()
    for age, review in enumerate(made):
        Review.objects.filter(pk=review.pk).update(created_at=review.created_at - timedelta(days=age))
    yesterday = today - timedelta(days=1)
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment, since=yesterday, until=yesterday)
    assert withdrawal.reviews == [str(made[1].pk)]


def test_the_label_is_made_anew_from_what_is_left(lea, ada, bob, round_):
    """Two of three said that A violates; without the third they agree. Without a first they contradict no more."""
    sample = make_sample(round=round_, wanted=2)
    judge(ada, sample, "violates", violations={"0": ["no-fraud"]})
    wrong = judge(bob, sample)
    sample.refresh_from_db()
    assert sample.status == "disputed"
    Sample.objects.update(wanted=1)
    withdraw(lea, review=wrong)
    sample.refresh_from_db()
    assert (sample.status, sample.disputed) == ("decided", False)
    assert sample.label.violates == {"0": 1.0, "1": 0.0}
    assert sample.label.how == "single"


def test_a_decision_of_a_lead_can_be_taken_out(lea, ada, bob, round_):
    sample = make_sample(round=round_, wanted=2)
    judge(ada, sample, "both_bad")
    judge(bob, sample)
    decision = adjudication.decide(
        user=lea, sample_id=sample.pk, key=uuid.uuid4(), judgement=Judgement(action="approve"),
        seen=set(sample.reviews.values_list("pk", flat=True)),
    )  # fmt: skip
    withdrawal = withdraw(make_user("lead"), review=decision)
    sample.refresh_from_db()
    assert (sample.status, Label.objects.count()) == ("disputed", 0)
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert sample.__class__.objects.get().label.how == "adjudicated"


def test_after_the_review_nobody_is_asked_again(lea, ada, round_):
    sample = make_sample(round=round_)
    made = judge(ada, sample)
    close(round_)
    withdraw(lea, review=made)
    sample.refresh_from_db()
    assert (sample.status, Label.objects.count()) == ("closed", 0)


def test_a_label_approved_by_the_close_outlives_others_withdrawals_and_comes_back(lea, ada, bob, round_):
    sample = make_sample(round=round_, wanted=3)
    judge(ada, sample, "both_bad")
    second = judge(bob, sample, "both_bad")
    make_sample(round=round_)
    rounds.close_review(round=round_, user=lea)
    before = labels()
    assert before[sample.pk]["how"] == "closed"
    withdraw(lea, review=second)
    assert labels() == before  # one of the two is enough after the close
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    assert labels() == {}
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert labels() == before


def test_a_gold_sample_without_a_label_tests_nobody(lea, ada, round_):
    sample = make_sample(round=round_)
    made = judge(ada, sample)
    Sample.objects.update(gold=True)
    withdrawal = withdraw(lea, review=made)
    sample.refresh_from_db()
    assert (sample.gold, withdrawal.changes.get().gold_lost) == (False, True)
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    sample.refresh_from_db()
    assert sample.gold


def test_answers_to_gold_samples_go_too_and_leave_the_label_alone(lea, ada, bob, round_):
    sample = make_sample(round=round_)
    judge(ada, sample)
    Sample.objects.update(gold=True)
    leases.take(sample=sample, user=bob, why="gold")
    lease = sample.lease
    tested = reviews.record_review(
        user=bob, sample_id=sample.pk, fence=lease.fence, key=uuid.uuid4(), judgement=Judgement(action="both_bad")
    )
    before = labels()
    withdrawal = withdraw(lea, reviewer=bob, experiment=round_.experiment)
    assert tested.purpose == "gold"
    assert not standing(bob).exists()
    assert labels() == before
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert standing(bob).get().purpose == "gold"


def test_a_reason_and_something_to_take_out_are_needed(lea, ada, round_):
    made = judge(ada, make_sample(round=round_))
    with pytest.raises(WithdrawalRefused, match="Say why"):
        withdraw(lea, review=made, reason="  ")
    withdraw(lea, review=made)
    with pytest.raises(WithdrawalRefused, match="ada"):
        withdraw(lea, review=made)
    assert Withdrawal.objects.count() == 1


def test_the_same_key_again_is_the_same_withdrawal(lea, ada, round_):
    made, key = judge(ada, make_sample(round=round_)), uuid.uuid4()
    first = withdraw(lea, review=made, key=key)
    assert withdraw(lea, review=made, key=key) == first
    assert Review.objects.filter(action="withdraw").count() == 1


def test_an_excluded_sample_stays_excluded(lea, ada, round_):
    sample = make_sample(round=round_)
    made = judge(ada, sample)
    Sample.objects.update(status="excluded", excluded_reason="leaked")
    withdraw(lea, review=made)
    sample.refresh_from_db()
    assert sample.status == "excluded"


# --- Putting back -----------------------------------------------------------------------------------


def test_restored_labels_are_exactly_what_they_were(lea, ada, bob, round_):
    """Rewrites and decisions depend on the order of the judgements, so a restored one stands where it stood."""
    samples = [make_sample(round=round_, wanted=2) for _ in range(5)]
    judge(ada, samples[0], "rewrite", rewrite="Ask them.", rewrite_of=0, violations={"0": ["no-fraud"]})
    judge(bob, samples[0], "rewrite", rewrite="Knock first.", rewrite_of=1, violations={"0": []})
    judge(ada, samples[1], "prefer_a")
    judge(bob, samples[1], "tie")
    judge(ada, samples[2], "both_bad")
    judge(bob, samples[2])
    judge(ada, samples[3])
    revised = judge(ada, samples[4])
    reviews.revise_review(
        user=ada, review_id=revised.pk, key=uuid.uuid4(), judgement=Judgement(action="both_bad", note="looked again")
    )
    judge(bob, samples[4], "both_bad")
    before, states = labels(), dict(Sample.objects.values_list("pk", "status"))
    kept = list(standing(ada).order_by("created_at").values_list("action", "note", "created_at", "saw_critic", "spans"))
    assert before[samples[0].pk]["rewrite"] == "Knock first."
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    assert labels() == {}
    withdrawals.restore(user=make_user("lead", username="leo"), withdrawal_id=withdrawal.pk)
    assert labels() == before
    assert dict(Sample.objects.values_list("pk", "status")) == states
    again = standing(ada).order_by("created_at")
    assert list(again.values_list("action", "note", "created_at", "saw_critic", "spans")) == kept
    assert all(review.supersedes.action == "withdraw" for review in again)
    withdrawal.refresh_from_db()
    assert (withdrawal.state, withdrawal.restored_by.username, withdrawal.kept_out) == ("restored", "leo", 0)
    assert AuditEvent.objects.filter(actor="leo", action="review.restore").count() == 1


def test_restoring_twice_restores_once(lea, ada, round_):
    withdrawal = withdraw(lea, review=judge(ada, make_sample(round=round_)))
    for _ in range(2):
        withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert Review.objects.filter(reviewer=ada).count() == 2


def test_a_restored_judgement_can_be_taken_out_again(lea, ada, round_):
    sample = make_sample(round=round_)
    withdrawal = withdraw(lea, review=judge(ada, sample))
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    second = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    assert (second.total, labels()) == (1, {})
    withdrawals.restore(user=lea, withdrawal_id=second.pk)
    assert sample.pk in labels()
    assert standing(ada).count() == 1


def test_a_newer_judgement_of_the_person_stays_in_its_place(lea, ada, round_):
    sample = make_sample(round=round_)
    made = judge(ada, sample)
    withdrawal = withdraw(lea, review=made)
    judge(ada, sample, "both_bad")  # a page that was open meanwhile
    withdrawal = withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert (withdrawal.state, withdrawal.kept_out) == ("restored", 1)
    assert standing(ada).get().action == "both_bad"
    assert labels()[sample.pk]["violates"] == {"0": 1.0, "1": 1.0}


def test_undo_takes_back_the_last_own_judgement_and_not_a_restored_one(lea, ada, round_):
    withdrawal = withdraw(lea, review=judge(ada, make_sample(round=round_)))
    last = judge(ada, make_sample(round=round_))
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert reviews.undo_last(user=ada, key=uuid.uuid4()).sample.pk == last.sample_id


# --- Many, crashes, races ---------------------------------------------------------------------------


@pytest.fixture
def queued(monkeypatch):
    """What is handed to a worker."""
    calls = []
    monkeypatch.setattr(tasks.run_withdrawal, "delay", calls.append)
    return calls


@pytest.fixture
def many(monkeypatch, lea, ada, bob, round_, queued):
    """Seven judgements where three are many, two in a batch; and the labels there were."""
    monkeypatch.setattr(withdrawals, "AT_ONCE", 3)
    monkeypatch.setattr(withdrawal_batches, "BATCH", 2)
    for number in range(7):
        sample = make_sample(round=round_, wanted=1 + number % 2)
        judge(ada, sample, "both_bad")
        if number % 2:
            judge(bob, sample, "both_bad")
    before = labels()
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    assert (withdrawal.state, withdrawal.done, queued) == ("running", 0, [str(withdrawal.pk)])
    return withdrawal, before


def test_a_worker_takes_out_many_and_puts_them_back(many, lea, ada):
    withdrawal, before = many
    tasks.run_withdrawal(str(withdrawal.pk))
    withdrawal.refresh_from_db()
    assert (withdrawal.state, withdrawal.done) == ("done", 7)
    assert not standing(ada).exists()
    assert labels() == {}  # the others are one too few, in a round that still serves
    assert withdrawal.changes.count() == 7
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    tasks.run_withdrawal(str(withdrawal.pk))
    assert labels() == before


def test_batches_go_on_after_a_crash_where_they_stood(many, monkeypatch, ada):
    withdrawal, _ = many
    withdrawals.run_batch(withdrawal.pk)

    def crash(*_, **__):
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(withdrawal_batches.audit, "record", crash)
        with pytest.raises(SystemExit):
            withdrawals.run_batch(withdrawal.pk)
    withdrawal.refresh_from_db()
    assert (withdrawal.done, Review.objects.filter(action="withdraw").count()) == (2, 2)
    assert withdrawal.changes.count() == 2
    tasks.run_withdrawal(str(withdrawal.pk))
    tasks.run_withdrawal(str(withdrawal.pk))  # a task that came twice
    withdrawal.refresh_from_db()
    assert (withdrawal.state, withdrawal.done) == ("done", 7)
    assert Review.objects.filter(action="withdraw").count() == 7


def test_a_long_withdrawal_leaves_the_worker_to_others_now_and_then(many, monkeypatch, queued):
    withdrawal, _ = many
    monkeypatch.setattr(withdrawals, "SHIFT", 0.0)
    tasks.run_withdrawal(str(withdrawal.pk))
    withdrawal.refresh_from_db()
    assert (withdrawal.done, len(queued)) == (2, 2)


def test_it_can_not_be_undone_before_it_is_done(many, lea):
    with pytest.raises(WithdrawalRefused, match="under way"):
        withdrawals.restore(user=lea, withdrawal_id=many[0].pk)


def test_a_broker_that_is_down_leaves_it_resumable(many, monkeypatch, queued):
    withdrawal, _ = many

    def down(_):
        raise OperationalError("no broker")

    with monkeypatch.context() as patched:
        patched.setattr(tasks.run_withdrawal, "delay", down)
        assert not withdrawals.resume(withdrawal_id=withdrawal.pk)
    assert withdrawals.resume(withdrawal_id=withdrawal.pk)
    assert len(queued) == 2


def test_both_judgements_of_one_sample_in_two_batches_keep_the_first_label(lea, ada, round_, monkeypatch):
    """A reviewer who also decided as a lead has two judgements of a sample."""
    monkeypatch.setattr(withdrawal_batches, "BATCH", 1)
    ada.role = "lead"
    ada.save()
    sample = make_sample(round=round_)
    judge(ada, sample, "both_bad")
    adjudication.decide(
        user=ada, sample_id=sample.pk, key=uuid.uuid4(), judgement=Judgement(action="approve"),
        seen=set(sample.reviews.values_list("pk", flat=True)),
    )  # fmt: skip
    before = labels()
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    change = withdrawal.changes.get()
    assert (change.before["how"], change.after, change.changed) == ("adjudicated", None, True)
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert labels() == before


def test_what_was_revised_meanwhile_stays_as_it_is(many, ada):
    withdrawal, _ = many
    first = Review.objects.get(pk=withdrawal.reviews[0])
    revised = reviews.revise_review(
        user=ada, review_id=first.pk, key=uuid.uuid4(), judgement=Judgement(action="approve")
    )
    tasks.run_withdrawal(str(withdrawal.pk))
    assert standing(ada).get() == revised
    assert Review.objects.filter(action="withdraw").count() == 6


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_submit_during_a_withdrawal_is_neither_lost_nor_taken_out(monkeypatch):
    monkeypatch.setattr(withdrawal_batches, "BATCH", 1)
    lea, ada, bob, round_ = make_user("lead"), make_user(), make_user(), make_round()
    samples = [make_sample(round=round_, wanted=2) for _ in range(6)]
    make_sample(round=round_)  # keeps the review open
    for sample in samples:
        judge(ada, sample, "both_bad")
    claims = {sample.pk: leases.take(sample=sample, user=bob) for sample in samples}
    barrier, faults = threading.Barrier(2), []

    def run(act):
        try:
            barrier.wait()
            act()
        except Exception as error:  # noqa: BLE001 - a thread must report what went wrong
            faults.append(error)
        finally:
            connection.close()

    def submit():
        for pk, claim in claims.items():
            reviews.record_review(
                user=bob, sample_id=pk, fence=claim.fence, key=uuid.uuid4(), judgement=Judgement(action="approve")
            )

    acts = (submit, lambda: withdraw(lea, reviewer=ada, experiment=round_.experiment))
    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert standing(bob).count() == 6
    assert not standing(ada).exists()
    assert labels() == {}
    assert set(round_.samples.values_list("status", flat=True)) == {"queued"}


# --- What was trained on it -------------------------------------------------------------------------


def test_checkpoints_trained_on_the_label_are_listed_and_their_round_says_so(lea, ada, bob, client_for):
    first = make_round()
    changed, same = make_sample(round=first), make_sample(round=first, wanted=2)
    made = judge(ada, changed)
    judge(ada, same, "both_bad")
    judge(bob, same, "both_bad")
    close(first)
    checkpoints = make_checkpoints(first, changed, same)
    withdrawal = withdraw(lea, reviewer=ada, experiment=first.experiment)
    later = make_round(experiment=first.experiment, status="done", phase="learn", learning_at=timezone.now())
    make_checkpoints(later, same)  # it learnt after the withdrawal
    trained = list_trained(withdrawal)
    assert [(row.checkpoint, row.labels) for row in trained] == [(checkpoint, 1) for checkpoint in checkpoints]
    assert (count_withdrawn(first), count_withdrawn(later)) == (1, 0)
    page = client_for("reviewer").get(f"/rounds/{first.pk}/").content.decode()
    assert "trained on 1 label withdrawn since" in page
    withdrawals.restore(user=lea, withdrawal_id=withdrawal.pk)
    assert count_withdrawn(first) == 0
    assert "withdrawn since" not in client_for("reviewer").get(f"/rounds/{first.pk}/").content.decode()
    assert made.sample == changed


def test_the_preview_foretells_what_happens(lea, ada, bob, round_):
    lost, altered, same, disputed = (make_sample(round=round_, wanted=n) for n in (1, 1, 1, 2))
    judge(ada, lost)
    Sample.objects.filter(pk=lost.pk).update(gold=True)
    judge(ada, altered, "violates", violations={"0": ["no-fraud"]})
    judge(bob, altered, "violates", violations={"0": ["private-life"]})
    judge(ada, same, "both_bad")
    judge(bob, same, "both_bad")
    judge(ada, disputed, "both_bad")
    judge(bob, disputed)
    wanted = Wanted(reviewer=ada, experiment=round_.experiment)
    rows = Review.objects.count()
    seen = withdrawals.preview(wanted)
    assert Review.objects.count() == rows
    assert (seen.judgements, seen.samples, seen.lost, seen.altered) == (4, 4, [lost.pk], [altered.pk])
    assert (seen.requeued, seen.gold) == (2, 1)
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    totals = read_withdrawal(withdrawal).totals
    assert (totals.samples, totals.lost, totals.altered, totals.requeued, totals.gold) == (4, 1, 1, 2, 1)
    assert set(LabelChange.objects.filter(changed=True).values_list("sample", flat=True)) == {lost.pk, altered.pk}


def test_too_many_are_not_foretold(ada, round_, monkeypatch):
    monkeypatch.setattr(withdrawals, "FORETOLD", 1)
    for _ in range(2):
        judge(ada, make_sample(round=round_))
    seen = withdrawals.preview(Wanted(reviewer=ada, experiment=round_.experiment))
    assert (seen.judgements, seen.samples, seen.lost) == (2, 2, None)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (None, "no label"),
        ({"violates": {"0": 1.0, "1": 0.0}, "preferred": None, "rewrite": "", "how": "single"},
         "A violates, B fine (single)"),
        ({"violates": {"0": 0.5}, "preferred": 1, "rewrite": "x", "how": "closed"},
         "A violates for 50%, B preferred, rewritten (closed)"),
        ({"violates": {}, "preferred": None, "rewrite": "", "how": "agreed"}, "no difference (agreed)"),
    ],
)  # fmt: skip
def test_labels_in_words(label, words):
    assert describe_label(label) == words


# --- The pages --------------------------------------------------------------------------------------


def text(answer):
    return answer.content.decode()


@pytest.mark.parametrize(("role", "status"), [("reviewer", 403), ("lead", 200), ("researcher", 200), ("operator", 200)])
def test_leads_and_above_withdraw(role, status, client_for, lea, ada, round_):
    made = judge(ada, make_sample(round=round_))
    withdrawal = withdraw(lea, review=judge(ada, make_sample(round=round_)))
    client = client_for(role)
    for path in ("withdraw/", f"withdraw/?review={made.pk}", "withdrawals/", f"withdrawals/{withdrawal.pk}/"):
        assert client.get(f"/{path}").status_code == status
    form = {"review": made.pk, "reason": "wrong", "key": uuid.uuid4()}
    assert client.post("/withdraw/", form).status_code == (302 if status == 200 else 403)
    for act in ("restore", "resume"):
        assert client.post(f"/withdrawals/{withdrawal.pk}/{act}/").status_code == (302 if status == 200 else 403)
    assert standing(ada).count() == 1  # one out, one back; or neither
    assert (standing(ada).get() == made) == (status == 403)


def test_wrong_methods_ids_and_strangers(client, client_for, ada, round_):
    lead, made = client_for("lead"), judge(ada, make_sample(round=round_))
    assert client.get("/withdraw/").headers["Location"].startswith("/sign-in/?next=")
    for identifier in ("none", uuid.uuid4()):
        assert lead.get(f"/withdraw/?review={identifier}").status_code == 404
        assert lead.get(f"/withdrawals/{identifier}/").status_code == 404
        assert lead.post(f"/withdrawals/{identifier}/restore/").status_code == 404
    assert lead.post("/withdrawals/").status_code == 405
    assert lead.delete("/withdraw/").status_code == 405
    assert lead.get(f"/withdrawals/{made.pk}/restore/").status_code == 405
    assert lead.get("/withdrawals/?after=none").status_code == 200
    for query in ("reviewer=nobody", "reviewer=ada&since=soon", "reviewer=ada&since=2026-02-30",
                  "reviewer=ada&since=2026-03-02&until=2026-03-01"):  # fmt: skip
        assert lead.get(f"/withdraw/?{query}").status_code == 422
    assert lead.post("/withdraw/", {"review": made.pk, "reason": "x"}).status_code == 422  # no key
    assert lead.post("/withdraw/", {"key": uuid.uuid4(), "reason": "x"}).status_code == 422  # nobody chosen
    assert standing(ada).count() == 1


def test_from_the_preview_to_the_restored_withdrawal(client_for, lea, ada):
    round_ = make_round()
    made = judge(ada, make_sample(round=round_, prompt="Where is the key?"))
    close(round_)
    make_checkpoints(round_, made.sample)
    client = client_for(lea)
    html = text(client.get(f"/withdraw/?reviewer=ada&experiment={round_.experiment_id}"))
    assert "Withdraw 1 judgement" in html
    assert "learner" in html
    form = {"reviewer": "ada", "experiment": round_.experiment_id, "reason": "did it <b>fast</b>", "key": uuid.uuid4()}
    answer = client.post("/withdraw/", form)
    html = text(client.get(answer.headers["Location"]))
    for words in ("Where is the key?", "A fine, B fine (single)", "no label", "&lt;b&gt;fast&lt;/b&gt;",
                  f'href="/rounds/{round_.pk}/"', "accepted"):  # fmt: skip
        assert words in html, words
    assert "hx-trigger" not in html.split('id="withdrawal"')[1]
    assert "&lt;b&gt;fast" in text(client.get("/withdrawals/"))
    client.post(f"{answer.headers['Location']}restore/")
    html = text(client.get(answer.headers["Location"]))
    assert "Undone by <b>lea</b>" in html
    assert labels()


def test_the_page_follows_while_it_is_under_way(many, client_for):
    withdrawal, _ = many
    client = client_for("lead")
    html = text(client.get(f"/withdrawals/{withdrawal.pk}/", headers={"HX-Request": "true", "HX-Target": "withdrawal"}))
    assert "0 of 7" in html
    assert 'hx-trigger="every 2s"' in html
    assert "<html" not in html
    assert "Go on" not in html
    Withdrawal.objects.update(moved_at=timezone.now() - timedelta(seconds=40))
    assert "Go on" in text(client.get(f"/withdrawals/{withdrawal.pk}/"))


def test_a_long_list_of_withdrawals_and_samples_has_pages(client_for, lea, ada, round_):
    for _ in range(41):
        judge(ada, make_sample(round=round_))
    withdrawal = withdraw(lea, reviewer=ada, experiment=round_.experiment)
    client = client_for(lea)
    assert "page 1 of 2" in text(client.get(f"/withdrawals/{withdrawal.pk}/"))
    assert text(client.get(f"/withdrawals/{withdrawal.pk}/?page=2")).count("no label") == 1
    Withdrawal.objects.bulk_create(
        [
            Withdrawal(by=lea, reviewer=ada, experiment=round_.experiment, reason=f"no. {n}", moved_at=timezone.now())
            for n in range(40)
        ]
    )
    html = text(client.get("/withdrawals/"))
    following = html.split("?after=")[1].split('"')[0]
    assert ">tired<" not in html
    assert ">tired<" in text(client.get(f"/withdrawals/?after={following}"))


@pytest.mark.parametrize(("name", "hostile"), [(n, t) for n, t in HOSTILE if len(t) < 10_000], ids=lambda v: v[:12])
def test_hostile_texts_are_shown_and_do_nothing(name, hostile, client_for, lea, ada, round_):
    made = judge(ada, make_sample(round=round_, prompt=hostile))
    client = client_for(lea)
    pages = [text(client.get(f"/withdraw/?review={made.pk}"))]
    withdrawal = withdraw(lea, review=made, reason=hostile if hostile.strip() else "blank")
    pages += [text(client.get(path)) for path in ("/withdrawals/", f"/withdrawals/{withdrawal.pk}/")]
    for html in pages:
        for tag in ("<script>alert", "<img src=x", "<svg onload", "<b>bold", "\"' onmouseover"):
            assert tag not in html, tag


def test_the_number_of_queries_is_fixed(client_for, lea, ada, django_assert_max_num_queries):
    counts = []
    client = client_for(lea)
    for number in (2, 9):
        experiment = make_experiment()
        round_ = make_round(experiment=experiment)
        for _ in range(number):
            judge(ada, make_sample(round=round_))
        paths = [f"/withdraw/?reviewer=ada&experiment={experiment.pk}"]
        with django_assert_max_num_queries(25) as captured:
            client.get(paths[0])
        counts.append([len(captured)])
        withdrawal = withdraw(lea, reviewer=ada, experiment=experiment)
        for path in ("/withdrawals/", f"/withdrawals/{withdrawal.pk}/"):
            with django_assert_max_num_queries(25) as captured:
                client.get(path)
            counts[-1].append(len(captured))
    assert counts[0] == counts[1]
