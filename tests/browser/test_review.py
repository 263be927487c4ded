"""Reviewing as people do it: without waiting, without losing anything, and no longer than is good for them."""

from __future__ import annotations

import re
import statistics
from ast import literal_eval
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.desk import Desk, start_desk

pytestmark = [pytest.mark.browser, pytest.mark.stack]

SETTLE = 400  # milliseconds during which a new sample takes no key
SLOWEST = 150  # milliseconds from the key to the next sample on the screen; 30 is usual
# From the key to the frame after the one that shows another sample.
PAINTED = """
window.painted = [];
let pressed = 0;
let seen = "";
document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    const now = document.getElementById("judgement")?.dataset.sample ?? "";
    if (now === seen) return;
    seen = now;
    const since = pressed;
    if (since) requestAnimationFrame(() => requestAnimationFrame(() => painted.push(performance.now() - since)));
    pressed = 0;
  }).observe(document.body, { childList: true, subtree: true });
});
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with start_desk(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


def read_judgements(desk: Desk, username: str) -> list[tuple[str, str]]:
    rows = f"Review.objects.filter(reviewer__username={username!r}).order_by('created_at')"
    return literal_eval(desk.ask(f"[(str(row.sample_id), row.action) for row in {rows}]"))


def shown(page: Page) -> str:
    return page.locator("#judgement").get_attribute("data-sample") or ""


def wait_ahead(page: Page) -> None:
    page.wait_for_function("() => review.ahead.token() !== '' && !review.ahead.isSaving()")
    page.wait_for_timeout(SETTLE)


def press(page: Page, key: str) -> str:
    """Presses a key that shows another sample; returns the one that was shown."""
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator(f"#judgement[data-sample='{before}']")).to_have_count(0)
    return before


def test_the_next_sample_waits_for_nobody(chromium: Browser, desk: Desk) -> None:
    watched = desk.watch(chromium, desk.make_person("swift", samples=14))
    watched.context.add_init_script(PAINTED)
    page = watched.page
    page.goto("/review/")
    judged = []
    for key in ("ArrowUp", "ArrowDown") * 5:
        wait_ahead(page)
        assert page.url.endswith(f"/review/{shown(page)}/")  # the address names the sample
        judged.append(press(page, key))
        expect(page.locator("#question")).to_be_focused()
    expect(page.locator(".previous")).to_contain_text("You said both violate")
    expect(page.locator("#review-progress")).to_contain_text("10 of 14 done")
    expect(page.locator("#review-said")).to_contain_text("You said both violate")
    assert read_judgements(desk, "swift") == [(id, ("approve", "both_bad")[n % 2]) for n, id in enumerate(judged)]
    times = page.evaluate("painted")
    print(f"from the key to the next sample on the screen: {statistics.median(times):.0f} ms median of {len(times)}")
    assert statistics.median(times) < SLOWEST
    assert not watched.faults
    watched.context.close()


def test_what_does_not_get_through_comes_back(chromium: Browser, desk: Desk) -> None:
    context = desk.open(chromium, desk.make_person("steady", samples=8))
    page = context.new_page()
    page.goto("/review/")
    notice, note = page.locator("#review-notice"), page.locator("input[name=note]")
    answers = {
        "offline": lambda route: route.abort(),
        "broken": lambda route: route.fulfill(status=500, body="no"),
        "refused": lambda route: route.fulfill(status=422, json={"error": "Not so."}),
    }
    failing: list[str] = []  # one route for the whole test: taking it off and on again lets requests slip through
    page.route("**/review/submit/", lambda route: answers[failing.pop()](route) if failing else route.continue_())
    for name in answers:
        wait_ahead(page)
        first = shown(page)
        note.fill(f"typed {name}")
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        failing.append(name)
        page.keyboard.press("v")
        expect(notice).to_contain_text("Not so." if name == "refused" else "Nothing is lost")
        assert shown(page) == first
        expect(note).to_have_value(f"typed {name}")
        expect(page.locator(".mark").nth(1)).to_be_checked()
        expect(page.locator(".saving")).to_have_count(0)
        wait_ahead(page)
        press(page, "v")
        expect(page.locator(".previous")).to_contain_text("You said B violates")
    notes = desk.ask("[r.note for r in Review.objects.filter(reviewer__username='steady').order_by('created_at')]")
    assert notes == str([f"typed {name}" for name in answers])
    context.close()


def test_a_second_judgement_waits_for_the_first(chromium: Browser, desk: Desk) -> None:
    context = desk.open(chromium, desk.make_person("hasty", samples=8))
    page = context.new_page()
    page.goto("/review/")
    waiting: list[Route] = []
    page.route("**/review/submit/", lambda route: waiting.append(route))
    wait_ahead(page)
    first = press(page, "ArrowUp")
    page.wait_for_timeout(SETTLE)
    second = shown(page)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".saving")).to_contain_text("what you pressed is next")
    assert shown(page) == second and len(waiting) == 1
    waiting[0].continue_()
    expect(page.locator(f"#judgement[data-sample='{second}']")).to_have_count(0)
    assert len(waiting) == 2
    waiting[1].continue_()
    expect(page.locator(".previous")).to_contain_text("You said both violate")
    assert read_judgements(desk, "hasty") == [(first, "approve"), (second, "both_bad")]

    # The first fails: both are there again, the second not judged.
    wait_ahead(page)
    third = press(page, "ArrowUp")
    page.wait_for_timeout(SETTLE)
    fourth = shown(page)
    page.keyboard.press("1")
    page.keyboard.press("v")
    waiting[2].abort()
    expect(page.locator("#review-notice")).to_contain_text("The next one is kept as you left it")
    assert shown(page) == third
    page.wait_for_timeout(SETTLE)
    press(page, "ArrowUp")
    assert shown(page) == fourth
    expect(page.locator(".mark").first).to_be_checked()
    waiting[3].continue_()
    expect(page.locator(".previous")).to_contain_text("You said both are fine")
    context.close()


def test_a_draft_outlives_the_browser(chromium: Browser, desk: Desk) -> None:
    session = desk.make_person("drafting", samples=4)
    context = desk.open(chromium, session)
    page = context.new_page()
    page.goto("/review/")
    wait_ahead(page)
    page.keyboard.press("1")
    page.keyboard.press("e")
    page.keyboard.type("Ask your neighbour.")
    page.locator("input[name=note]").fill("not sure")
    state = page.locator("[data-draft]")
    expect(state).to_have_text(re.compile(r"draft saved \d\d:\d\d:\d\d"))
    context.close()  # nothing of the page is left

    other = desk.open(chromium, session)
    page = other.new_page()
    page.goto("/review/")
    expect(page.locator("textarea[name=rewrite]")).to_have_value("Ask your neighbour.")
    expect(page.locator("input[name=note]")).to_have_value("not sure")
    expect(page.locator(".mark").first).to_be_checked()

    state = page.locator("[data-draft]")
    page.route("**/review/draft/", lambda route: route.abort())
    page.locator("input[name=note]").fill("typed offline")
    expect(state).to_contain_text("not saved, offline")
    page.reload()
    expect(page.locator("input[name=note]")).to_have_value("typed offline")
    page.unroute("**/review/draft/")
    expect(state).to_contain_text("draft saved", timeout=10_000)
    assert "typed offline" in desk.ask("Draft.objects.get(user__username='drafting').form")
    other.close()


def test_only_time_of_activity_counts_and_a_break_is_due(chromium: Browser, desk: Desk) -> None:
    context = desk.open(chromium, desk.make_person("resting", samples=6, break_minutes=2))
    page = context.new_page()
    page.clock.install()
    page.goto("/review/")
    page.wait_for_function("() => review.ahead.token() !== ''")
    page.mouse.move(10, 10)
    page.clock.run_for(20_000)  # reads, with a movement at its end
    page.mouse.move(30, 30)
    page.clock.run_for(600_000)  # and is away: 30 seconds of that count
    with page.expect_request("**/review/submit/") as sent:
        page.keyboard.press("ArrowUp")
    seconds = re.search(r'name="seconds"\s+([\d.]+)', sent.value.post_data or "")
    assert seconds and 48 <= float(seconds[1]) <= 55
    banner = page.locator("#break")
    expect(banner).to_be_hidden()
    for step in range(8):
        page.mouse.move(40 + step, 40)
        page.clock.run_for(10_000)
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("2 minutes")
    page.get_by_role("button", name="In 10 minutes").click()
    expect(banner).to_be_hidden()
    for step in range(62):
        page.mouse.move(100 + step, 40)
        page.clock.run_for(10_000)
    expect(banner).to_be_visible()
    page.get_by_role("button", name="Take a break").click()
    page.wait_for_url(re.compile(r"/$"))
    held = "Lease.objects.filter(holder__username='resting').count()"
    assert desk.ask(held) == "0"
    context.close()


def test_every_part_of_the_workbench_is_for_everybody(chromium: Browser, desk: Desk) -> None:
    """Axe in both themes and the width of a phone; and what keys do beside judging."""
    watched = desk.watch(chromium, desk.make_person("curious", samples=9, blurred=["journeys"]))
    page = watched.page
    page.goto("/review/")
    wait_ahead(page)
    watched.check("a blurred sample")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#review-notice")).to_contain_text("Reveal it first")
    expect(page.get_by_role("heading", name="Prompt")).to_have_count(0)  # not there for a screen reader
    page.keyboard.press("b")
    expect(page.get_by_role("heading", name="Prompt")).to_have_count(1)
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Harmful to read")).to_be_visible()
    watched.check("the reasons to skip")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Harmful to read")).to_be_hidden()
    page.keyboard.press("s")
    press(page, "2")
    expect(page.locator(".previous")).to_contain_text("outside my expertise")
    wait_ahead(page)
    press(page, "p")
    expect(page.locator("#review-strip")).to_contain_text("Postponed")
    wait_ahead(page)
    page.keyboard.press("b")
    press(page, "ArrowLeft")
    expect(page.locator(".previous")).to_contain_text("A is better")
    watched.check("after a judgement")
    own = desk.ask("Review.objects.filter(reviewer__username='curious').latest('created_at').sample_id")
    page.wait_for_timeout(SETTLE)
    page.keyboard.press("z")
    expect(page.locator("#review-notice")).to_contain_text("Taken back")
    assert shown(page) == own
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("What comes next")
    watched.check("the keys")
    page.keyboard.press("Escape")
    page.goto("/review/history/")
    expect(page.locator(".judged li")).to_have_count(2)
    watched.check("history")
    page.goto("/review/preferences/")
    page.get_by_label("Keep away from journeys").check()
    watched.check("preferences")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice")).to_contain_text("Saved")
    page.goto("/review/")
    expect(page.get_by_role("heading", name="categories you opted out of")).to_be_visible()
    watched.check("nothing but what they opted out of")
    assert not watched.faults
    page.goto(f"/review/{own}/")
    watched.faults.clear()  # the browser notes the 409
    expect(page.get_by_role("heading", name="Do these answers keep")).to_be_visible()
    watched.context.close()


def test_without_javascript(chromium: Browser, desk: Desk) -> None:
    session = desk.make_person("plain", samples=4)
    context = chromium.new_context(base_url=desk.url, java_script_enabled=False)
    desk.enter(context, session)
    page = context.new_page()
    page.goto("/review/")
    page.locator("#skip summary").click()
    page.get_by_role("button", name="Unclear").click()
    expect(page.locator(".previous")).to_contain_text("Skipped: unclear")
    page.get_by_role("button", name="Later").click()
    expect(page.locator("#review-notice")).to_contain_text("Postponed")
    page.locator(".mark").first.check()
    page.get_by_role("button", name="Marked violate").click()
    expect(page.locator(".previous")).to_contain_text("You said A violates")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#judgement")).to_be_visible()
    stored = desk.ask("[r.action for r in Review.objects.filter(reviewer__username='plain').order_by('created_at')]")
    assert stored == "['skip', 'violates', 'undo']"
    context.close()
