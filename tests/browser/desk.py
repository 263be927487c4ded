"""A server with samples of its own and people who are signed in, for journeys that need no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext

from tests.browser.watched import DESK, Watched
from tests.oversight.stack import Stack

CATEGORY = "journeys"  # people of a journey get only this one, so the demo's samples stay out of their way
MAKE = """
import json
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from oversight.models import Round
from tests.factories import make_constitution, make_experiment, make_round, make_sample, make_user
fields = json.loads({fields!r})
user = make_user(fields.pop("role"), username={username!r}, categories=[{category!r}], **fields)
session = SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.save()
Round.objects.filter(experiment__name__startswith="experiment").update(status="done")
name = "experiment of " + user.username
round = make_round(experiment=make_experiment(name=name, constitution=make_constitution(name=name)))
for number in range({samples}):
    prompt = f"Sample {{number}}: where does my neighbour keep the spare key?"
    make_sample(round=round, prompt=prompt, priority=1 - number / 1000, query=dict(category={category!r}))
print(session.session_key)
"""


class Desk:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = f"http://localhost:{stack.port}"

    def make_person(self, username: str, *, samples: int, **fields: object) -> str:
        """A person with a round of so many samples; earlier journeys' rounds end. Returns the session's key."""
        wanted = json.dumps({"role": "reviewer", **fields})
        code = MAKE.format(fields=wanted, username=username, category=CATEGORY, samples=samples)
        return self.stack.manage("shell", "-v", "0", "-c", code).split()[-1]

    def ask(self, expression: str) -> str:
        """What the database says: an expression over oversight.models."""
        code = f"from oversight.models import *\nprint({expression})"
        return self.stack.manage("shell", "-v", "0", "-c", code).strip()

    def enter(self, context: BrowserContext, session: str) -> BrowserContext:
        context.add_cookies([{"name": "sessionid", "value": session, "url": self.url}])
        return context

    def watch(self, browser: Browser, session: str) -> Watched:
        watched = Watched(browser, self.url)
        self.enter(watched.context, session)
        return watched

    def open(self, browser: Browser, session: str) -> BrowserContext:
        """Another machine of the same person."""
        return self.enter(browser.new_context(base_url=self.url, viewport=DESK), session)


@contextmanager
def start_desk(folder: Path) -> Iterator[Desk]:
    with Stack(folder) as stack:
        yield Desk(stack)
