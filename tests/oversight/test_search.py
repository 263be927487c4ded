"""Words of any script find what they should, no input is syntax, and no filter reads the whole table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from oversight import search
from oversight.models import Experiment, Label, Round, Sample, SampleText, User
from oversight.selectors import sample_index, sample_texts
from oversight.selectors.sample_filter import SampleFilter, open_sight
from oversight.selectors.samples import SamplePage, list_samples
from tests.factories import make_experiment, make_review, make_round, make_sample, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
For = Callable[..., Client]


def find(sample: Sample, **wanted: Any) -> SamplePage:
    """As a lead of the sample's experiment."""
    experiment = sample.round.experiment
    lead = User.objects.filter(role="lead").first() or make_user("lead")
    return list_samples(experiment, SampleFilter.from_query(wanted), sight=open_sight(lead, experiment))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't PANIC, it's 42!", ["don", "t", "panic", "it", "s", "42"]),
        ("Ångström café ﬁne", ["angstrom", "cafe", "fine"]),
        ("pass\u200bword\u00ad", ["password"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("漢字典", ["漢字", "字典", "典"]),
        ("snake_case x=1\x00y", ["snake", "case", "x", "1", "y"]),
        ("\ud800 🙂 \"*' -- §", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert search.split_words(text) == words


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("neighbour", "Neighbour"), ("neighbour keeps", "keeps neighb"), ("café noir", "CAFE"),
        ("see 漢字典 there", "字典"),
        ("see 漢字典 there", "漢 there"), ("see 漢字典", "典"), ("Привет, мир", "привет ми"),
        ("يحفظ المفتاح", "المفتاح"),
        ("a naïve\u200b test", "naive t"), ("it's", "it's"), ("one AND two", "and"), ("x" * 300, "x" * 300),
    ],
)  # fmt: skip
def test_finds(text: str, asked: str) -> None:
    sample = make_sample(prompt=text)
    assert find(sample, text=asked).samples == [sample]


@pytest.mark.parametrize("asked", ["neighbou x", "eighbour", "漢典", "典漢", "nei ghbour", "neighbour -key"])
def test_does_not_find(asked: str) -> None:
    assert find(make_sample(prompt="neighbour 漢字典", answers=("a", "b")), text=asked).rows == []


def test_answers_are_searched_too() -> None:
    sample = make_sample(prompt="a question", answers=("the first", "the second sesquipedalian"))
    assert find(sample, text="question sesqui").samples == [sample]


@pytest.mark.parametrize(
    "asked",
    ['"', '" OR "', "a AND", "NOT a", "NEAR(a b)", "a*b", "text:a", "^a", "(((", "a\\", "'; DROP TABLE x; --", "-a",
     "{text}: a", "a:*", "!a & | <-> b", "%", "_", "\x00a", "§a", "a" * 10_000, "\u202ea", "a " * 5_000],
)  # fmt: skip
def test_no_input_is_syntax(client_for: For, asked: str) -> None:
    make_sample(prompt="a text")
    for role in ("reviewer", "lead"):
        assert client_for(role).get("/samples/", {"text": asked}).status_code == 200
        assert client_for(role).get("/api/samples/", {"text": asked}).status_code == 200


def test_signs_alone_find_nothing_and_say_why(client_for: For) -> None:
    make_sample(prompt="?!")
    page = client_for("lead").get("/samples/", {"text": "?! 🙂"}).content.decode()
    assert "needs a letter or a digit" in page


def test_another_experiment_is_not_searched() -> None:
    here, there = make_sample(prompt="shared word"), make_sample(prompt="shared word")
    assert find(here, text="shared").samples == [here]
    assert find(there, text="shared").samples == [there]


def test_words_and_filters_together() -> None:
    round = make_round()
    ada = make_user(username="ada")
    queued = make_sample(round=round, prompt="the vault", query={"category": "fraud"})
    decided = make_sample(round=round, prompt="the vault", status="decided", gold=True, query={"principle": "no-fraud"})
    later = make_round(experiment=round.experiment, status="done")
    disputed = make_sample(round=later, prompt="the vaults", status="disputed", disputed=True, assigned_to=ada)
    make_review(sample=decided, reviewer=ada)
    for wanted, samples in [
        ({}, [disputed, decided, queued]), ({"status": "queued"}, [queued]), ({"category": "fraud"}, [queued]),
        ({"principle": "no-fraud"}, [decided]), ({"round": "1"}, [decided, queued]), ({"gold": "yes"}, [decided]),
        ({"disputed": "yes"}, [disputed]), ({"assigned": "ada"}, [disputed]), ({"reviewer": "ada"}, [decided]),
        ({"reviewer": "ada", "status": "queued"}, []), ({"gold": "yes", "round": "2"}, []), ({"reviewer": "eve"}, []),
    ]:  # fmt: skip
        for words in ({"text": "vault"}, {}):
            assert find(queued, **wanted, **words).samples == samples, (wanted, words)


@pytest.mark.parametrize("with_words", [True, False])
def test_pages_of_a_search_show_every_sample_once(with_words: bool) -> None:
    round = make_round()
    made = [make_sample(round=round, prompt="a word", status=("queued", "decided")[i % 2]).pk for i in range(9)]
    sight = open_sight(make_user("lead"), round.experiment)
    seen, after = [], ""
    while True:
        wanted = SampleFilter(status="queued", text="wor" if with_words else "", kind="unsafe")
        page = list_samples(round.experiment, wanted, sight=sight, after=after, size=2)
        seen += [sample.pk for sample in page.samples]
        after = page.next
        if not after:
            break
    assert seen == made[::-2]


def test_a_search_that_stops_early_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frequent words and a frequent state that hardly ever come together: either side is walked in steps."""
    monkeypatch.setattr(sample_texts, "MEMBERS", (1, 2))
    monkeypatch.setattr(sample_texts, "CANDIDATES", (2, 3))
    round = make_round()
    first = make_sample(round=round, prompt="a word", status="skipped")
    for _ in range(8):
        make_sample(round=round, prompt="another", status="skipped")
    for _ in range(8):
        make_sample(round=round, prompt="a word", status="decided")
    sight = open_sight(make_user("lead"), round.experiment)
    wanted = SampleFilter(status="skipped", text="word")
    page = list_samples(round.experiment, wanted, sight=sight)
    assert (page.samples, page.checked) == ([], 5) and page.next
    page = list_samples(round.experiment, wanted, sight=sight, after=page.next)
    assert (page.samples, page.next, page.checked) == ([first], "", 0)


def test_a_small_set_is_walked_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_texts, "CANDIDATES", ())
    monkeypatch.setattr(sample_texts, "MEMBERS", (2, 3))
    round = make_round()
    made = [make_sample(round=round, prompt=f"{'ab'[i % 2]} word", status="skipped") for i in range(4)]
    sight = open_sight(make_user("lead"), round.experiment)
    wanted, seen, after = SampleFilter(status="skipped", text="a word"), [], ""
    for _ in range(4):
        page = list_samples(round.experiment, wanted, sight=sight, after=after, size=1)
        assert page.checked == 0
        seen += page.samples
        after = page.next
        if not after:
            break
    assert seen == [made[2], made[0]]


def test_without_fts5_the_texts_are_read_and_the_page_says_so(client_for: For, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_texts, "has_index", lambda: False)
    monkeypatch.setattr("oversight.selectors.samples.has_index", lambda: False)
    monkeypatch.setattr(sample_texts, "_list_by_lexemes", sample_texts._list_by_like)
    sample = make_sample(prompt="100% of_the keys")
    make_sample(round=sample.round, prompt="others")
    assert find(sample, text="100 key").samples == [sample]
    assert find(sample, text="ey").rows == [] and find(sample, text="keys of").samples == [sample]
    assert b"no full-text index" in client_for("lead").get("/samples/?text=keys").content


def test_the_index_follows_the_texts() -> None:
    sample = make_sample(prompt="before")
    SampleText.objects.filter(sample=sample).update(text=search.make_text(sample, "afterwards"))
    assert find(sample, text="before").rows == [] and find(sample, text="afterwards").samples == [sample]
    other = make_sample(round=sample.round, prompt="afterwards")
    SampleText.objects.filter(sample=sample).delete()
    assert find(sample, text="afterwards").samples == [other]


def test_rebuilding_finds_the_same() -> None:
    samples = [make_sample(prompt=f"common word{i}") for i in range(3)]
    SampleText.objects.all().delete()
    SampleText.objects.create(sample=samples[0], text="rubbish")
    assert find(samples[1], text="common").rows == []
    call_command("index_samples")
    for index, sample in enumerate(samples):
        assert find(sample, text=f"common word{index}").samples == [sample]
        assert find(sample, kind="unsafe").samples == [sample]
    assert find(samples[0], text="rubbish").rows == []


def test_a_text_of_a_megabyte_is_taken_in() -> None:
    words = " ".join(f"w{i}" for i in range(150_000))
    sample = make_sample(prompt="first", answers=(words, "b"))
    assert find(sample, text="first w7777").samples == [sample]


# --- Plans ------------------------------------------------------------------------------------------

FILTERS = [
    {}, {"round": "1"}, {"status": "queued"}, {"status": "excluded"}, {"kind": "unsafe"}, {"kind": "harmless"},
    {"category": "fraud"}, {"principle": "private-life"}, {"reason": "disagreement"}, {"reason": "audit"},
    {"status": "unflagged", "reason": "violation"}, {"round": "1", "kind": "harmless", "status": "closed"},
    {"reviewer": "ada"}, {"reviewer": "ada", "status": "skipped", "kind": "unsafe"}, {"assigned": "ada"},
    {"disputed": "yes"}, {"gold": "yes"}, {"gold": "yes", "round": "1", "reason": "audit"}, {"text": "neighbour"},
    {"text": "neighbour", "status": "queued"}, {"text": "neighbour", "status": "decided"}, {"text": "nothing"},
    {"text": "neighbour", "reviewer": "ada"}, {"text": "neighbour", "round": "1", "kind": "harmless"},
    {"text": "neighbour", "gold": "yes"}, {"text": "neighbour key", "category": "fraud", "status": "closed"},
]  # fmt: skip


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiment]:
    """20,000 samples: enough for PostgreSQL to think that reading all of them costs something."""
    monkeypatch.setattr(sample_index, "WALK", 50)
    monkeypatch.setattr(sample_texts, "MEMBERS", (5, 10))
    first = make_sample(status="decided")
    make_review(sample=first, reviewer=make_user(username="ada"))
    Label.objects.create(sample=first, violates={"0": 1.0})
    copies = 20_000
    postgres = connection.vendor == "postgresql"
    numbers = "generate_series(1, %s) AS g(i)"
    if not postgres:
        numbers = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) SELECT i FROM n)"
    source = f"(SELECT i FROM {numbers})"  # noqa: S608 - all of it is written here
    new = "md5(i::text)::uuid" if postgres else "printf('%%032x', i)"
    with connection.cursor() as cursor:
        for model, own in ((first.query, {"id": new}), (first, {"id": new, "query_id": new})):
            names = [field.column for field in model._meta.concrete_fields]
            values = ", ".join(own.get(name, f'c."{name}"') for name in names)
            columns, table = ", ".join(f'"{name}"' for name in names), model._meta.db_table
            key = first.pk if postgres else first.pk.hex
            cursor.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} c, {source} AS n WHERE c.id = %s",  # noqa: S608
                [copies, key],
            )
        text = SampleText.objects.get(sample=first).text
        cursor.execute(
            f"INSERT INTO oversight_sampletext (sample_id, text) SELECT {new}, %s FROM {source} AS n",  # noqa: S608
            [text, copies],
        )
        cursor.execute("ANALYZE")
    yield first.experiment


# Reads of a whole table that holds 20,000 rows: by name or alias, even through an index. FTS5's own "SCAN" is none.
FULL = re.compile(r"SCAN (oversight_sample|oversight_sampletext|oversight_query|s|t)\b|Seq Scan on oversight_(s|q)")


def read_plans(run: Callable[[], object]) -> list[tuple[str, str]]:
    """(statement, its plan) of every SELECT that `run` makes."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().upper().startswith(("SELECT", "WITH")):
            asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        run()
    plans = []
    with connection.cursor() as cursor:
        for sql, params in asked:
            cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql, params)
            plans.append((sql, "\n".join(str(row[-1]) for row in cursor.fetchall())))
    return plans


