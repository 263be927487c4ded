"""The live socket: tells an open page that something changed; the page fetches its fragment itself."""

from __future__ import annotations

import logging
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.sessions.backends.db import SessionStore
from redis.exceptions import RedisError

from oversight.events import GROUP
from oversight.models import Role, User
from oversight.permissions import has_role

log = logging.getLogger(__name__)
# Close codes of our own (4000 to 4999 are free): live.js stops asking after the first.
NOT_SIGNED_IN = 4401
BROKER_DOWN = 4503


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Sends {"topic", "id"} to signed-in people, and carries nothing that a role could hide."""

    async def connect(self) -> None:
        # Accepted first, because a close before that reaches the browser without its code.
        await self.accept()
        if not has_role(self.scope["user"], Role.REVIEWER):
            await self.close(code=NOT_SIGNED_IN)
            return
        try:
            await self.channel_layer.group_add(GROUP, self.channel_name)
        except (RedisError, OSError) as error:
            log.warning("live socket refused, the broker does not answer: %s", error)
            await self.close(code=BROKER_DOWN)

    async def disconnect(self, code: int) -> None:
        try:
            await self.channel_layer.group_discard(GROUP, self.channel_name)
        except (RedisError, OSError) as error:
            log.info("live socket left without saying so: %s", error)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """The page's ping, whatever it says: keeps proxies from closing the socket, and finds who was locked out."""
        if await database_sync_to_async(_may_stay)(self.scope["user"].pk, self.scope["session"].session_key):
            await self.send_json({"topic": "pong", "id": ""})
        else:
            await self.close(code=NOT_SIGNED_IN)

    async def changed(self, event: dict[str, Any]) -> None:
        await self.send_json({"topic": event["topic"], "id": event["id"]})


def _may_stay(user_id: int | None, session_key: str | None) -> bool:
    """False once the person was deactivated or has signed out in another window."""
    if user_id is None or session_key is None or not SessionStore().exists(session_key):
        return False
    return User.objects.filter(pk=user_id, is_active=True).exists()
