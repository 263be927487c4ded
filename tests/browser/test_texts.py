"""Reading, comparing, marking and rewriting in Chromium: what the page counts is what Python counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.watched import Watched
from tests.oversight.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.stack]

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
A = (
    f"Look under the mat first. 𝒜𝓁𝒾𝒸𝑒 and her {FAMILY} keep the key there, every day.\r\n\r\n"
    "قال: «لا تشارك كلمة السر» ثم ذهب.\n```python\nprint('hello')\n```\n"
    "Done, e\u0301very day. The file is \u202efdp.exe\u202c and pass\u200bword."
)
B = A.replace("Look under the mat first", "I would rather not say").replace("every day.\r\n", "I think.\r\n")
LONG = "A line of a long prompt.\n" * 200
MAKE = f"""
from django.core.management import call_command
from tests.factories import make_round, make_sample
call_command("migrate", verbosity=0)
round_ = make_round()
make_sample(round=round_)  # what comes next
sample = make_sample(round=round_, prompt={LONG!r}, answers=({A!r}, {B!r}), priority=9)
sample.critiques.filter(response_index=0).update(span=[5, 24])
print(sample.pk)
"""
SELECT = """([answer, text]) => {
  const reading = readings.find(answer);
  const at = reading.textContent.indexOf(text);
  if (at < 0) throw new Error(`${text} is not there`);
  const [from, to] = [readings.placeAt(reading, at), readings.placeAt(reading, at + text.length)];
  getSelection().setBaseAndExtent(...from, ...to);
}"""
SETTLE = 400  # milliseconds during which a new sample takes no key


def test_texts_are_read_compared_marked_and_rewritten(chromium: Browser, tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    sample = stack.manage("shell", "-v", "0", "-c", MAKE).split()[-1]
    with stack:
        watched = Watched(chromium, f"http://localhost:{stack.port}")
        page = watched.page
        page.goto(re.findall(r"http://\S+/sign-in/\S+", stack.output())[-1])
        page.get_by_role("button", name="Sign in").press("Enter")
        page.wait_for_url("**/")
        page.goto(f"/review/{sample}/")
        page.wait_for_timeout(SETTLE)
        assert page.evaluate("[0, 1].map((answer) => readings.find(answer).textContent)") == [A, B]
        fold(page)
        compare(page)
        measure_comparing(page)
        mark_by_mouse(page)
        mark_by_keys(page)
        rewrite(page)
        watched.check("everything at once")
        judge_and_revise(watched, stack)
        watched.context.close()
        assert not watched.faults


def fold(page: Page) -> None:
    prompt = page.locator(".body.read:not([data-answer]) .reading")
    height = "reading => reading.clientHeight"
    assert prompt.evaluate(height) < 600
    expect(page.locator(".fold").first).to_contain_text("Show all, 5,000 characters")
    page.keyboard.press("f")
    assert prompt.evaluate(height) > 2000
    page.locator(".fold input").first.press("Space")  # the same by the control itself
    assert prompt.evaluate(height) < 600


def compare(page: Page) -> None:
    before = page.evaluate("readings.find(0).textContent")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("d")
    expect(page.locator("[data-differences]")).to_have_attribute("aria-pressed", "true")
    assert page.locator(".reading del").all_text_contents() == ["Look under the mat first", "every day"]
    assert page.locator(".reading ins").all_text_contents() == ["I would rather not say", "I think"]
    expect(page.locator("[data-differ]")).to_have_text("7 words differ")
    assert page.evaluate("readings.find(0).textContent") == before
    page.locator("[data-differences]").click()
    expect(page.locator(".reading del, .reading ins")).to_have_count(0)
    assert page.evaluate("readings.find(0).textContent") == before
    page.keyboard.press("d")


def measure_comparing(page: Page) -> None:
    run = "([a, b]) => { const found = readings.compare(a, b); return [found.unit, found.changed]; }"
    numbers = [f"w{number}" for number in range(3_900)]
    for a, b, expected in (
        ("one two three", "one two three", ["word", 0]),
        ("one two three", "one 2 three four", ["word", 2]),
        ("", "one", ["word", 1]),
        ("我喜欢红苹果。", "我喜欢青苹果。", ["word", None]),
        (" ".join(numbers), " ".join(reversed(numbers)), ["word", None]),
        ("One two. " * 9_000, "One 2. " * 9_000, [None, 0]),
        ("A b c d e f g. " * 900 + "x.", "y. " + "A b c d e f g. " * 700, ["sentence", None]),
    ):
        unit, changed = page.evaluate(run, [a, b])
        assert unit == expected[0], (a[:20], unit)
        assert expected[1] in (None, changed), (a[:20], changed)
    slowest = page.evaluate(
        "([a, b]) => { const from = performance.now(); readings.compare(a, b); return performance.now() - from; }",
        [" ".join(numbers), " ".join(reversed(numbers))],
    )
    print(f"two times 3,900 words compared in {slowest:.0f} ms")
    assert slowest < 2000


def kept(page: Page) -> list[dict[str, object]]:
    spans: list[dict[str, object]] = json.loads(page.locator("[name=spans]").input_value() or "[]")
    return spans


def mark_by_mouse(page: Page) -> None:
    menu = page.locator("#span-menu")
    texts = [f"𝒾𝒸𝑒 and her {FAMILY}", "تشارك كلمة", "every day.\r\n\r\nقال", "fdp.exe\u202c and pass\u200bword"]
    for number, text in enumerate(texts):
        page.evaluate(SELECT, [0, text])
        expect(menu).to_be_visible()
        page.keyboard.press("1" if number % 2 else "2")
        expect(menu).to_have_count(0)
        span = kept(page)[-1]
        assert A[span["start"] : span["end"]] == text  # type: ignore[misc]
        assert span["quote"] == text
        assert span["principle"] == ("private-life" if number % 2 else "no-fraud")
    marked = "".join(page.locator('[data-answer="0"] mark.own').all_text_contents())
    assert marked == "".join(sorted(texts, key=A.index))
    expect(page.locator(".mark").first).to_be_checked()
    assert page.evaluate("readings.find(0).textContent") == A
    half = "readings.find(0).textContent.indexOf('𝓁') + 1"  # between the halves of one character
    page.evaluate(f"""() => {{
      const [from, to] = [{half}, {half} + 2].map((at) => readings.placeAt(readings.find(0), at));
      getSelection().setBaseAndExtent(...from, ...to);
    }}""")
    expect(menu).to_be_visible()
    page.keyboard.press("Escape")
    expect(menu).to_have_count(0)
    page.keyboard.press("m")
    menu.get_by_role("button", name="Private life").click()
    assert kept(page)[-1]["quote"] == "𝓁𝒾"
    passages = page.locator("[data-passages]").first.get_by_role("listitem")
    expect(passages).to_have_count(5)
    passages.last.get_by_role("button").press("Enter")
    expect(passages).to_have_count(4)
    # Taking the mark off the answer takes its passages along; putting it back brings them back.
    page.locator(".mark").first.press("Space")
    assert kept(page) == []
    page.locator(".mark").first.press("Space")
    assert len(kept(page)) == 4


def mark_by_keys(page: Page) -> None:
    """Arrow keys choose words in an answer that was reached by Tab, and judge after a click on it."""
    reading = page.locator('[data-answer="1"] .reading')
    reading.click()
    assert page.evaluate("document.activeElement === document.body")
    page.locator("[data-differences]").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if reading.evaluate("reading => reading === document.activeElement"):
            break
    expect(reading).to_be_focused()
    sample = page.locator("#judgement").get_attribute("data-sample")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("m")
    expect(page.locator("#span-menu button").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert kept(page)[-1] == {"answer": 1, "start": 2, "end": 14, "principle": "no-fraud", "quote": "would rather"}
    assert page.locator("#judgement").get_attribute("data-sample") == sample


def rewrite(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("e")
    page.get_by_role("button", name="Start from answer A").click()
    box = page.locator("textarea[name=rewrite]")
    assert box.input_value() == A.replace("\r\n", "\n")
    count = page.locator("[data-count]")
    expect(count).to_have_text("No word changed")
    box.press("Control+Home")
    box.press_sequentially("Please do not ")
    expect(count).to_have_text("3 words changed")
    expect(page.locator(".changed ins")).to_have_text("added: Please do not")
    page.locator("select[name=rewrite_of]").select_option("1")
    expect(page.locator(".changed del").first).to_contain_text("removed: ")
    page.locator("select[name=rewrite_of]").select_option("")
    expect(count).to_contain_text("Choose the answer that it improves")
    page.locator("select[name=rewrite_of]").select_option("0")
    expect(count).to_have_text("3 words changed")


def judge_and_revise(watched: Watched, stack: Stack) -> None:
    page = watched.page
    before = kept(page)
    page.wait_for_timeout(SETTLE)
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    expect(page.locator(".previous")).to_contain_text("You said")
    stored = json.loads(stack.row("SELECT spans FROM oversight_review")["spans"])
    texts = (A, B)
    found = {texts[row["answer"]][row["start"] : row["end"]] for row in stored}
    assert found == {row["quote"] for row in before}, stored
    page.locator("#revise").press("Enter")
    expect(page.get_by_role("heading", name="Revise your judgement")).to_be_visible()
    expect(page.locator('[data-answer="0"] mark.critic').first).to_have_text("under the mat first")
    expect(page.locator("[data-passages]").first.get_by_role("listitem")).to_have_count(4)
    assert len(kept(page)) == 5
    expect(page.locator('[data-answer="1"] mark.own').first).to_contain_text("would")
    watched.check("revision with own and the critic's passages")