def test_no_filter_reads_the_whole_table(many: Experiment) -> None:
    lead = make_user("lead")
    sight = open_sight(lead, many)
    looked = 0
    for wanted in FILTERS:
        asked = SampleFilter.from_query(wanted)
        page = list_samples(many, asked, sight=sight)
        for after in ("", page.next):
            again = partial(list_samples, many, asked, sight=sight, after=after)
            for sql, plan in read_plans(again):
                assert not FULL.search(plan), f"{wanted}: {sql}\n{plan}"
                looked += 1
    assert looked > 2 * len(FILTERS)


def test_as_many_queries_at_any_size(many: Experiment, django_assert_max_num_queries: Any) -> None:
    sight = open_sight(make_user("lead"), many)
    for wanted in FILTERS:
        with django_assert_max_num_queries(14):  # the most steps, for words and a state that hardly come together
            list_samples(many, SampleFilter.from_query(wanted), sight=sight)


def test_rounds_of_any_number_and_cells_that_are_gone() -> None:
    experiment = make_experiment()
    sample = make_sample(round=make_round(experiment=experiment, number=7))
    assert find(sample, round="7").samples == [sample]
    assert find(sample, round="8").rows == []
    Round.objects.filter(pk=sample.round_id).delete()
    assert find(make_sample(round=make_round(experiment=experiment, number=8)), kind="unsafe").rows
