"""What leads do about judgements that can't be relied on, in Chromium: decide disputes by keyboard, take judgements
out and put them back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.leads import find_round, make_disagreement
from tests.browser.watched import Watched
from tests.oversight.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.stack]
SETTLE = 400  # milliseconds during which a new dispute takes no key


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    make_disagreement(stack)
    with stack:
        yield stack


@pytest.fixture
def watched(stack: Stack, chromium: Browser) -> Iterator[Watched]:
    watched = Watched(chromium, f"http://localhost:{stack.port}")
    link = stack.manage("invite", "lea", "--role", "lead", "--base-url", f"http://localhost:{stack.port}")
    watched.page.goto(link.split()[-1])
    watched.page.get_by_role("button", name="Sign in").press("Enter")
    expect(watched.page.locator("#dispute-count")).to_have_text("3")
    yield watched
    watched.context.close()
    assert not watched.faults


def press(page: Page, key: str) -> None:
    """Presses a key that replaces what is shown."""
    page.wait_for_timeout(SETTLE)
    page.locator("#adjudication").evaluate("node => { node.dataset.old = 'yes'; }")
    page.keyboard.press(key)
    expect(page.locator("#adjudication:not([data-old])")).to_be_visible()


def test_a_second_look_is_asked_for_and_a_label_kept(watched: Watched) -> None:
    page = watched.page
    page.goto("/adjudicate/")
    doubts = page.locator("#second-looks")
    expect(doubts.locator("tbody tr")).to_have_count(2)
    watched.check("second looks")
    doubts.get_by_role("button", name="Ask one more person").first.press("Enter")
    expect(doubts.get_by_role("status")).to_have_text("One more person is asked.")
    expect(doubts.locator("tbody tr").first).to_contain_text("one more person is asked")
    watched.check("a second look asked for")
    for _ in range(2):
        doubts.get_by_role("button", name="Keep the label").first.press("Enter")
        expect(doubts.get_by_role("status")).to_have_text("The label stays as it is.")
    expect(doubts).to_contain_text("No label looks wrong")
    watched.check("no second look")


def test_disputes_are_decided_by_keyboard(watched: Watched, stack: Stack) -> None:
    page = watched.page
    page.get_by_role("navigation").get_by_role("link", name="Disputes").press("Enter")
    expect(page.locator("table.disputes tbody tr")).to_have_count(3)
    watched.check("disputes")
    page.locator("select[name=principle]").select_option(label="No fraud")
    expect(page.locator("#disputes")).to_contain_text("No dispute fits")
    page.locator("select[name=principle]").select_option(label="all")
    page.locator("table.disputes a").first.press("Enter")
    title = page.get_by_role("heading", level=1)
    expect(title).to_have_text("A: 1 violates, 1 fine")
    prompt = page.locator("[aria-labelledby=prompt-title]")
    expect(prompt).to_contain_text("Dispute 0")
    expect(page.locator("article.judgement")).to_have_count(3)
    expect(page.locator(".reading mark.other")).to_have_text("Look under the mat")
    watched.check("dispute")

    page.wait_for_timeout(SETTLE)
    page.get_by_label("Why").focus()  # typing decides nothing
    page.keyboard.type("123 oanz")
    expect(prompt).to_contain_text("Dispute 0")
    expect(page.locator("#own")).not_to_have_attribute("open", "")
    page.keyboard.press("Escape")

    press(page, "1")
    strip = page.get_by_role("status", name="What was done")
    expect(strip).to_contain_text("You decided: A violates")
    expect(prompt).to_contain_text("Dispute 1")
    expect(page).to_have_url(re.compile(r"/adjudicate/[0-9a-f-]{36}/$"))
    expect(page.locator("#dispute-count")).to_have_text("2")
    assert decided(stack) == "adjudicated"

    press(page, "z")
    expect(strip).to_contain_text("taken back")
    expect(prompt).to_contain_text("Dispute 0")
    press(page, "2")
    expect(strip).to_contain_text("You decided: both are fine")

    page.wait_for_timeout(SETTLE)
    page.keyboard.press("o")
    expect(page.locator("#own .mark").first).to_be_focused()
    page.keyboard.press("Space")
    page.locator("#own .choice input").first.press("Space")
    watched.check("own decision")
    page.get_by_label("A better answer").fill("I can't tell you that.")
    press(page, "Control+Enter")
    expect(strip).to_contain_text("You decided: rewritten, A violates")
    expect(prompt).to_contain_text("Dispute 2")
    press(page, "a")
    expect(strip).to_contain_text("One more person is asked")
    expect(title).to_have_text("Nothing is disputed")
    watched.check("no dispute left")
    page.reload()
    expect(page.locator("#disputes")).to_contain_text("Nothing is disputed")
    waits = stack.row("SELECT count(*) AS n FROM oversight_sample WHERE status = 'queued' AND rank = 2 AND wanted = 4")
    assert waits["n"] == 1


def test_judgements_are_taken_out_and_put_back(watched: Watched, stack: Stack) -> None:
    page, (round_id, experiment) = watched.page, find_round(stack)
    before = labels(stack)
    page.goto(f"/withdraw/?experiment={experiment}")
    page.get_by_label("Person").select_option("ada")
    page.get_by_role("button", name="See what changes").press("Enter")
    preview = page.locator("[aria-labelledby=preview-title]")
    expect(preview).to_contain_text("Judgements taken out8")
    expect(preview).to_contain_text("Labels that vanish5")
    expect(preview.get_by_role("row", name="learner")).to_contain_text("3")
    watched.check("preview of a withdrawal")
    page.get_by_label("Why").fill("Saw the verdict first.")
    page.get_by_role("button", name="Withdraw 8 judgements").press("Enter")
    expect(page.get_by_role("heading", name="8 judgements of ada")).to_be_visible()
    expect(page.locator(".changes-list tbody tr")).to_have_count(8)
    expect(page.locator("#withdrawal")).to_contain_text("Saw the verdict first.")
    watched.check("withdrawal")
    assert labels(stack) != before

    page.get_by_role("region", name="Checkpoints").get_by_role("link", name="round 1").first.press("Enter")
    expect(page.get_by_text("trained on 3 labels withdrawn since")).to_be_visible()
    watched.check("round with withdrawn labels")
    page.goto("/withdrawals/")
    watched.check("withdrawals")
    page.locator("table.list a").first.press("Enter")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Restore").press("Enter")
    expect(page.locator("#withdrawal")).to_contain_text("Undone by lea")
    watched.check("withdrawal that is undone")
    assert labels(stack) == before
    page.goto(f"/rounds/{round_id}/")
    expect(page.get_by_role("heading", name="Gate")).to_be_visible()
    expect(page.get_by_text("withdrawn since")).to_have_count(0)


def test_a_worker_takes_out_many_while_the_page_follows(watched: Watched, stack: Stack) -> None:
    """More than a request does: the page shows how far it is, and ends with what it came to."""
    _, experiment = find_round(stack)
    code = (
        "import uuid\n"
        "from oversight.models import *\n"
        "from tests.factories import make_review, make_sample\n"
        f"round_ = Round.objects.get(experiment={str(experiment)!r}, number=2)\n"
        "bob = User.objects.get(username='bob')\n"
        "for number in range(260):\n"
        "    make_review(sample=make_sample(round=round_, status='decided'), reviewer=bob)\n"
    )
    stack.manage("shell", "-v", "0", "-c", code)
    page = watched.page
    page.goto(f"/withdraw/?reviewer=bob&experiment={experiment}")
    page.get_by_label("Why").fill("Not a person.")
    page.get_by_role("button", name="Withdraw 263 judgements").press("Enter")
    expect(page.locator("#withdrawal .chip").first).to_have_text("done", timeout=30_000)
    expect(page.locator("#withdrawal")).to_contain_text("page 1 of 7")
    taken = stack.row("SELECT count(*) AS n FROM oversight_review WHERE action = 'withdraw'")
    assert taken["n"] == 263


def decided(stack: Stack) -> str:
    return str(stack.row("SELECT how FROM oversight_label ORDER BY created_at DESC LIMIT 1")["how"])


def labels(stack: Stack) -> str:
    """Every label as training reads it."""
    ordered = "SELECT * FROM oversight_label ORDER BY sample_id"
    fields = "sample_id || violates || principles || coalesce(preferred, '-') || rewrite || how"
    return str(stack.row(f"SELECT group_concat({fields}, char(10)) AS text FROM ({ordered})")["text"])  # noqa: S608
