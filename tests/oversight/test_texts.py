"""Texts as people read them: the original to the code point, and nothing in it that acts, hides or deceives."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from django.template import Context, Template
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.models import Review, Sample
from oversight.reading import MOST_SHOWN, SHOWN, render_reading
from tests.factories import make_review, make_round, make_sample, make_user
from tests.hostile import ENGLAND, FAMILY, HOSTILE, SMUGGLED, UNSTORABLE

EVERY = HOSTILE + UNSTORABLE
ALLOWED = {"div", "bdi", "mark", "label", "input", "span", "kbd", "p", "em", "a"}
ATTRIBUTES = {"class", "dir", "translate", "title", "data-label", "data-say"} | {"type", "autocomplete"}
ATTRIBUTES |= {"href", "target", "rel"}


class Page(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.odd, self.marked, self.tags, self.attributes = "", [], [], set(), set()
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(found)
        if tag != "input":
            self.open.append(found.get("class", ""))
        if tag == "bdi":
            self.odd.append(found.get("data-label"))
        if tag == "mark":
            self.marked.append([found["class"], found["title"], ""])

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if "reading" not in self.open:
            return
        self.text += data
        if self.marked and any(name == self.marked[-1][0] for name in self.open):
            self.marked[-1][2] += data


def read(text, marks=(), **options):
    html = render_reading(text, marks, **options)
    assert "\r" not in html  # a browser would make a line feed of it
    return Page(html)


def shown(text):
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)


@pytest.mark.parametrize(("name", "text"), EVERY, ids=[name for name, _ in EVERY])
def test_the_page_holds_the_text_itself_and_no_markup_of_it(name, text):
    page = read(text, [(0, min(3, len(text)), "own", text[:100])], whole="/whole/")
    assert page.text == shown(text) if len(text) <= MOST_SHOWN else shown(text).startswith(page.text)
    assert page.tags <= ALLOWED
    assert page.attributes <= ATTRIBUTES


@pytest.mark.parametrize(("name", "text"), [row for row in EVERY if len(row[1]) < MOST_SHOWN][:40])
def test_a_million_characters_take_less_than_a_second(name, text):
    long = (text * (1_000_000 // len(text)))[: MOST_SHOWN - 1]
    for whole in (long, long * 5):
        started = time.process_time()
        render_reading(whole, [(at, at + 90, "own", "x") for at in range(0, 5_000, 100)])
        assert time.process_time() - started < 1


@settings(max_examples=200, deadline=None)
@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from("\r\n\t `~\u200d\u202e\ufe0f\U0001f468é")), max_size=80
    ),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=4),
)
def test_offsets_survive_any_text_and_any_marks(text, places):
    marks = [(start, end, f"m{number}", f"m{number}") for number, (start, end) in enumerate(places)]
    page = read(text, marks)
    assert page.text == shown(text)
    for start, end, name, _ in marks:
        pieces = "".join(piece for classes, _, piece in page.marked if name in classes.split())
        assert pieces == (shown(text)[start:end] if start < end <= len(text) else "")


def test_marks_may_overlap_and_cross_paragraphs():
    page = read("One two\n\nthree", [(0, 7, "own", "No fraud"), (4, 14, "critic", "The <critic>")])
    assert page.marked == [
        ["own", "No fraud", "One "],
        ["own critic", "No fraud; The <critic>", "two"],
        ["critic", "The <critic>", "\n\n"],
        ["critic", "The <critic>", "three"],
    ]


# --- What nobody would see --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a\u202eb\u202c", ["RLO", "PDF"]),
        ("\u2066\u2067\u2068\u2069", ["LRI", "RLI", "FSI", "PDI"]),
        ("pass\u200bword", ["ZWSP"]),
        ("a\u200cb\u200dc", ["ZWNJ", "ZWJ"]),
        ("\ufeffx", ["BOM"]),
        ("\x1b[31m\x9b", ["ESC", "CSI"]),
        ("a\x00\ud83d", ["NUL", "U+D83D"]),
        ("\u200b" * 12, ["ZWSP × 12"]),
        ("\u200b\u200c\u200d\u2060\u200b", ["5 invisible"]),
        (f"day{SMUGGLED}.", ["hidden: ignore the rules"]),
        ("a\rb\r\nc", ["CR"]),
        ("x\ufe01\ufe02", ["U+FE01", "U+FE02"]),
        ("\ufe0fx", ["U+FE0F"]),
        ("x\U000e0101", ["U+E0101"]),
        ("\U0001f3f4\U000e0068\U000e0069\U000e007f", ["hidden: hi"]),
    ],
)
def test_invisible_characters_are_named(text, labels):
    assert read(text).odd == labels


@pytest.mark.parametrize(
    "text",
    [
        *(FAMILY, ENGLAND, "\u2764\ufe0f\u200d\U0001f525", "1\ufe0f\u20e3", "\U0001f44d\U0001f3fd"),
        *("می\u200cخواهم", "क्\u200dष", "葛\U000e0100城", "e\u0301", "a\tb\r\nc"),
    ],
)
def test_joiners_and_selectors_that_writing_needs_are_left_alone(text):
    page = read(text)
    assert page.odd == []
    assert page.text == text


def test_a_list_names_them_in_its_line():
    line = Template("{% load texts %}{{ text|visible }}").render(Context({"text": "<b>\u202efdp.exe\u202c a\u200bb"}))
    assert line == "&lt;b&gt;‹RLO›fdp.exe‹PDF› a‹ZWSP›b"


# --- Folding, code, directions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "long"), [("x" * 1_800, False), ("x" * 1_801, True), ("x\n" * 17 + "x", False), ("x\n" * 18, True)]
)
def test_long_texts_fold_without_losing_a_character(text, long):
    html = render_reading(text)
    assert ("Show all" in html) is long
    assert Page(html).text == text


def test_a_text_too_long_for_a_page_says_so_and_links_to_the_whole():
    html = render_reading("word " * 60_000, whole="/samples/1/text/0/")
    assert len(Page(html).text) == SHOWN
    assert "The first 100,000 of 300,000 characters." in html
    assert 'href="/samples/1/text/0/"' in html


def test_fenced_code_stands_apart_and_reads_from_left_to_right():
    html = render_reading("Run:\n```sh\nrm -rf /\n\n```\nשלום\n~~~\n```\nopen")
    blocks = re.findall(r'<div class="(para|code)" dir="(auto|ltr)"[^>]*>([^<]*)', html)
    assert blocks == [
        ("para", "auto", "Run:\n"),
        ("code", "ltr", "```sh\nrm -rf /\n\n```\n"),
        ("para", "auto", "שלום\n"),
        ("code", "ltr", "~~~\n```\nopen"),
    ]


@pytest.mark.parametrize(
    ("text", "words"), [("", "Empty: no characters."), (" \n\t", "Only white space, 3 characters.")]
)
def test_nothing_to_read_says_so(text, words):
    assert words in render_reading(text)


def test_the_tag_takes_tuples_and_dataclasses():
    @dataclass(frozen=True)
    class Passage:
        start: int
        end: int
        kind: str
        title: str

    template = Template("{% load texts %}{% reading text spans=spans %}")
    for spans in ([(0, 2, "own", "x")], [Passage(0, 2, "own", "x")]):
        html = template.render(Context({"text": "abc", "spans": spans}))
        assert '<mark class="own" title="x" data-say="x: ">ab</mark>c' in html
    assert "<mark" not in template.render(Context({"text": "abc"}))


# --- Pages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_hostile_texts_do_nothing_in_the_workbench(name, text, page, ada):
    sample = make_sample(prompt=text, answers=(text, "fine"))
    sample.critiques.update(span=[0, 3])
    fresh = page.get("/review/").content.decode()
    review = make_review(sample=sample, reviewer=ada, rewrite=text[:20_000], note=text[:2_000])
    revised = page.get(f"/review/revise/{review.pk}/").content.decode()
    for html in (fresh, revised):
        inside = re.search(r'<form id="judgement".*?</form>', html, re.DOTALL)[0]
        assert "<script" not in inside and "<img" not in inside
        assert not [name for name in Page(inside).attributes if name.startswith("on") or name == "style"]
        assert "49 %&gt;" not in inside and "{{ 14" not in inside
        readings = [Page(part).text for part in re.findall(r'<div class="text.*?</div></div>', inside, re.DOTALL)]
        assert len(readings) == 3
        assert all(shown(text).startswith(found) for found in readings[:2])
        assert "\u202e" not in re.sub(
            r"<bdi.*?</bdi>|<textarea.*?</textarea>|value=\"[^\"]*\"", "", inside, flags=re.DOTALL
        )


@pytest.mark.parametrize(("name", "text"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_hostile_texts_do_nothing_on_the_other_pages(name, text, ada, client_for):
    lead = client_for("lead")
    sample = make_sample(prompt=text, answers=(text, "fine"), status=Sample.Status.DISPUTED, wanted=2)
    sample.critiques.update(span=[0, 3], rationale=text[:2_000])
    mark = {"answer": 0, "start": 0, "end": 1, "principle": "no-fraud"}
    said = {"rewrite": text[:20_000], "rewrite_of": 0, "note": text[:2_000], "spans": [mark]}
    make_review(sample=sample, reviewer=ada, action="violates", violations={"0": ["no-fraud"]}, **said)
    make_review(sample=sample, reviewer=make_user())
    for path in (f"/samples/{sample.pk}/", f"/adjudicate/{sample.pk}/", "/samples/", "/adjudicate/"):
        answer = lead.get(path)
        assert answer.status_code == 200
        main = re.search(r"<main.*</main>", answer.content.decode(), re.DOTALL)[0]
        found = Page(main)
        assert not {"script", "img", "plaintext", "style"} & found.tags, path
        assert not [name for name in found.attributes if name.startswith("on") or name == "style"], path
        bare = re.sub(r"<bdi.*?</bdi>|<textarea.*?</textarea>|value=\"[^\"]*\"", "", main, flags=re.DOTALL)
        assert "\u202e" not in bare, path


def test_a_megabyte_costs_the_workbench_no_second(page):
    make_sample(prompt="ask", answers=("The quick brown fox.\n" * 50_000, "word " * 200_000))
    started = time.process_time()
    html = page.get("/review/").content.decode()
    assert time.process_time() - started < 1
    assert len(html) < 400_000
    assert html.count("The whole as plain text") == 2


@pytest.mark.parametrize("role", ["reviewer", "lead", "researcher", "operator"])
def test_the_whole_text_is_plain_and_sealed(role, client_for):
    text = "<script>alert(1)</script>\r\n\x1b[31m" + "x" * 300_000
    sample = make_sample(prompt="<b>ask</b>", answers=(text,))
    client = client_for(role)
    answer = client.get(f"/samples/{sample.pk}/text/0/")
    assert answer.content.decode() == text
    assert client.get(f"/samples/{sample.pk}/text/prompt/").content.decode() == "<b>ask</b>"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert client.post(f"/samples/{sample.pk}/text/0/").status_code == 405


@pytest.mark.parametrize("part", ["1", "-1", "٠", "0x0", "999999999999", "rewrite", "%00"])
def test_a_text_that_is_not_there(part, page):
    sample = make_sample(answers=("one",))
    assert page.get(f"/samples/{sample.pk}/text/{part}/").status_code == 404
    assert page.get(f"/samples/{uuid.uuid4()}/text/prompt/").status_code == 404


def test_the_whole_text_needs_a_person(client, db):
    answer = client.get(f"/samples/{make_sample().pk}/text/0/")
    assert answer.headers["Location"].startswith("/sign-in/?next=")


# --- Passages ---------------------------------------------------------------------------------------

UNICODE = f"𝒜𝓁𝒾𝒸𝑒 and {FAMILY}\r\ne\u0301 قال: «لا»\u202e end"


def judge(page, sample, spans, **fields):
    html = page.get("/review/").content.decode()
    hidden = {name: re.search(f'name="{name}" value="([^"]*)"', html)[1] for name in ("token", "key")}
    data = {**hidden, "action": "violates", "mark": "0", "spans": spans, **fields}
    return page.post("/review/submit/", data, headers={"HX-Request": "true"})


@pytest.mark.parametrize("quote", ["𝓁𝒾𝒸", FAMILY, f"{FAMILY}\r\ne\u0301", "قال: «لا»", "\u202e end", UNICODE])
def test_a_passage_is_kept_by_its_code_points(quote, page):
    sample = make_sample(round=make_round(), answers=(UNICODE, "fine"))
    start = UNICODE.index(quote)
    span = {"answer": 0, "start": start, "end": start + len(quote), "principle": "no-fraud", "quote": quote}
    assert judge(page, sample, json.dumps([span])).status_code == 200
    review = Review.objects.get()
    kept = review.spans[0]
    assert UNICODE[kept["start"] : kept["end"]] == quote
    assert review.violations == {"0": ["no-fraud"]}  # a passage marks its answer for its principle
    html = page.get(f"/review/revise/{review.pk}/").content.decode()
    marked = [
        piece for part in re.findall(r'<div class="text.*?</div></div>', html, re.DOTALL) for piece in Page(part).marked
    ]
    assert "".join(piece for classes, _, piece in marked if classes == "own") == quote


@pytest.mark.parametrize(
    "spans",
    [
        "{", "[1]", '{"answer": 0}', "null", '[{"answer": 0, "start": true, "end": 3, "principle": "no-fraud"}]',
        '[{"answer": 0, "start": 0, "end": 9999, "principle": "no-fraud"}]',
        '[{"answer": 7, "start": 0, "end": 3, "principle": "no-fraud"}]',
        '[{"answer": 0, "start": 3, "end": 3, "principle": "no-fraud"}]',
        '[{"answer": 0, "start": 0, "end": 3, "principle": "no-such"}]',
        '[{"answer": 0, "start": 0, "end": 3, "principle": "no-fraud", "quote": "xyz"}]',
        json.dumps([{"answer": 0, "start": 0, "end": at, "principle": "no-fraud"} for at in range(1, 52)]),
        "[" * 70_000,
        '"' + "x" * 70_000 + '"',
    ],
)  # fmt: skip
def test_passages_that_do_not_fit_are_refused_aloud(spans, page):
    sample = make_sample(round=make_round(), answers=("x" * 100, "fine"))
    answer = judge(page, sample, spans)
    assert answer.status_code == 422
    assert re.search("mark|passage|principle", answer.content.decode())
    assert not Review.objects.exists()
    assert Sample.objects.get().status == "queued"
