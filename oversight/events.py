"""Live events: the only module that sends to open pages, and only after the transaction commits.

An event carries no data but which thing changed; pages fetch the fragment anew with their own rights. In the web
server no request waits for the broker: the server's loop sends, and what changes again within PAUSE is said once.
"""

from __future__ import annotations

import asyncio
import logging
import time

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)
GROUP = "oversight"
PAUSE = 0.5  # seconds between two events of one thing: each makes every open page ask the server

_server: asyncio.AbstractEventLoop | None = None
_said: dict[tuple[str, str], float] = {}  # when an event was last sent, on the loop's clock; read by the loop only
_due: dict[tuple[str, str], asyncio.TimerHandle] = {}


def attach(loop: asyncio.AbstractEventLoop) -> None:
    """The web server names the loop that sends for its threads."""
    global _server
    _server = loop


def publish(topic: str, identifier: str = "") -> None:
    """Tells open pages that `topic` ("round", "queue") changed, on commit. Never raises: polling still works."""
    transaction.on_commit(lambda: _send(topic, identifier))


def _send(topic: str, identifier: str) -> None:
    if _server is not None and _server.is_running():
        _server.call_soon_threadsafe(_plan, topic, identifier)
        return
    async_to_sync(_say)(topic, identifier)


def _plan(topic: str, identifier: str) -> None:
    """On the server's loop: sends at once, or when PAUSE has passed since the last one of the same thing."""
    key, now = (topic, identifier), time.monotonic()
    if key in _due:
        return  # what is planned says this change too
    assert _server is not None
    _due[key] = _server.call_later(max(0.0, _said.get(key, 0.0) + PAUSE - now), _start, topic, identifier)


def _start(topic: str, identifier: str) -> None:
    key = (topic, identifier)
    del _due[key]
    _said.pop(key, None)
    _said[key] = time.monotonic()
    while len(_said) > 1000:  # the oldest ones: rounds that nobody changes any more
        del _said[next(iter(_said))]
    task = asyncio.ensure_future(_say(topic, identifier))
    _running.add(task)
    task.add_done_callback(_running.discard)


_running: set[asyncio.Task[None]] = set()  # the loop keeps only a weak reference to a task


async def _say(topic: str, identifier: str) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        await layer.group_send(GROUP, {"type": "changed", "topic": topic, "id": identifier})
    except Exception as error:  # noqa: BLE001 - a broker that is down must not undo a saved review
        log.warning("live event %s %s not sent: %s", topic, identifier, error)
