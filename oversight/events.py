"""Live events: the only module that sends to open pages, and only after the transaction commits.

An event carries no data but which thing changed; pages fetch the fragment anew with their own rights.
"""

from __future__ import annotations

import logging

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)
GROUP = "oversight"


def publish(topic: str, identifier: str = "") -> None:
    """Tells open pages that `topic` ("round", "queue") changed, on commit. Never raises: polling still works."""
    transaction.on_commit(lambda: _send(topic, identifier))


def _send(topic: str, identifier: str) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(GROUP, {"type": "changed", "topic": topic, "id": identifier})
    except Exception as error:  # noqa: BLE001 - a broker that is down must not undo a saved review
        log.warning("live event %s %s not sent: %s", topic, identifier, error)
