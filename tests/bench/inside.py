"""What is done beside the server in its own database: sessions, checks afterwards, queries counted, plans read."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

BATCH = 500


def make_sessions() -> dict[str, str]:
    """A signed-in session for everybody: user name -> session key."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from oversight.models import User

    sessions = {}
    for user in User.objects.order_by("pk"):
        store = SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        store.create()
        sessions[user.username] = str(store.session_key)
    return sessions


def verify(keys: list[str]) -> dict[str, Any]:
    """What the database says of the submits with these keys: lost ones, and judgements that count twice."""
    from oversight.models import Label, Lease, Review, Sample
    from oversight.services import audit, labels

    rows = {}
    for start in range(0, len(keys), BATCH):
        found = Review.objects.filter(key__in=keys[start : start + BATCH])
        rows.update({str(key): sample for key, sample in found.values_list("key", "sample_id")})
    lost = [key for key in keys if key not in rows]
    samples, twice, wrong = sorted(set(rows.values())), [], []
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        reviews = list(Review.objects.filter(sample__in=part))
        superseded = {review.supersedes_id for review in reviews}
        standing = [r for r in reviews if r.pk not in superseded and r.action not in (*_taken_back(),)]
        pairs = [(review.sample_id, review.reviewer_id) for review in standing]
        twice += [
            f"sample {sample}, person {person}" for sample, person in set(pairs) if pairs.count((sample, person)) > 1
        ]
        counted = {
            str(r.pk): r for r in standing
            if r.held_lease and r.purpose != Review.Purpose.GOLD and r.action in labels.JUDGEMENTS
        }  # fmt: skip
        decided = dict(Label.objects.filter(sample__in=part).values_list("sample_id", "evidence"))
        for sample in Sample.objects.filter(pk__in=part).only("status"):
            evidence = decided.get(sample.pk)
            if (sample.status == Sample.Status.DECIDED) != (evidence is not None):
                wrong.append(f"sample {sample.pk} is {sample.status}, its label's evidence is {evidence}")
            if evidence is not None:
                own = [counted[key] for key in evidence if key in counted and counted[key].sample_id == sample.pk]
                if len(own) != len(evidence) or len({r.reviewer_id for r in own}) != len(own):
                    wrong.append(f"sample {sample.pk}: its label rests on {evidence}")
    held = Lease.objects.exclude(holder=None).values_list("sample_id", flat=True)
    broken = audit.find_break()
    return {
        "submits": len(keys), "reviews": len(rows), "lost": lost, "counted_twice": twice + wrong,
        "leases_held": len(held), "leases_held_twice": len(held) - len(set(held)),
        "audit_chain": "whole" if broken is None else f"breaks at event {broken.pk}",
    }  # fmt: skip


def _taken_back() -> tuple[str, ...]:
    from oversight.models import Review

    return (Review.Action.UNDO, Review.Action.WITHDRAW)


def count_queries(username: str, submits: int) -> dict[str, Any]:
    """Queries of a submit with the next sample in its answer, counted in this process; transactions not counted."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from oversight.models import User
    from tests.bench.client import read_page

    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.get(username=username))
    page = read_page(client.get("/review/").content.decode())
    counts, shapes = [], []
    for _ in range(submits):
        assert page is not None
        with CaptureQueriesContext(connection) as captured:
            form = {**page.fields, "action": "approve", "seconds": "12"}
            answer = client.post(page.action, form, HTTP_HX_REQUEST="true")
        assert answer.status_code == 200, answer.content[:500]
        page = read_page(answer.content.decode())
        queries = [query["sql"] for query in captured if not query["sql"].startswith(CONTROL)]
        counts.append(len(queries))
        shapes.append(queries)
    usual = sorted(counts)[len(counts) // 2]
    example = shapes[counts.index(usual)]
    return {
        "counts": counts, "median": usual, "most": max(counts), "example": example, "plans": read_submit_plans(example),
    }  # fmt: skip


def read_submit_plans(queries: list[str]) -> dict[str, list[str]]:
    """Full scans and sorted queues of a submit, as it is and with fresh statistics, which change SQLite's mind."""
    from django.db import connection, transaction

    selects = [sql for sql in queries if sql.startswith("SELECT")]
    found = {"now": [line for sql in selects for line in find_scans(sql, sorts=True)]}
    with transaction.atomic():
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA analysis_limit=400")  # as the product does it
            cursor.execute("ANALYZE")
        found["with_statistics"] = [line for sql in selects for line in find_scans(sql, sorts=True)]
        transaction.set_rollback(True)
    return found


CONTROL = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")


def read_plans(paths: list[str], username: str) -> dict[str, list[str]]:
    """Path -> full scans of big tables in the plans of its queries; [] is what should be."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from oversight.models import User

    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.get(username=username))
    found: dict[str, list[str]] = {}
    for path in paths:
        with CaptureQueriesContext(connection) as captured:
            client.get(path)
        scans = set()
        for query in captured.captured_queries:
            if query["sql"].startswith(("SELECT", "WITH")):
                scans |= set(find_scans(query["sql"]))
        found[path] = sorted(scans)
    return found


# Not the audit log, which is only read at its end, nor drafts, of which a person has a few.
BIG = frozenset(
    "oversight_" + name
    for name in "sample query critique review label lease sampletext trainedon".split()  # noqa: SIM905
)
TABLES = re.compile(r'(?:FROM|JOIN)\s+"?(oversight_\w+)"?(?:\s+(?:AS\s+)?"?(\w+)"?)?', re.IGNORECASE)
SCANS = {
    "sqlite": re.compile(r"SCAN (\w+)(?!.*(?:USING|VIRTUAL))"),
    "postgresql": re.compile(r"(?:-> +)?(?:Parallel )?Seq Scan on (\w+)"),
}


def find_scans(sql: str, *, sorts: bool = False) -> list[str]:
    """Lines of the plan that read a big table from end to end; with `sorts` also a sort of what waits in the queue."""
    from django.db import connection

    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + sql)  # as captured: its values stand in it
        rows = cursor.fetchall()
    lines = [str(row[-1]).strip() for row in rows]
    names = {table: table for table, _ in TABLES.findall(sql)}
    names |= {alias: table for table, alias in TABLES.findall(sql)}  # SQLite's plan names the alias
    found = [(line, SCANS[connection.vendor].match(line)) for line in lines]
    scans = [line for line, scan in found if scan and names.get(scan[1]) in BIG]
    if sorts and '"oversight_sample"."rank" DESC' in sql:
        scans += [line for line in lines if line.startswith(("USE TEMP B-TREE", "Sort Key"))]
    return scans


def main() -> None:
    import django

    django.setup()
    task, *arguments = sys.argv[1:]
    if task == "sessions":
        result: Any = make_sessions()
    elif task == "verify":
        result = verify(json.load(sys.stdin))
    elif task == "queries":
        result = count_queries(arguments[0], int(arguments[1]))
    elif task == "plans":
        result = read_plans(json.load(sys.stdin), arguments[0])
    else:
        sys.exit(f"{task!r} is not a task of tests.bench.inside; use sessions, verify, queries or plans")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
