"""Hostile texts from every source on every page: they are shown, and do nothing."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser

import pytest
from django.test import Client

from oversight import workers
from oversight.admin import site
from oversight.models import User
from tests.everything import Everything, make_everything
from tests.factories import make_user
from tests.hostile import HOSTILE

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
KNOWN = dict(HOSTILE)
# What looks like markup, what has a direction, what breaks lines; then all short ones after one another.
ACTIVE = ["html", "script", "attribute", "close", "entities", "template", "json", "path", "sql"]
DECEIVING = ["bidi override", "bidi unclosed", "controls", "line ends", "tags", "combining pile", "right to left"]
ALL = "\n\n".join(text for _, text in HOSTILE if len(text) < 6_000)
TEXTS = [(name, KNOWN[name]) for name in ACTIVE + DECEIVING] + [("all", ALL)]
ADMIN_TEXTS = [(name, KNOWN[name]) for name in ("html", "script", "attribute", "close", "bidi override")]
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
    "connect-src 'self'", "manifest-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
}  # fmt: skip
PAIRED = (
    "form",
    "textarea",
    "title",
    "template",
    "style",
    "script",
    "main",
    "table",
    "details",
    "mark",
    "bdi",
    "select",
)


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "listening", lambda queue: [f"{queue}@here"])
    monkeypatch.setattr(workers, "waiting", lambda queue: 0)


class Found(HTMLParser):
    """The elements of a page, and what stands outside of everything that isolates a direction."""

    ISOLATING = ("bdi", "textarea", "option", "title")  # a line or a box of its own

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: list[str] = []
        self.bare: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag in self.ISOLATING:
            self.inside.append(tag)
        self.bare += [value for name, value in attributes.items() if name != "value" and BIDI.search(value)]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            self.inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self.inside and BIDI.search(data):
            self.bare.append(data.strip()[:80])


def find_faults(html: str) -> list[str]:
    """What no page of ours has, so it would have come out of a text."""
    faults = []
    for tag, attributes in Found(html).elements:
        faults += [f"{tag} {name}" for name in attributes if name.startswith("on") or name in ("style", "srcdoc")]
        for name in ("src", "href", "action", "formaction"):
            address = attributes.get(name, "")
            if name in attributes and not address.startswith(("/", "?", "#", "http://testserver")) and address:
                faults.append(f"{tag} {name}={address[:60]}")
            if address.startswith("//"):
                faults.append(f"{tag} {name}={address[:60]}")
        if tag == "script" and "src" not in attributes and attributes.get("type") != "application/json":
            faults.append(f"inline script {attributes}")
        if tag in ("plaintext", "iframe", "object", "embed", "base", "b onerror", "marquee"):
            faults.append(tag)
    for tag in PAIRED:
        if len(re.findall(rf"<{tag}[\s>]", html)) != html.count(f"</{tag}>"):
            faults.append(f"{tag} is not closed where it should be")
    return faults


def list_pages(everything: Everything) -> list[str]:
    """Every page on which a text of a model or a person can stand."""
    experiment, disputed, decided = everything.experiment.pk, everything.disputed.pk, everything.decided.pk
    return [
        "/", "/rounds/", f"/rounds/{everything.done.pk}/?all=1", f"/rounds/{everything.round.pk}/", "/rounds/launch/",
        "/gaps/", "/header/", "/samples/", "/samples/?status=excluded", f"/samples/{everything.queued.pk}/",
        f"/samples/{disputed}/", f"/samples/{decided}/", f"/samples/{everything.excluded.pk}/",
        f"/adjudicate/?experiment={experiment}", f"/adjudicate/{disputed}/", "/reviewers/",
        "/reviewers/ada/", f"/withdraw/?reviewer=ada&experiment={experiment}",
        f"/withdraw/?review={everything.review.pk}", "/withdrawals/", f"/withdrawals/{everything.withdrawal.pk}/",
        f"/review/{everything.queued.pk}/", "/review/preferences/", f"/checkpoints/?experiment={experiment}",
        f"/checkpoints/{everything.checkpoint.pk}/", f"/checkpoints/start/?checkpoint={everything.checkpoint.pk}",
        f"/probes/?experiment={experiment}", f"/probes/p1/?experiment={experiment}",
    ]  # fmt: skip


def list_own_pages(everything: Everything) -> list[str]:
    """Of her who wrote the judgements."""
    return [
        "/review/history/",
        f"/review/revise/{everything.review.pk}/",
        "/review/",
        f"/samples/{everything.decided.pk}/",
    ]


def list_admin() -> list[str]:
    pages = ["/admin/", "/admin/oversight/round/launch/"]
    for model in site._registry:
        rows = model._default_manager.order_by("pk").reverse()[:2]
        address = f"/admin/oversight/{model._meta.model_name}/"
        pages += [address, *(f"{address}{row.pk}/change/" for row in rows)]
    return pages


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def read(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, f"{address}: {answer.status_code}"
    assert set(answer.headers["Content-Security-Policy"].split("; ")) == POLICY, address
    return str(answer.content.decode())


@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_no_page_does_what_a_text_says(name: str, text: str) -> None:
    everything = make_everything(text)
    operator, ada = sign_in(make_user("operator", username="olga")), sign_in(everything.ada)
    faults = []
    for client, pages in ((operator, list_pages(everything)), (ada, list_own_pages(everything))):
        for address in pages:
            html = read(client, address)
            faults += [f"{address}: {fault}" for fault in find_faults(html)]
            assert "{{ 14" not in html and "49 %" not in html
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("name", "text"), ADMIN_TEXTS, ids=[name for name, _ in ADMIN_TEXTS])
def test_the_admin_does_nothing_either(name: str, text: str) -> None:
    make_everything(text)
    client = sign_in(make_user("operator", username="olga"))
    faults = [f"{address}: {fault}" for address in list_admin() for fault in find_faults(read(client, address))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", ["bidi override", "bidi unclosed"])
def test_nothing_turns_the_words_around_it(name: str) -> None:
    """What turns the direction stands in a mark or a line of its own, or is named, wherever a text can come from."""
    everything = make_everything(KNOWN[name], name="plain name")
    operator, ada = sign_in(make_user("operator", username="olga")), sign_in(everything.ada)
    faults = []
    for client, pages in ((operator, list_pages(everything)), (ada, list_own_pages(everything))):
        for address in pages:
            faults += [f"{address}: {words!r}" for words in Found(read(client, address)).bare]
    assert not faults, "\n".join(faults)


def test_a_million_characters_everywhere() -> None:
    """Every page stays small and quick, whatever a model, an expert and a lead wrote."""
    text = KNOWN["megabyte"]
    everything = make_everything(text, name="plain name")
    operator, ada = sign_in(make_user("operator", username="olga")), sign_in(everything.ada)
    faults = []
    for client, pages in ((operator, list_pages(everything)), (ada, list_own_pages(everything))):
        for address in pages:
            began = time.process_time()
            html = read(client, address)
            seconds = time.process_time() - began
            if len(html) > 1_500_000 or seconds > 2:
                faults.append(f"{address}: {len(html):,} characters, {seconds:.1f} s")
    assert not faults, "\n".join(faults)


def test_the_sign_in_page_says_a_name_and_a_way_back_as_text(client: Client) -> None:
    for text in dict(TEXTS).values():
        answer = client.post("/sign-in/", {"username": text, "password": "x", "next": text})
        assert answer.status_code in (422, 429, 503)
        assert not find_faults(answer.content.decode())
        assert not find_faults(client.get("/sign-in/", {"next": text}).content.decode())
    assert client.post("/sign-in/", {"username": "a", "password": "x", "next": "//evil.example"}).status_code != 302


@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_machines_read_the_text_itself(name: str, text: str) -> None:
    """JSON is never taken for a page, one line stays one line, and what comes out is what went in."""
    everything = make_everything(text, name="plain name")
    client = sign_in(make_user("operator", username="olga"))
    for address in ("/api/rounds/", "/api/samples/", "/api/metrics/", f"/api/samples/{everything.decided.pk}/"):
        answer = client.get(address)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        json.loads(answer.content)
    sample = client.get(f"/api/samples/{everything.decided.pk}/").json()
    assert (sample["prompt"], sample["answers"][0]["text"], sample["reviews"][0]["note"]) == (text, text, text)
    export = client.get("/api/labels.jsonl")
    assert export.headers["Content-Disposition"].startswith("attachment")
    (line,) = b"".join(export).decode().split("\n")[:-1]
    row = json.loads(line)
    assert (row["prompt"], row["completion"], row["rewrite"]) == (text, text, text)
    plain = client.get(f"/samples/{everything.decided.pk}/text/0/")
    assert plain.content.decode() == text and plain.headers["Content-Type"].startswith("text/plain")


def test_a_name_turns_nothing_but_itself() -> None:
    """Names come from researchers and seed files: one that turns its direction stands alone in its element."""
    name = KNOWN["bidi override"]
    everything = make_everything("A plain text.", name=name)
    operator, ada = sign_in(make_user("operator", username="olga")), sign_in(everything.ada)
    faults = []
    for client, pages in ((operator, list_pages(everything)), (ada, list_own_pages(everything))):
        for address in pages:
            bare = Found(read(client, address)).bare
            faults += [f"{address}: {words!r}" for words in bare if not name.startswith(words)]
    assert not faults, "\n".join(faults)
