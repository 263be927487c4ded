"""The addresses of `/samples/` that are timed: each filter alone, pairs that match nothing, common and rare words."""

from __future__ import annotations

from urllib.parse import urlencode

from tests.bench.words import make_vocabulary

REVIEWER = "reviewer-07"


def list_pages() -> list[str]:
    """Common filters, rare ones, pairs that exclude each other, and searches from the commonest word to none."""
    words = make_vocabulary()
    common, usual, rare = words[0], words[200], words[-1]
    filters: list[dict[str, str]] = [
        {},
        *({"round": number} for number in ("1", "10", "99")),
        *({"status": status} for status in
          ("unflagged", "queued", "disputed", "decided", "skipped", "closed", "excluded")),
        *({"kind": kind} for kind in ("unsafe", "harmless", "competence")),
        *({"reason": reason} for reason in ("violation", "audit", "unjudged")),
        {"category": "privacy"}, {"category": "nothing-has-this"}, {"principle": "private-life"},
        {"reviewer": REVIEWER}, {"assigned": REVIEWER}, {"disputed": "yes"}, {"gold": "yes"},
        # Pairs and more, up to those that match nothing though each alone matches many.
        {"round": "1", "status": "queued"},
        {"round": "10", "status": "closed"},
        {"round": "3", "status": "decided", "kind": "unsafe"},
        {"status": "unflagged", "reason": "audit"},
        {"status": "skipped", "kind": "competence", "reason": "diversity"},
        {"kind": "competence", "category": "privacy"},
        {"kind": "harmless", "principle": "private-life", "status": "skipped"},
        {"reviewer": REVIEWER, "status": "queued"},
        {"reviewer": REVIEWER, "round": "2", "kind": "unsafe", "reason": "violation"},
        {"gold": "yes", "status": "closed"},
        {"disputed": "yes", "status": "decided"},
        # Searches.
        {"text": common}, {"text": usual}, {"text": rare}, {"text": "wordthatisnowhere"}, {"text": common[:1]},
        {"text": f"{common} {words[1]} {words[2]}"}, {"text": f"{usual} {rare}"}, {"text": "..."},
        {"text": common, "status": "skipped"}, {"text": common, "status": "excluded"},
        {"text": common, "kind": "competence", "category": "privacy"},
        {"text": common, "round": "1", "status": "queued"},
        {"text": usual, "reviewer": REVIEWER}, {"text": common, "reviewer": REVIEWER, "status": "closed"},
        {"text": rare, "status": "unflagged"}, {"text": common, "gold": "yes"}, {"text": usual, "disputed": "yes"},
    ]  # fmt: skip
    return ["/samples/" + (f"?{urlencode(wanted)}" if wanted else "") for wanted in filters]
