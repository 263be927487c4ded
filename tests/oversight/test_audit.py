"""The audit chain: what a change afterwards looks like, and two writers at once."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from oversight.models import AuditEvent
from oversight.services import audit


@pytest.mark.django_db
def test_each_event_carries_the_hash_of_the_one_before():
    first = audit.record("ada", "round.launch", "round:1", budget=24, share=0.2)
    second = audit.record("bob", "round.cancel")
    assert (first.previous, second.previous) == ("", first.digest)
    assert audit.find_break() is None


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"actor": "eve"}, {"detail": {"budget": 25}}, {"target": "round:2"}])
def test_a_changed_event_breaks_the_chain(change):
    audit.record("ada", "a")
    event = audit.record("ada", "b", "round:1", budget=24)
    audit.record("ada", "c")
    AuditEvent.objects.filter(pk=event.pk).update(**change)
    assert audit.find_break() == event


@pytest.mark.django_db
def test_a_removed_event_breaks_the_chain():
    audit.record("ada", "a")
    removed = audit.record("ada", "b")
    after = audit.record("ada", "c")
    AuditEvent.objects.filter(pk=removed.pk).delete()
    assert audit.find_break() == after


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_make_one_chain():
    def write():
        try:
            for number in range(5):
                audit.record("ada", "test", detail_number=number)
        finally:
            connection.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert AuditEvent.objects.count() == 20
    assert audit.find_break() is None
