"""A database of the first version, with data, keeps everything on its way to the newest."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def migrate_to(name: str | None) -> Any:
    """The models as they were at that migration; None is the newest."""
    executor = MigrationExecutor(connection)
    targets = [("oversight", name)] if name else executor.loader.graph.leaf_nodes("oversight")
    executor.migrate(targets)
    return MigrationExecutor(connection).loader.project_state(targets).apps


@pytest.fixture
def first_version() -> Iterator[Any]:
    yield migrate_to("0001_initial")
    migrate_to(None)


def make_round(apps: Any, *, status: str = "done", number: int = 1, experiment: Any = None) -> Any:
    get = lambda name: apps.get_model("oversight", name)  # noqa: E731
    if experiment is None:
        constitution = get("Constitution").objects.create(name=f"c-{uuid.uuid4()}")
        experiment = get("Experiment").objects.create(name=f"e-{uuid.uuid4()}", constitution=constitution, learner="m")
    return get("Round").objects.create(experiment=experiment, number=number, status=status)


def make_sample(apps: Any, round: Any, *, status: str, text: str = "Where is the key?", reason: str = "audit") -> Any:
    identifier = uuid.uuid4()
    query = apps.get_model("oversight", "Query").objects.create(
        id=identifier, round=round, text=text, kind="unsafe", category="privacy", principle="private-life",
        operator="seed", written_by="template",
    )  # fmt: skip
    return apps.get_model("oversight", "Sample").objects.create(
        id=identifier, query=query, round=round, status=status, flag_reason=reason, flag_words="words", priority=0.5,
        propensity=0.25, content_hash="0" * 64,
        responses=[{"id": "r", "query": str(identifier), "index": 0, "text": "Under the mat.", "tokens": 3,
                    "finish": "stop", "model": "m"}],
    )  # fmt: skip


def test_everything_is_kept_and_findable(first_version: Any) -> None:
    get = lambda name: first_version.get_model("oversight", name)  # noqa: E731
    ada = get("User").objects.create(username="ada", role="reviewer")
    round = make_round(first_version)
    decided = make_sample(first_version, round, status="decided", text="The wörd of old")
    twice = make_sample(first_version, round, status="decided")
    queued = make_sample(first_version, make_round(first_version, status="reviewing"), status="queued")
    unflagged = make_sample(first_version, round, status="unflagged", reason="")

    def review(sample: Any, **fields: Any) -> Any:
        fields = {"action": "violates", "violations": {"0": ["private-life"]}, **fields}
        return get("Review").objects.create(sample=sample, reviewer=ada, key=uuid.uuid4(), **fields)

    first = review(decided)
    corrected = review(
        decided, action="rewrite", rewrite="Ask them.", rewrite_of=0, supersedes=first, note="n", seconds=4.5
    )
    pair = [review(twice), review(twice)]
    label = get("Label").objects.create(sample=decided, violates={"0": 1.0}, principles=["x"], rewrite="Ask them.")
    label.reviews.set([corrected])
    other = get("Label").objects.create(sample=twice, violates={"0": 0.5}, preferred=1)
    other.reviews.set(pair)
    get("Checkpoint").objects.create(
        experiment=round.experiment, round=round, role="learner", path="p", sha256="0" * 64, verdict="accepted"
    )
    get("Lease").objects.create(sample=queued, holder=ada, fence=3, expires_at=timezone.now())
    get("AuditEvent").objects.create(at=timezone.now(), actor="ada", action="x", digest="d")
    before = {
        name: list(get(name).objects.order_by("pk").values())
        for name in ("User", "Experiment", "Round", "Query", "Sample", "Review", "Lease", "Checkpoint", "AuditEvent")
    }

    apps = migrate_to(None)

    for name, rows in before.items():
        after = {row["id"]: row for row in apps.get_model("oversight", name).objects.values()}
        assert len(after) == len(rows)
        for row in rows:
            assert row.items() <= after[row["id"]].items(), name
    now = apps.get_model("oversight", "Sample").objects.get(pk=decided.pk)
    assert (now.experiment_id, now.kind, now.category, now.principle) == (
        round.experiment_id, "unsafe", "privacy", "private-life",
    )  # fmt: skip
    assert (now.wanted, now.rank, now.gold, now.disputed, now.assigned_to_id) == (1, 0, False, False, None)
    labels = {row.sample_id: row for row in apps.get_model("oversight", "Label").objects.all()}
    kept = labels[decided.pk]
    assert (kept.evidence, kept.how, kept.rewrite_of) == ([str(corrected.pk)], "single", 0)
    assert labels[twice.pk].how == "agreed"
    assert labels[twice.pk].evidence == [str(row.pk) for row in sorted(pair, key=lambda r: (r.created_at, r.pk))]
    trained = apps.get_model("oversight", "TrainedOn").objects.values_list("sample", "round")
    assert sorted(trained) == sorted([(decided.pk, round.pk), (twice.pk, round.pk)])

    from oversight.models import Experiment, User
    from oversight.selectors.sample_filter import SampleFilter, open_sight
    from oversight.selectors.samples import list_samples

    experiment = Experiment.objects.get(pk=round.experiment_id)
    sight = open_sight(User(username="lead", role="lead"), experiment)
    for wanted, expected in (
        (SampleFilter(text="word mat"), [decided]), (SampleFilter(status="unflagged", kind="unsafe"), [unflagged]),
        (SampleFilter(round=1, reason="audit"), [twice, decided]),
    ):  # fmt: skip
        assert [s.pk for s in list_samples(experiment, wanted, sight=sight).samples] == [s.pk for s in expected]


def test_the_search_index_can_be_taken_back() -> None:
    migrate_to("0004_finish_workbench")
    migrate_to(None)


def test_the_models_need_no_further_migration() -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
