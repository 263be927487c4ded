"""Readings kept by content: what is read once is not read again, and a bad cache costs time only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alignment.feature_cache import PARTS, cache_folder, cached_readings, read_chunks, save_chunk
from alignment.language_model import Features
from alignment.readings import Reading, read_answer
from alignment.records import Sample
from alignment.rundir import RunDir
from tests.alignment.made_answers import features


class Reader:
    """Reads every answer as two sentences drawn from its words; says what it was asked, and may be forbidden to."""

    layers = 3

    def __init__(self, name: str = "model-a", dtype: str = "float32", forbidden: bool = False, size: float = 1) -> None:
        self.name, self.forbidden, self.size = name, forbidden, size
        self.model = SimpleNamespace(dtype=dtype)
        self.asked: list[tuple[str, str]] = []

    def features(self, prompts: list[str], responses: list[str], *, layers: tuple[int, ...]) -> list[Features]:
        if self.forbidden:
            raise AssertionError(f"the model was asked to read {responses}")
        self.asked += zip(prompts, responses, strict=True)
        return [features(len(r) * self.size, -1.0, rng=np.random.default_rng(len(p + r)))
                for p, r in zip(prompts, responses, strict=True)]  # fmt: skip


def same(a: list[Reading], b: list[Reading]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(getattr(x, part), getattr(y, part)) for x, y in zip(a, b, strict=True) for part in PARTS
    )


def test_what_was_read_once_is_not_read_again(tmp_path: Path) -> None:
    prompts, responses = ["p", "p", "q"], ["one", "three", "three"]
    first = cached_readings(Reader(), prompts, responses, folder=tmp_path)  # type: ignore[arg-type]
    again = cached_readings(Reader(forbidden=True), prompts, responses, folder=tmp_path)  # type: ignore[arg-type]
    assert same(first, again)
    assert first[0].mean_RKD.dtype == np.float16
    turned = cached_readings(Reader(forbidden=True), prompts[::-1], responses[::-1], folder=tmp_path)  # type: ignore[arg-type]
    assert same(turned, first[::-1])
    # Halved, a reading says the same to three digits.
    full = read_answer(Reader().features(["p"], ["one"], layers=(1,))[0])
    assert np.allclose(full.mean_RKD, first[0].mean_RKD, rtol=2e-3, atol=1e-4)


def test_only_what_is_missing_is_read(tmp_path: Path) -> None:
    cached_readings(Reader(), ["p"], ["one"], folder=tmp_path)  # type: ignore[arg-type]
    reader = Reader()
    cached_readings(reader, ["p", "p"], ["one", "two"], folder=tmp_path)  # type: ignore[arg-type]
    assert reader.asked == [("p", "two")]
    assert cached_readings(Reader(forbidden=True), [], [], folder=tmp_path) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "response", "reader", "layers"),
    [
        ("other", "one", Reader(), (1, 2, 3)),
        ("p", "one ", Reader(), (1, 2, 3)),
        ("p", "one", Reader(name="model-b"), (1, 2, 3)),
        ("p", "one", Reader(dtype="bfloat16"), (1, 2, 3)),
        ("p", "one", Reader(), (1, 2)),
        ("po", "ne", Reader(), (1, 2, 3)),
    ],
    ids=["prompt", "response", "model", "dtype", "layers", "border"],
)
def test_whatever_changes_the_reading_changes_the_key(
    prompt: str, response: str, reader: Reader, layers: tuple[int, ...], tmp_path: Path
) -> None:
    cached_readings(Reader(), ["p"], ["one"], layers=(1, 2, 3), folder=tmp_path)  # type: ignore[arg-type]
    reader.asked.clear()
    cached_readings(reader, [prompt], [response], layers=layers, folder=tmp_path)  # type: ignore[arg-type]
    assert reader.asked == [(prompt, response)]


@pytest.mark.parametrize("content", [b"no database at all", b"", b"SQLite format 3\x00" + b"\xff" * 200])
def test_a_damaged_file_is_read_around(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "readings.sqlite3").write_bytes(content)
    reader = Reader()
    found = cached_readings(reader, ["p"], ["one"], folder=tmp_path)  # type: ignore[arg-type]
    assert reader.asked == [("p", "one")]
    assert same(found, cached_readings(Reader(), ["p"], ["one"]))  # type: ignore[arg-type]
    assert "feature cache" in caplog.text


def test_a_damaged_row_is_read_anew_and_mended(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    first = cached_readings(Reader(), ["p"], ["one"], folder=tmp_path)  # type: ignore[arg-type]
    with closing(sqlite3.connect(tmp_path / "readings.sqlite3")) as connection, connection:
        connection.execute("UPDATE readings SET reading = x'00'")
    assert same(first, cached_readings(Reader(), ["p"], ["one"], folder=tmp_path))  # type: ignore[arg-type]
    assert same(first, cached_readings(Reader(forbidden=True), ["p"], ["one"], folder=tmp_path))  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    reader = Reader()
    assert len(cached_readings(reader, ["p"], ["one"], folder=tmp_path / "file" / "cache")) == 1  # type: ignore[arg-type]


def test_what_half_precision_cannot_hold_is_clipped(tmp_path: Path) -> None:
    loud = Reader(size=1e6)
    first = cached_readings(loud, ["p"], ["one"], folder=tmp_path)[0]  # type: ignore[arg-type]
    assert np.isfinite(first.mean_RKD).all()
    assert first.mean_RKD.max() == np.finfo(np.float16).max


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERSIGHT_FEATURE_CACHE", raising=False)
    assert cache_folder(str(tmp_path)) == tmp_path / "features"
    assert cache_folder("somebody/a-model-on-the-hub") is None
    monkeypatch.setenv("OVERSIGHT_FEATURE_CACHE", str(tmp_path / "own"))
    assert cache_folder("somebody/a-model-on-the-hub") == tmp_path / "own"


def sample(kind: str, text: str, **responses: str) -> Sample:
    query = {"id": text, "text": text, "kind": kind}
    return Sample(query, [{"id": key, "text": value} for key, value in responses.items()], [], None, 0.5)


def test_the_chunks_of_propose_come_back_and_what_is_missing_is_read(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.propose.mkdir(parents=True)
    samples = [
        sample("unsafe", "p", a="one", b="three"), sample("unsafe", "q", c="two"), sample("competence", "s", d="4")
    ]  # fmt: skip
    reader = Reader()
    a, b = cached_readings(reader, ["p", "p"], ["one", "three"])  # type: ignore[arg-type]
    save_chunk(run.propose / "features-000.safetensors", ["a"], [a])
    save_chunk(run.propose / "features-001.safetensors", ["b"], [b])
    save_chunk(run.propose / "features-002.safetensors", [], [])
    reader.asked.clear()
    found = read_chunks(run, reader, samples)  # type: ignore[arg-type]
    assert reader.asked == [("q", "two")]  # not the competence answer
    assert set(found) == {"a", "b", "c"}
    assert same([found["a"], found["b"]], [a, b])
    assert not list(run.propose.glob(".*.part"))
