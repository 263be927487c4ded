"""The time from a key to the next sample on the screen, in Chromium."""

from __future__ import annotations

import shutil
import time
from typing import Any

JUDGEMENTS = 30
WARM_UP = 3
SETTLED_MS = 500  # the page takes no key for 350 ms after a new sample
LONGEST_MS = 10_000
# From the key's event to the second frame after another sample stands in the page: by then it is painted.
WATCH = """
() => {
  const shown = () => document.getElementById("judgement")?.dataset.sample;
  const before = shown();
  window.nextSample = new Promise((resolve) => {
    document.addEventListener("keydown", (event) => {
      const began = event.timeStamp;
      const changed = () => {
        if (shown() === before || !shown()) return;
        observer.disconnect();
        requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - began)));
      };
      const observer = new MutationObserver(changed);
      observer.observe(document.body, { childList: true, subtree: true, attributes: true });
    }, { once: true, capture: true });
  });
}
"""


def find_chromium() -> str | None:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


def measure_browser(port: int, session: str, judgements: int = JUDGEMENTS) -> dict[str, Any]:
    """Milliseconds from key to paint, one a judgement, at reading pace; and the same while keys come at once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_cookies([{"name": "sessionid", "value": session, "url": f"http://127.0.0.1:{port}"}])
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/review/")
        page.wait_for_selector("#judgement")
        times = []
        for number in range(judgements + WARM_UP):
            time.sleep(SETTLED_MS / 1000)
            page.wait_for_load_state("networkidle") if number == 0 else None
            page.evaluate(WATCH)
            page.keyboard.press("ArrowUp")
            took = page.evaluate(
                f"Promise.race([window.nextSample, new Promise((r) => setTimeout(() => r(null), {LONGEST_MS}))])"
            )
            if took is None:
                complaints.append(f"no other sample within {LONGEST_MS} ms of key {number + 1}")
                break
            if number >= WARM_UP:
                times.append(took)
        version = browser.version
        browser.close()
    return {"milliseconds": times, "complaints": complaints, "chromium": version}
