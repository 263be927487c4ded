"""Every page once, full and empty, in Chromium: readable by everybody, on a phone, by keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.watched import Watched
from tests.oversight.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.stack]
# What the pages show, and who looks: a researcher, so that every entry and button is there.
FULL = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from tests.everything import make_everything
from tests.factories import make_review, make_user
call_command("migrate", verbosity=0)
found = make_everything()
user = make_user("researcher", username="rosa")
own = make_review(sample=found.decided, reviewer=user, note="As the neighbour would not want it.")
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
print(json.dumps({
    "session": session.session_key, "experiment": str(found.experiment.pk), "done": str(found.done.pk),
    "round": str(found.round.pk), "queued": str(found.queued.pk), "disputed": str(found.disputed.pk),
    "decided": str(found.decided.pk), "excluded": str(found.excluded.pk), "review": str(found.review.pk),
    "own": str(own.pk), "withdrawal": str(found.withdrawal.pk),
    "checkpoint": str(found.checkpoint.pk),
}))
"""
PAGES = (
    "/?experiment={experiment}", "/rounds/?experiment={experiment}", "/rounds/{done}/", "/rounds/{round}/",
    "/gaps/?experiment={experiment}", "/samples/?experiment={experiment}", "/samples/{queued}/", "/samples/{disputed}/",
    "/samples/{decided}/", "/samples/{excluded}/", "/adjudicate/?experiment={experiment}", "/adjudicate/{disputed}/",
    "/reviewers/?experiment={experiment}", "/reviewers/ada/?experiment={experiment}", "/withdraw/",
    "/withdraw/?reviewer=ada&experiment={experiment}", "/withdraw/?review={review}", "/withdrawals/",
    "/withdrawals/{withdrawal}/", "/review/", "/review/{queued}/", "/review/revise/{own}/", "/review/history/",
    "/review/preferences/", "/checkpoints/?experiment={experiment}", "/checkpoints/{checkpoint}/",
    "/checkpoints/start/?checkpoint={checkpoint}", "/probes/?experiment={experiment}",
    "/probes/p1/?experiment={experiment}",
)  # fmt: skip
EMPTY = (
    "/", "/rounds/", "/gaps/", "/samples/", "/adjudicate/", "/reviewers/", "/withdraw/", "/withdrawals/", "/review/",
    "/review/history/", "/review/preferences/", "/checkpoints/", "/probes/",
)  # fmt: skip
CLEAR = """
from oversight.models import *
for model in (LabelChange, Withdrawal, Label, TrainedOn, Review, Sample, Experiment):
    if model is Review:
        Review.objects.update(supersedes=None)
    model.objects.all().delete()
"""
# No level is left out on the way down, there is one <h1>, and it comes before the rest of the content.
HEADINGS = """() => {
  const levels = [...document.querySelectorAll("main :is(h1,h2,h3,h4)")].filter((node) => node.checkVisibility())
    .map((node) => +node.tagName[1]);
  const faults = [];
  if (levels.filter((level) => level === 1).length !== 1) faults.push(`${levels.filter((l) => l === 1).length} h1`);
  levels.forEach((level, at) => {
    if (at && level > levels[at - 1] + 1) faults.push(`h${level} after h${levels[at - 1]}`);
  });
  return faults;
}"""
# All that the Tab key must reach: of a group of radio buttons one is enough.
LIST_STOPS = """() => {
  const stops = [...document.querySelectorAll("a[href],button,input,select,textarea,summary,[tabindex='0']")].filter(
    (node) => node.checkVisibility({visibilityProperty: true}) && !node.disabled && node.tabIndex >= 0
      && node.type !== "hidden" && node.type !== "radio" && !node.closest("[inert]"));
  stops.forEach((node, number) => { node.dataset.stop = number; });
  return stops.length;
}"""
FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const looks = (one) => {
    const style = getComputedStyle(one);
    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
  };
  const around = [node, node.closest("label"), node.nextElementSibling, node.parentElement].filter(Boolean);
  return {stop: node.dataset.stop ?? "", seen: around.some(looks), what: node.outerHTML.slice(0, 90)};
}"""


def find_stops(page: Page) -> list[str]:
    """What Tab does not reach, and what does not show that it has the focus."""
    count = page.evaluate(LIST_STOPS)
    page.evaluate("() => { document.activeElement?.blur(); window.getSelection().removeAllRanges(); }")
    reached, faults, last = set(), [], ""
    for _ in range(count + 40):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            if reached:
                break
            continue
        if focused["stop"] in reached and focused["stop"] != last:  # a date has several stops of its own
            break
        last = focused["stop"]
        reached.add(focused["stop"])
        if not focused["seen"]:
            faults.append(f"no visible focus: {focused['what']}")
    missed = {str(number) for number in range(count)} - reached
    for number in sorted(missed, key=int):
        what = page.evaluate("stop => document.querySelector(`[data-stop='${stop}']`)?.outerHTML.slice(0, 90)", number)
        if what:
            faults.append(f"Tab does not reach {what}")
    return faults


def look(watched: Watched, addresses: list[str]) -> list[str]:
    faults = []
    for address in addresses:
        watched.page.goto(address)
        try:
            watched.check(address)
        except AssertionError as found:
            faults.append(str(found))
            watched.faults.clear()
        faults += [f"{address}: {fault}" for fault in watched.page.evaluate(HEADINGS) + find_stops(watched.page)]
    return faults


def test_every_page_is_for_everybody(tmp_path: Path, chromium: Browser) -> None:
    stack = Stack(tmp_path)
    made = json.loads(stack.manage("shell", "-v", "0", "-c", FULL).splitlines()[-1])
    with stack:
        look_at_all(stack, chromium, made)


def look_at_all(stack: Stack, chromium: Browser, made: dict[str, str]) -> None:
    watched = Watched(chromium, f"http://localhost:{stack.port}")
    cookie = {"name": "sessionid", "value": made["session"], "url": f"http://localhost:{stack.port}"}
    watched.context.add_cookies([cookie])
    faults = look(watched, [address.format(**made) for address in PAGES])
    stack.manage("shell", "-v", "0", "-c", CLEAR)
    faults += look(watched, list(EMPTY))
    watched.context.clear_cookies()
    faults += look(watched, ["/sign-in/"])
    watched.context.close()
    assert not faults, "\n".join(faults)
