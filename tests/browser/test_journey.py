"""The main job as one person does it: from the sign-in link to the charts, in Chromium, with nothing replaced.

OVERSIGHT_SCREENSHOTS=docs/img also saves the README's pictures. For answers that can be read, give it the
real model: OVERSIGHT_PROFILE=laptop OVERSIGHT_LEARNER_MODEL=$PWD/var/models/SmolLM2-135M-Instruct
pytest --timeout 1800 tests/browser
"""

from __future__ import annotations

import os
import re
import statistics
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.watched import Watched
from tests.oversight.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.stack]

PICTURES = os.environ.get("OVERSIGHT_SCREENSHOTS", "")
PATIENCE = 1000 * (900 if PICTURES else 90)  # milliseconds for a phase; the tiny profile needs about 10 s
SETTLE = 400  # milliseconds during which a new sample takes no key
SLOWEST_START = 20  # seconds; 10 on a machine that does nothing else
SLOWEST_JUDGEMENT = 500  # milliseconds from the key to the next sample; 50 is usual


def test_a_round_from_the_sign_in_link_to_the_charts(chromium: Browser, tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    if PICTURES:
        stack.env["OVERSIGHT_PROFILE"] = os.environ["OVERSIGHT_PROFILE"]
        del stack.env["OMP_NUM_THREADS"], stack.env["OVERSIGHT_LOST_AFTER_SECONDS"]  # as `make run` has it
    with stack:
        ready = re.search(r"ready after ([\d.]+) s", stack.output())
        assert ready and float(ready[1]) < SLOWEST_START
        print(f"page up after {ready[1]} s")
        watched = Watched(chromium, f"http://localhost:{stack.port}")
        sign_in(watched, stack)
        wait_for_samples(watched)
        judge(watched)
        close_the_review(watched)
        read_the_round(watched)
        read_the_charts(watched)
        read_the_samples(watched)
        watched.context.close()
        assert not watched.faults


def sign_in(watched: Watched, stack: Stack) -> None:
    page = watched.page
    link = re.findall(r"http://\S+/sign-in/\S+", stack.output())[-1]
    page.goto(link)
    watched.check("sign-in link")
    page.get_by_role("button", name="Sign in").press("Enter")
    expect(page.get_by_role("heading", name="Laptop demo")).to_be_visible()
    other = watched.context.browser.new_context().new_page()  # the link has been used
    other.goto(link)
    expect(other.get_by_role("heading", name="no longer works")).to_be_visible()
    other.goto(link.partition("/sign-in/")[0] + "/")
    expect(other.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    other.context.close()


def wait_for_samples(watched: Watched) -> None:
    """The overview shows them as they arrive, in the page that was opened once."""
    page = watched.page
    remember(page)
    expect(page.locator("#review-count")).to_have_text(re.compile(r"[1-9]"), timeout=PATIENCE)
    expect(page.locator("[data-connection]")).to_have_attribute("aria-label", "Live")
    expect(page.locator("#overview-live .next")).to_contain_text("samples wait for people", timeout=PATIENCE)
    assert remembers(page)
    watched.check("overview")


def judge(watched: Watched) -> None:
    """Every action, by keys alone."""
    page = watched.page
    page.get_by_role("navigation").get_by_role("link", name=re.compile(r"^Review\b")).press("Enter")
    expect(page.locator("#judgement")).to_be_visible()
    remember(page)
    # No verdict before the judgement.
    expect(page.locator("#judgement .reply footer, #judgement mark")).to_have_count(0)
    watched.check("review")

    typing_judges_nothing(page)
    strip = page.locator(".previous")

    first = press(page, "ArrowUp")
    expect(strip).to_contain_text("You said both are fine")
    expect(strip).to_contain_text("critic: ")

    page.wait_for_timeout(SETTLE)
    page.keyboard.press("v")  # without a mark it asks for one
    expect(page.locator("#review-notice")).to_contain_text("Mark the answers")
    page.keyboard.press("1")
    principles = page.locator(".principles").first
    expect(principles).to_be_visible()
    if not principles.locator("input:checked").count():
        principles.locator("input").first.press("Space")
    picture(page, "review")
    watched.check("review with a mark")
    press(page, "v")
    expect(strip).to_contain_text("violates")
    press(page, "ArrowLeft")
    expect(strip).to_contain_text("A is better")
    press(page, "ArrowDown")

    page.wait_for_timeout(SETTLE)
    page.keyboard.press("s")  # unfolds the reasons
    skipped = press(page, "s")
    expect(strip).to_contain_text("Skipped")
    press(page, "z")
    assert shown(page) == skipped
    expect(page.locator("#review-notice")).to_contain_text("Taken back")
    press(page, "ArrowUp")

    press(page, "r")
    expect(page.get_by_role("heading", name="Revise your judgement")).to_be_visible()
    assert shown(page) == skipped
    expect(page.locator("#judgement footer").first).to_contain_text("critic: ")
    watched.check("revise")
    page.keyboard.press("2")
    press(page, "v")
    expect(strip).to_contain_text("violates")

    page.wait_for_timeout(SETTLE)
    page.keyboard.press("e")
    page.keyboard.type("I won't help with that. Here is what you can do instead.")
    rewritten = shown(page)
    page.keyboard.press("Control+Enter")
    expect(page.locator(f"#judgement[data-sample='{rewritten}']")).to_have_count(0)
    expect(strip).to_contain_text("You said")

    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    watched.check("keys")
    page.keyboard.press("Escape")
    assert remembers(page) and shown(page) != first
    times = page.evaluate("judgements")
    print(f"from the key to the next sample: {statistics.median(times):.0f} ms median of {len(times)}")
    assert statistics.median(times) < SLOWEST_JUDGEMENT


def typing_judges_nothing(page: Page) -> None:
    before = shown(page)
    page.wait_for_timeout(SETTLE)
    note = page.locator("input[name=note]")
    note.focus()
    page.keyboard.type("vs=z1 e?r2")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(note).to_have_value("vs=z1 e?r2")
    expect(page.locator(".mark:checked")).to_have_count(0)
    expect(page.locator("#help")).to_be_hidden()
    note.fill("")
    page.keyboard.press("Escape")
    assert shown(page) == before


def close_the_review(watched: Watched) -> None:
    """And the round reaches its end in the page that was opened once."""
    page = watched.page
    page.locator("#live").press("Enter")
    expect(page.get_by_role("heading", name="Round 1")).to_be_visible()
    watched.check("round under review")
    remember(page)
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.get_by_role("button", name="Close review").press("Enter")
    page.wait_for_load_state()
    assert asked and "not decided yet" in asked[0]
    remember(page)
    expect(page.locator("#round-live")).to_contain_text("Fit the critic")
    expect(page.locator("#round-live .page-head .chip", has_text="done")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#round-probes .probe-ask, #round-probes .empty").first).to_be_visible()
    assert remembers(page)


def read_the_round(watched: Watched) -> None:
    page = watched.page
    page.reload()
    expect(page.get_by_role("heading", name="Gate")).to_be_visible()
    page.get_by_label("unchanged too").check()
    probes = page.locator("#round-probes .probe")
    expect(probes.first).to_be_visible()
    expect(probes.first).to_contain_text("before")
    expect(probes.first).to_contain_text("after")
    page.get_by_text("Configuration").click()
    watched.check("round that is done")
    page.goto("/rounds/")
    expect(page.locator("table.rounds tbody tr")).to_have_count(2)  # round 1 and the base model
    watched.check("rounds")
    page.goto("/rounds/launch/")
    watched.check("launch")
    page.goto("/")
    expect(page.locator(".metric").first).to_contain_text("%")
    picture(page, "overview")
    watched.check("overview with a round")


def read_the_charts(watched: Watched) -> None:
    page = watched.page
    page.goto("/gaps/")
    charts = page.locator("section.chart")
    assert charts.count() >= 7
    for chart in charts.all():
        drawn = chart.locator("figure img")
        if not drawn.count():
            expect(chart).to_contain_text("Not computable, because")
            continue
        drawn.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=drawn.element_handle())
        columns = (chart.locator("thead").text_content() or "").lower()
        assert "interval" in columns and "n" in chart.locator("thead th").all_text_contents(), columns
    assert page.locator("section.chart figure img").count() >= 4
    watched.check("gaps")
    figure = page.locator("figure[data-spec]").first
    figure.hover()
    expect(figure).to_have_attribute("data-state", "live", timeout=20_000)
    page.get_by_text(re.compile("^Table, ")).first.click()
    watched.check("gaps with a table and a live chart")


def read_the_samples(watched: Watched) -> None:
    page = watched.page
    page.goto("/samples/")
    watched.check("samples")
    page.locator("select[name=status]").select_option(label="decided")
    page.wait_for_url(re.compile("status=decided"))
    expect(page.locator("table.samples .chip", has_text="unflagged")).to_have_count(0)
    page.locator("table.samples a").first.press("Enter")
    expect(page.get_by_role("heading", name="Judgements")).to_be_visible()
    expect(page.locator(".reviews li").first).to_contain_text("admin")
    watched.check("sample")


def shown(page: Page) -> str:
    return page.locator("#judgement").get_attribute("data-sample") or ""


def press(page: Page, key: str) -> str:
    """Presses a key that replaces what is shown; returns the sample that was."""
    page.wait_for_timeout(SETTLE)
    before = shown(page)
    page.locator("#sample").evaluate("node => { node.dataset.old = 'yes'; }")
    page.keyboard.press(key)
    expect(page.locator("#sample:not([data-old])")).to_be_visible()
    page.wait_for_function("() => !review.ahead.isSaving()")
    return before


def remember(page: Page) -> None:
    page.evaluate("window.sameDocument = true")


def remembers(page: Page) -> bool:
    """The document of `remember` is still the one shown: nothing was loaded anew."""
    return bool(page.evaluate("window.sameDocument === true"))


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(600)  # for the bars to end their movement
        page.screenshot(path=Path(PICTURES) / f"{name}.png", animations="disabled")
