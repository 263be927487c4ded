"""The live socket: who may open it, what it says, and when it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.test import Client

from oversight import events
from oversight.asgi import application
from oversight.consumers import BROKER_DOWN, NOT_SIGNED_IN
from oversight.models import User
from oversight.services import rounds
from tests.factories import make_round, make_user

pytestmark = pytest.mark.django_db(transaction=True)
OURS = b"http://localhost"


class Socket(ApplicationCommunicator):  # type: ignore[misc]
    """A browser's end of the socket. (channels' own one needs daphne, another server, to be installed.)"""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {"type": "websocket", "path": path, "query_string": b"", "headers": headers, "subprotocols": []}
        super().__init__(application, scope)

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return bool((await self.receive_output(2))["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def hear(self) -> Any:
        return json.loads((await self.receive_output(2))["text"])

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(2)


def socket_for(user: User | None, origin: bytes | None = OURS) -> Socket:
    headers = [(b"host", b"localhost")]
    if origin is not None:
        headers.append((b"origin", origin))
    if user is not None:
        client = Client()
        client.force_login(user)
        headers.append((b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode()))
    return Socket("/ws/live/", headers)


def open_socket(user: User | None, origin: bytes | None = OURS) -> tuple[bool, dict[str, Any] | None]:
    """Whether it opens, and what comes first."""
    socket = socket_for(user, origin)

    async def talk() -> tuple[bool, dict[str, Any] | None]:
        opened = await socket.connect()
        first = None
        if opened and not await socket.receive_nothing(timeout=0.05):
            first = await socket.receive_output()
        await socket.leave()
        return opened, first

    return async_to_sync(talk)()


@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher", "operator"])
def test_everybody_signed_in_may_listen(role: str) -> None:
    assert open_socket(make_user(role)) == (True, None)


def test_an_outsider_is_told_and_shut_out() -> None:
    opened, first = open_socket(None)
    assert opened and first is not None
    assert (first["type"], first["code"]) == ("websocket.close", NOT_SIGNED_IN)


def test_a_closed_account_is_shut_out() -> None:
    user = make_user()
    socket = socket_for(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    async def talk() -> int:
        await socket.connect()
        return int((await socket.receive_output())["code"])

    assert async_to_sync(talk)() == NOT_SIGNED_IN


@pytest.mark.parametrize("origin", [b"https://evil.example", b"http://localhost.evil.example", b"null", None])
def test_another_site_can_not_open_it(origin: bytes | None) -> None:
    assert open_socket(make_user("operator"), origin)[0] is False


def test_a_change_arrives_after_the_commit_and_carries_only_what_changed() -> None:
    round = make_round(status="queued")
    socket = socket_for(make_user())

    async def talk() -> list[dict[str, Any]]:
        await socket.connect()
        await sync_to_async(rounds.cancel_round)(round=round, user=None)
        said = [await socket.hear() for _ in range(2)]
        await socket.leave()
        return said

    said = async_to_sync(talk)()
    assert {"topic": "round", "id": str(round.pk)} in said and {"topic": "queue", "id": ""} in said


@pytest.mark.parametrize("ping", ["{}", "not json", "[1", ""])
def test_any_ping_is_answered(ping: str) -> None:
    socket = socket_for(make_user())

    async def talk() -> Any:
        await socket.connect()
        await socket.say(ping)
        answer = await socket.hear()
        await socket.leave()
        return answer

    assert async_to_sync(talk)() == {"topic": "pong", "id": ""}


def test_a_ping_ends_the_socket_of_somebody_who_was_locked_out() -> None:
    user = make_user()
    socket = socket_for(user)

    async def talk() -> int:
        await socket.connect()
        await sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
        await socket.say("{}")
        return int((await socket.receive_output())["code"])

    assert async_to_sync(talk)() == NOT_SIGNED_IN


def test_without_a_broker_the_page_is_told_to_ask_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(get_channel_layer(), "group_add", refuse)
    opened, first = open_socket(make_user())
    assert opened and first is not None and first["code"] == BROKER_DOWN


def test_a_broker_that_is_down_undoes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(get_channel_layer(), "group_send", refuse)
    events.publish("round", "1")


def test_another_path_is_no_socket() -> None:
    async def talk() -> None:
        socket = Socket("/ws/other/", [(b"origin", OURS)])
        with pytest.raises(ValueError, match="No route"):
            await socket.connect()

    async_to_sync(talk)()
