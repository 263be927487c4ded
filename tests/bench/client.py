"""A small HTTP client over asyncio: it must cost less than what it measures on the same two cores."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import re
import zlib
from dataclasses import dataclass
from urllib.parse import urlencode

TIMEOUT = 30.0  # seconds; a reviewer would have reloaded long before
HIDDEN = re.compile(r'<input\b[^>]*\btype="hidden"[^>]*>')
ATTRIBUTE = re.compile(r'\b(name|value)="([^"]*)"')
FORM = re.compile(r'<form\b[^>]*\bid="judgement"[^>]*>')
LONGEST_HEAD = 65_536


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    cookies: dict[str, str]


@dataclass(frozen=True)
class Page:
    """The form of one served sample: all its hidden fields, and what the token says."""

    sample: str
    fence: int
    fields: dict[str, str]
    action: str
    ahead: str  # address that fetches the next sample ahead, or ""
    pair: bool  # two answers


class Connection:
    """One keep-alive connection with a person's cookies. One request at a time."""

    def __init__(self, host: str, port: int, session: str) -> None:
        self.host, self.port = host, port
        self.cookies = {"sessionid": session}
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, *, htmx: bool = False) -> Answer:
        return await self.send("GET", path, {}, htmx=htmx)

    async def post(self, path: str, fields: dict[str, str], *, htmx: bool = True) -> Answer:
        return await self.send("POST", path, fields, htmx=htmx)

    async def send(self, method: str, path: str, fields: dict[str, str], *, htmx: bool) -> Answer:
        body = urlencode(fields).encode() if method == "POST" else b""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines.append("Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if htmx:
            lines.append("HX-Request: true")
        if method == "POST":
            lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
            lines.append(f"X-CSRFToken: {self.cookies.get('csrftoken', '')}")
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._exchange("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.close()
            raise

    async def _exchange(self, request: bytes) -> Answer:
        if self.streams is not None:
            try:
                return await self._send_over(*self.streams, request)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                # The server ended an idle connection, as it may. Browsers send again over a new one, too.
                self.close()
                if getattr(error, "partial", b""):
                    raise
        self.streams = await asyncio.open_connection(self.host, self.port, limit=LONGEST_HEAD)
        return await self._send_over(*self.streams, request)

    async def _send_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, length, closing = int(head[9:12]), 0, False
        for line in head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            name = name.lower()
            if name == "content-length":
                length = int(value)
            elif name == "set-cookie":
                cookie, _, content = value.strip().split(";", 1)[0].partition("=")
                self.cookies[cookie] = content
            elif name == "connection":
                closing = value.strip().lower() == "close"
        body = (await reader.readexactly(length)).decode()
        if closing:
            self.close()
        return Answer(status, body, self.cookies)

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


def read_page(body: str) -> Page | None:
    """The sample in a page or fragment; None where there is nothing to review."""
    found = FORM.search(body)
    if found is None:
        return None
    end = body.find("</form>", found.end())
    fields = {}
    for tag in HIDDEN.findall(body, found.end(), end):
        pair = dict(ATTRIBUTE.findall(tag))
        if "name" in pair:
            fields[pair["name"]] = html.unescape(pair.get("value", ""))
    sample, fence = read_token(fields["token"])
    return Page(
        sample=sample,
        fence=fence,
        fields=fields,
        action=_attribute(found[0], "action") or "/review/submit/",
        ahead=_attribute(body[: found.end()], "data-ahead"),
        pair=_attribute(found[0], "data-answers") == "2",
    )


def _attribute(text: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', text)
    return html.unescape(found[1]) if found else ""


def read_token(token: str) -> tuple[str, int]:
    """(sample id in hex, fence) of a page's token. Its signature is the server's business."""
    content = token.split(":", 1)[0]
    raw = base64.urlsafe_b64decode(content.lstrip(".") + "=" * (-len(content.lstrip(".")) % 4))
    _, sample, fence = json.loads(zlib.decompress(raw) if content.startswith(".") else raw)[:3]
    return sample, fence
