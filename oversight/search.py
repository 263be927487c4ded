"""The full-text index: what it holds of a sample, and how a person's words become a query of it.

Both databases get the same tokens, made here, so that the same search finds the same samples: words without
case, accents (those of Latin, Greek and Cyrillic) and invisible characters, of any script; runs of a script
that writes no spaces as pairs of characters. Marks (`mark`) stand for what never changes about a sample, so
that words and filters are one intersection of posting lists. The last word of a search also finds longer ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from django.db import connection, transaction

from oversight.models.samples import Cell, Sample, SampleText

LONGEST_WORD = 48  # characters
MOST_TEXT = 100_000  # characters of one sample that are read: an index row stays far below PostgreSQL's 1 MB
MOST_WORDS = 12  # of a search
# Beginnings of words that are tokens of their own: an index would have to merge the lists of all words that begin
# so, which takes a second for a letter and a million texts. Longer beginnings have few words.
STARTS = (1, 2, 3)  # characters
BLOCK = 1 << 15  # ids; on PostgreSQL every row carries the number of its block, see migration 0005
BATCH = 2_000  # samples written by one statement
# Scripts that write no spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)


class _Plain(dict[int, str]):
    """For str.translate: letters, digits and their marks stay, invisible characters vanish, the rest separates."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if 0x300 <= code < 0x370 or kind == "Cf":  # accents that decomposition split off; zero width, bidi
            plain = ""
        elif kind[0] in "LNM" or kind == "Co":
            plain = character
        else:
            plain = " "
        self[code] = plain
        return plain


PLAIN = _Plain()


def split_words(text: str) -> list[str]:
    """The words of `text` as the index knows them, in their order; [] where there is no letter or digit."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).translate(PLAIN))
        text = UNSPACED.sub(_pair, text)
    return [word[:LONGEST_WORD] for word in text.casefold().translate(PLAIN).split()]


def _pair(run: re.Match[str]) -> str:
    """Every two neighbours, and the last character alone: one character is found by what begins with it."""
    text = run[0]
    pairs = [text[index : index + 2] for index in range(len(text))]
    return f" {' '.join(pairs)} "


def start_token(start: str) -> str:
    """The token that every text has of which a word begins with these few characters."""
    return f"\u00b6{start}"


@lru_cache(maxsize=10_000)
def mark(name: str, value: object) -> str:
    """The token of a filter. It begins with a sign that no word contains."""
    return "\u00a7" + hashlib.blake2s(f"{name}={value}".encode(), digest_size=5).hexdigest()


@dataclass(frozen=True)
class Terms:
    """What a row of the index must have: `whole` tokens, and tokens that begin with `starts`."""

    whole: tuple[str, ...]
    starts: tuple[str, ...]

    def match(self, text: str) -> bool:
        padded = f" {text} "
        return all(f" {token} " in padded for token in self.whole) and all(f" {s}" in padded for s in self.starts)


def read_terms(text: str, marks: Iterable[str] = ()) -> Terms | None:
    """What a person's words ask for; None where they hold no letter or digit."""
    words = list(dict.fromkeys(split_words(text)))
    # Of a run of Chinese the index has pairs, and only its very last character alone.
    whole = [word for word in words if not _is_tail(word, words)][:MOST_WORDS]
    if not whole:
        return None
    starts = [word for word in whole if word == whole[-1] or (len(word) == 1 and UNSPACED.match(word))]
    short = [start_token(start) for start in starts if len(start) in STARTS]
    words = [word for word in whole if word not in starts]
    return Terms((*marks, *words, *short), tuple(start for start in starts if len(start) not in STARTS))


def _is_tail(word: str, words: list[str]) -> bool:
    return len(word) == 1 and UNSPACED.match(word) is not None and any(w[1:] == word for w in words)


# --- Writing ----------------------------------------------------------------------------------------


def make_text(sample: Sample, prompt: str) -> str:
    """The row of the index: marks, each word once, and how the words begin."""
    marks = {
        "experiment": sample.experiment_id, "round": sample.round_id, "kind": sample.kind, "category": sample.category,
        "principle": sample.principle, "flag_reason": sample.flag_reason,
    }  # fmt: skip
    text = "\n".join([prompt, *(response["text"] for response in sample.responses)])
    words = dict.fromkeys(split_words(text[:MOST_TEXT]))
    starts = {start_token(word[:size]) for word in words for size in STARTS if len(word) >= size}
    return " ".join([*(mark(*item) for item in marks.items()), *words, *starts])


def index_samples(samples: Iterable[tuple[Sample, str]]) -> None:
    """Makes new samples findable: each with its prompt, the oldest first, in the caller's transaction."""
    samples = list(samples)
    cells = {tuple(getattr(sample, name) for name in CELL) for sample, _ in samples}
    Cell.objects.bulk_create([Cell(**dict(zip(CELL, cell, strict=True))) for cell in cells], ignore_conflicts=True)
    SampleText.objects.bulk_create(
        [SampleText(sample_id=sample.pk, text=make_text(sample, prompt)) for sample, prompt in samples],
        ignore_conflicts=True,
    )


CELL = ("round_id", "kind", "category", "principle", "flag_reason")


@transaction.atomic
def rebuild_index() -> int:
    """Writes the index of all samples anew, the oldest first; how many. Some minutes for a million of them."""
    with _unindexed():
        Cell.objects.all().delete()
        done = 0
        for batch in _read_batches():
            index_samples((sample, sample.query.searched) for sample in batch)
            done += len(batch)
    tidy_index()
    return done


def _read_batches() -> Iterator[list[Sample]]:
    rows = (
        Sample.objects.select_related("query")
        .only(*CELL, "experiment_id", "responses", "query__text", "query__history")
        .order_by("-experiment_id", "created_at", "id")  # the index sample_recent, backwards
        .iterator(chunk_size=BATCH)
    )
    while batch := list(islice(rows, BATCH)):
        yield batch


@contextlib.contextmanager
def _unindexed() -> Iterator[None]:
    """Empties the texts, and indexes what is written meanwhile in one go at the end: many times faster."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'sampletext_tokens'")
            index = cursor.fetchone()[0]
            cursor.execute("DROP INDEX sampletext_tokens")
            cursor.execute("DELETE FROM oversight_sampletext")
            yield
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what is still to be checked would keep the index away
            cursor.execute(index)
            return
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'oversight_sampletext'"
        )
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        cursor.execute("DELETE FROM oversight_sampletext")
        yield
        if triggers:
            cursor.execute("INSERT INTO oversight_search(oversight_search) VALUES ('rebuild')")
        for _, trigger in triggers:
            cursor.execute(trigger)


def tidy_index() -> None:
    """Lets the planner know what the tables hold now. Cheap; after a round's samples came in."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA analysis_limit=400")
            # Not the reviews: hardly any has `supersedes`, and told so SQLite would read them all for each sample.
            for table in ("oversight_sample", "oversight_sampletext", "oversight_cell"):
                cursor.execute(f"ANALYZE {table}")
        else:
            cursor.execute("ANALYZE oversight_sample, oversight_sampletext, oversight_cell, oversight_review")
