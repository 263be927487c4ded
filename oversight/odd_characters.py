"""Characters that nobody sees and that may deceive: found in linear time and named, the text itself unchanged.

Joiners and variation selectors are left alone where a script or an emoji needs them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

C0 = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
]  # fmt: skip
SHORT = {
    **dict(enumerate(C0)),
    0x7F: "DEL", 0x85: "NEL", 0x9B: "CSI", 0xAD: "SHY", 0x34F: "CGJ", 0x61C: "ALM", 0x180E: "MVS",
    0x200B: "ZWSP", 0x200C: "ZWNJ", 0x200D: "ZWJ", 0x200E: "LRM", 0x200F: "RLM", 0x2028: "LS", 0x2029: "PS",
    0x202A: "LRE", 0x202B: "RLE", 0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO",
    0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM",
}  # fmt: skip
TAGS = (0xE0020, 0xE007E)  # an invisible copy of ASCII
LONGEST_HIDDEN = 60  # characters of a hidden text that its mark shows
LISTED = 4  # different characters in a row that are named one by one

# Scripts whose letters join, or stay apart, by an invisible character: Arabic to Sinhala, Myanmar, Khmer, Mongolian.
_JOINING = "\u0600-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"
_EMOJI = "\u00a9\u00ae\u203c-\u3299\ufe0f\U0001f000-\U0001faff"
_HAN = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ALWAYS = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
# The flags of England, Scotland and Wales: the only emoji that are spelt with tag characters.
_FLAGS = "|".join(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in code) + "\U000e007f"
    for code in ("gbeng", "gbsct", "gbwls")
)
_ODD = re.compile(
    f"(?P<flag>{_FLAGS})|(?:[{_ALWAYS}]"
    r"|\r(?!\n)"
    f"|(?<![{_JOINING}])\u200c"
    f"|(?<![{_JOINING}])(?!(?<=[{_EMOJI}])\u200d[{_EMOJI}])\u200d"
    # A selector belongs to one visible character; behind letters, or many in a row, they carry hidden data.
    "|(?<![^A-Za-z\\s\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f]"
    "|(?<![\u1820-\u18aa])[\u180b-\u180d\u180f]"
    f"|(?<![{_HAN}])[\U000e0100-\U000e01ef]"
    ")+"
)
# Where a run, or a flag, may begin: one look-up a character, so that plain texts cost next to nothing.
_MAYBE = re.compile(f"[{_ALWAYS}\r\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U0001f3f4\U000e0100-\U000e01ef]")


def find_odd(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each run of odd characters: offsets in code points, end exclusive."""
    at = 0
    while (candidate := _MAYBE.search(text, at)) is not None:
        run = _ODD.match(text, candidate.start())
        at = run.end() if run else candidate.end()
        if run and run["flag"] is None:
            yield run.span()


def describe_run(run: str) -> list[tuple[str, str, str]]:
    """(part of the run, short label, title) for its marks: one a character, or one for many."""
    hidden = _hidden_text(run)
    if hidden:
        return [(run, f"hidden: {hidden}", f"{len(run)} invisible tag characters that spell a text: {hidden}")]
    if len(set(run)) == 1:
        times = f" × {len(run):,}" if len(run) > 1 else ""
        return [(run, name_short(run[0]) + times, name_long(run[0]) + times)]
    if len(run) <= LISTED:
        return [(letter, name_short(letter), name_long(letter)) for letter in run]
    names = ", ".join(name_short(letter) for letter in run[:LISTED])
    return [(run, f"{len(run):,} invisible", f"{len(run):,} invisible characters: {names} and so on")]


def name_short(character: str) -> str:
    """RLO for U+202E; the code point where there is no usual abbreviation."""
    return SHORT.get(ord(character), f"U+{ord(character):04X}")


def name_long(character: str) -> str:
    """E.g. U+202E RIGHT-TO-LEFT OVERRIDE."""
    code = ord(character)
    if code < 32:
        name = unicodedata.name(chr(0x2400 + code)).removeprefix("SYMBOL FOR ")
    elif 0xD800 <= code <= 0xDFFF:
        name = "HALF OF A CHARACTER"
    else:
        name = unicodedata.name(character, "CONTROL CHARACTER" if code < 0xA0 else "NO CHARACTER")
    return f"U+{code:04X} {name}"


def name_odd(text: str) -> str:
    """The text with its odd characters replaced by their names: ‹RLO›. For lists, where no mark can stand."""
    parts, at = [], 0
    for start, end in find_odd(text):
        parts += [text[at:start], *(f"‹{label}›" for _, label, _ in describe_run(text[start:end]))]
        at = end
    return "".join([*parts, text[at:]])


def _hidden_text(run: str) -> str:
    """The ASCII that a run of tag characters spells; "" where it is not only such a run."""
    if not all(TAGS[0] <= ord(letter) <= TAGS[1] or ord(letter) in (0xE0001, 0xE007F) for letter in run):
        return ""
    text = "".join(chr(ord(letter) - 0xE0000) for letter in run if TAGS[0] <= ord(letter) <= TAGS[1])
    return text[:LONGEST_HIDDEN] + ("…" if len(text) > LONGEST_HIDDEN else "")
