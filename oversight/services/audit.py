"""The audit log: append only, each row carries the hash of the one before it.

A row that is changed or removed afterwards breaks the chain at that place, which `find_break` shows.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.utils import timezone

from oversight.models import AuditEvent

# Any fixed number: PostgreSQL's advisory lock that lets one writer at a time extend the chain.
CHAIN_LOCK = 0x0E71


@transaction.atomic(savepoint=False)
def record(actor: str, action: str, target: str = "", **detail: Any) -> AuditEvent:
    """Appends one event in the caller's transaction. Call it last: the chain stays locked until the commit."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
    last = AuditEvent.objects.order_by("-id").values_list("digest", flat=True).first()
    event = AuditEvent(
        at=timezone.now(),
        actor=actor[:150],
        action=action,
        target=target[:200],
        # As the database will give it back, so that the digest can be computed again.
        detail=json.loads(json.dumps(detail, cls=DjangoJSONEncoder)),
        previous=last or "",
    )
    event.digest = compute_digest(event)
    event.save(force_insert=True)
    return event


def compute_digest(event: AuditEvent) -> str:
    """SHA-256 of everything an event says, the digest of the one before it included."""
    at: datetime = event.at
    content = [event.previous, at.isoformat(timespec="microseconds"), event.actor, event.action, event.target]
    text = json.dumps([*content, event.detail], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def find_break() -> AuditEvent | None:
    """The first event that doesn't fit the one before it, or None where the whole chain holds."""
    previous = ""
    for event in AuditEvent.objects.order_by("id").iterator():
        if event.previous != previous or event.digest != compute_digest(event):
            return event
        previous = event.digest
    return None
