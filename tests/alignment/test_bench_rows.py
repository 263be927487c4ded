"""Reading a benchmark file: verdicts and scores, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment.bench.rows import Judged, read_judged


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_verdicts_and_scores_are_read_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "p", "response": "a", "violates": 1, "category": "x"},
        "",
        {"prompt": "p", "response": "b", "human_scores": [0, 1], "extra": 3},
        {"prompt": "p", "response": "", "human_scores": [0.0, 0.49, 1]},
        {"prompt": "p", "response": "d", "violates": False, "human_scores": [1.0]},
    )
    assert read_judged(path) == [
        Judged("p", "a", True, (), "x"),
        Judged("p", "b", True, (0.0, 1.0)),  # a mean of 0.5 violates
        Judged("p", "", False, (0.0, 0.49, 1.0)),
        Judged("p", "d", False, (1.0,)),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{nope", "line 2: not JSON"),
        ("[1]", "line 2: .* is no object"),
        ({"prompt": "p", "violates": 1}, "line 2: response is None"),
        ({"prompt": " ", "response": "r", "violates": 1}, "line 2: prompt is empty"),
        ({"prompt": "p", "response": "r"}, "line 2: there is neither violates"),
        ({"prompt": "p", "response": "r", "human_scores": []}, "line 2: there is neither violates"),
        ({"prompt": "p", "response": "r", "violates": 0.7}, r"line 2: violates is 0\.7"),
        ({"prompt": "p", "response": "r", "human_scores": [0.5, 7]}, "line 2: human_scores holds 7"),
        ({"prompt": "p", "response": "r", "human_scores": [True]}, "line 2: human_scores holds True"),
        ({"prompt": "p", "response": "r", "human_scores": 0.5}, r"line 2: human_scores is 0\.5"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, words: str) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "p", "response": "a", "violates": 1}, row)
    with pytest.raises(ValueError, match=words):
        read_judged(path)


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no rows"):
        read_judged(write(tmp_path / "a.jsonl", ""))
