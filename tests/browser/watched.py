"""A browser page that keeps what went wrong on it, and what must hold on every page."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
# Playwright's own scripts stand outside the page's policy, so this one sees what the policy refuses.
REPORT_POLICY = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} refused ${event.blockedURI} on ${location.pathname}`);
});
"""
# From the key to the next sample in place, in milliseconds.
TIME_JUDGEMENTS = """
window.judgements = [];
let pressed = 0;
let seen = "";
document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    const now = document.getElementById("judgement")?.dataset.sample ?? "";
    if (now === seen) return;
    if (seen && pressed) judgements.push(performance.now() - pressed);
    [seen, pressed] = [now, 0];
  }).observe(document.body, { childList: true, subtree: true });
});
"""
# All that differs between light and dark.
ONLY_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
# Tables and the log scroll inside their own panel; nothing else may stick out of the page.
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Watched:
    def __init__(self, browser: Browser, base_url: str) -> None:
        self.context = browser.new_context(base_url=base_url, viewport=DESK, color_scheme="light")
        self.context.add_init_script(REPORT_POLICY)
        self.context.add_init_script(TIME_JUDGEMENTS)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.faults: list[str] = []
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))
        self.page.on("response", self._note_response)

    def _note_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{self.page.url}: {message.text}")

    def _note_response(self, response: Any) -> None:
        if response.status >= 400:
            self.faults.append(f"{self.page.url}: {response.request.method} {response.url}: {response.status}")

    def check(self, name: str) -> None:
        """No fault so far; readable by everybody, light and dark; nothing sticks out on a phone."""
        problems = []
        for scheme, rules in (("light", {}), ("dark", ONLY_COLOURS)):
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page, options={"resultTypes": ["violations"], **rules}).response
            problems += [f"{name}, {scheme}: {line}" for line in _serious(found)]
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size(PHONE)
        wider = self.page.evaluate(WIDER)
        if wider > 0:
            problems.append(f"{name} is {wider} px wider than a phone")
        self.page.set_viewport_size(DESK)
        assert not problems + self.faults, "\n".join(problems + self.faults)


def _serious(found: dict[str, Any]) -> list[str]:
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
