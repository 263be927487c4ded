"""A text of a model as people read it: safe HTML whose text is the original, code point by code point.

So an offset counted in the page is an offset of the text. Odd characters stay where they are, inside a mark that
names them; only what HTML can't hold (NUL, half characters) stands as U+FFFD, one for one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from oversight.odd_characters import describe_run, find_odd, name_odd

LONG_CHARACTERS, LONG_LINES = 1_800, 18  # a longer text is folded
MOST_SHOWN, SHOWN = 200_000, 100_000  # characters: a text over the first is cut at the second
MOST_BLOCKS = 1_000  # paragraphs with an element of their own
MOST_NAMED = 2_000  # odd characters with a name of their own; the rest only show that they are there

CODE = SafeString('class="code" dir="ltr" translate="no"')
PARAGRAPH = SafeString('class="para" dir="auto"')

Mark = tuple[int, int, str, str]  # start, end (code points, end exclusive), CSS class, title
_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`\n]*$)|~{3,})[^\n]*$", re.MULTILINE)
_PARAGRAPH_END = re.compile(r"\n(?:[ \t\r]*\n)+")
_HALF = re.compile("[\x00\ud800-\udfff]")


def render_reading(text: str, marks: Sequence[Mark] = (), whole: str = "") -> SafeString:
    """The text in a box that folds where it is long. `whole` is the address of a text too long for a page.

    Linear in the length of the text; marks that lie outside the text or are empty are left out.
    """
    shown = text if len(text) <= MOST_SHOWN else text[: _cut_at(text)]
    marks = sorted((mark for mark in marks if 0 <= mark[0] < mark[1] <= len(text)), key=lambda mark: mark[:2])
    note = _note(text, shown, whole)
    long = len(shown) > LONG_CHARACTERS or shown.count("\n") >= LONG_LINES
    return format_html(
        '<div class="text{}"><div class="reading">{}</div>{}{}</div>',
        " long" if long else "",
        _render_blocks(shown, marks),
        _fold(len(shown), len(marks)) if long else "",
        note,
    )


def _fold(characters: int, marks: int) -> SafeString:
    """A checkbox, so that unfolding needs no script."""
    marked = f", {marks} marked passage{'s' if marks != 1 else ''}" if marks else ""
    return format_html(
        '<label class="fold btn small"><input type="checkbox" autocomplete="off"><span class="folded">Show all, {}'
        " characters{}</span><span>Fold</span> <kbd>F</kbd></label>",
        f"{characters:,}",
        marked,
    )


def _note(text: str, shown: str, whole: str) -> SafeString | str:
    if not text:
        return format_html('<p class="note"><em>{}</em></p>', "Empty: no characters.")
    if not text.strip():
        return format_html('<p class="note"><em>Only white space, {} characters.</em></p>', f"{len(text):,}")
    if len(shown) == len(text):
        return ""
    link = format_html(' <a href="{}" target="_blank" rel="noopener">The whole as plain text</a>', whole)
    return format_html(
        '<p class="note">The first {} of {} characters.{}</p>',
        f"{len(shown):,}",
        f"{len(text):,}",
        link if whole else "",
    )


def _cut_at(text: str) -> int:
    """Between words where there is a space near the end, so that no letter is parted from its accents."""
    space = max(text.rfind(" ", SHOWN - 200, SHOWN), text.rfind("\n", SHOWN - 200, SHOWN))
    return space + 1 if space >= 0 else SHOWN


# --- Blocks: paragraphs with a direction of their own, and code -------------------------------------


def _render_blocks(text: str, marks: Sequence[Mark]) -> SafeString:
    pieces = _Pieces(text, marks)
    blocks = ((CODE if code else PARAGRAPH, pieces.render(end)) for code, end in _split_blocks(text))
    return format_html_join("", "<div {}>{}</div>", blocks)


def _split_blocks(text: str) -> Iterator[tuple[bool, int]]:
    """(is it code, where it ends) for consecutive blocks that cover the text."""
    blocks = 0
    at = 0
    for start, end in [*_find_code(text), (len(text), len(text))]:
        for match in _PARAGRAPH_END.finditer(text, at, start):
            blocks += 1
            if blocks > MOST_BLOCKS:
                break
            yield False, match.end()
            at = match.end()
        if at < start:
            yield False, start
        if start < end:
            yield True, end
        at = end


def _find_code(text: str) -> Iterator[tuple[int, int]]:
    """The fenced blocks, fences included, each with its last line end. One that is never closed reaches the end."""
    opened: tuple[int, str] | None = None
    for match in _FENCE.finditer(text):
        fence = match[1]
        if opened is None:
            opened = (match.start(), fence)
        elif fence[0] == opened[1][0] and len(fence) >= len(opened[1]) and match[0].strip() == fence:
            yield opened[0], min(match.end() + 1, len(text))
            opened = None
    if opened is not None:
        yield opened[0], len(text)


# --- Pieces: what is marked, what is odd, what is plain ---------------------------------------------


class _Pieces:
    """Renders a text from left to right; each mark and each odd run is looked at once or once a block."""

    def __init__(self, text: str, marks: Sequence[Mark]) -> None:
        self.text, self.at, self.named = text, 0, 0
        self.odd = find_odd(text)
        self.run = next(self.odd, None)
        self.marks = marks
        self.edges = iter(sorted({edge for mark in marks for edge in mark[:2]}))
        self.edge = next(self.edges, None)

    def render(self, end: int) -> SafeString:
        """From where it stands up to `end`."""
        parts = []
        while self.at < end:
            while self.edge is not None and self.edge <= self.at:
                self.edge = next(self.edges, None)
            stop = end if self.edge is None else min(end, self.edge)
            active = [mark for mark in self.marks if mark[0] <= self.at < mark[1]]
            inner = SafeString("".join(self._plain(stop)))
            parts.append(_wrap(inner, active) if active else inner)
        return SafeString("".join(parts))

    def _plain(self, stop: int) -> Iterator[str]:
        while self.at < stop:
            while self.run is not None and self.run[1] <= self.at:
                self.run = next(self.odd, None)
            start = stop if self.run is None else max(self.at, min(self.run[0], stop))
            if self.at < start:
                yield _escape(self.text[self.at : start])
            self.at = start
            if self.run is not None and start < stop:
                self.at = min(self.run[1], stop)
                yield self._show_odd(self.text[start : self.at])

    def _show_odd(self, run: str) -> str:
        if self.named >= MOST_NAMED:
            return f'<bdi class="odd">{_hold(run)}</bdi>'
        parts = describe_run(run)
        self.named += len(parts)
        return format_html_join(
            "",
            '<bdi class="odd" data-label="{}" title="{}">{}</bdi>',  # its direction ends inside, style sheet or not
            ((label, title, SafeString(_hold(part))) for part, label, title in parts),
        )


def _wrap(inner: SafeString, active: Iterable[Mark]) -> SafeString:
    """One <mark> for all that mark this piece. `data-say` is what a screen reader hears before it."""
    classes = " ".join(dict.fromkeys(mark[2] for mark in active))
    title = "; ".join(dict.fromkeys(name_odd(" ".join(mark[3].split())) for mark in active))
    return format_html('<mark class="{}" title="{}" data-say="{}: ">{}</mark>', classes, title, title, inner)


def _escape(text: str) -> str:
    """HTML's parser would turn a carriage return into a line feed."""
    return html.escape(text).replace("\r", "&#13;")


def _hold(run: str) -> str:
    """What HTML's parser would drop stands as U+FFFD. Only odd characters are of that kind."""
    return _escape(_HALF.sub("\ufffd", run))
