"""Answering a prompt file, with a base model, a checkpoint, and an endpoint of the OpenAI kind."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alignment.__main__ import main
from alignment.config import RoundConfig
from alignment.endpoint import Endpoint, EndpointError
from alignment.language_model import LanguageModel
from alignment.learner import train_adapter
from alignment.records import Pair


class Server(BaseHTTPRequestHandler):
    """A real HTTP server that answers chat completions by repeating the prompt."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        if prompt == "fail":
            self.send_error(500)
            return
        finish = "length" if body["max_tokens"] < 3 else "stop"
        reply = {"choices": [{"message": {"content": f"echo {prompt}"}, "finish_reason": finish}]}
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/v1#m"
    running.shutdown()
    running.server_close()


def write_prompts(path: Path, *prompts: str) -> Path:
    path.write_text("".join(json.dumps({"prompt": p, "id": i}) + "\n" for i, p in enumerate(prompts)))
    return path


def test_respond_answers_every_line_in_order_and_keeps_its_keys(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path / "in.jsonl", "one", "two words", "three")
    out = tmp_path / "out.jsonl"
    options = ["--prompts", str(prompts), "--out", str(out), "--max-new-tokens", "4"]
    assert main(["respond", "--model", "tiny", *options]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["id"], r["prompt"]) for r in rows] == [(0, "one"), (1, "two words"), (2, "three")]
    assert all(r["tokens"] <= 4 and r["finish"] in ("stop", "length") for r in rows)


def test_respond_with_a_trained_adapter_differs_from_the_base(tmp_path: Path) -> None:
    config = RoundConfig(round_id="", profile="tiny", sft_steps=12, preference_steps=0, batch=4, learning_rate=2e-2)
    pairs = [Pair("one", "zzzzzzzz", None, 1.0, "unsafe", "s")]
    train_adapter(config, LanguageModel.load("tiny"), pairs, tmp_path / "adapter")
    prompts = write_prompts(tmp_path / "in.jsonl", "one")
    texts = []
    for extra in ([], ["--adapter", str(tmp_path / "adapter")]):
        out = tmp_path / "out.jsonl"
        options = ["--prompts", str(prompts), "--out", str(out), "--max-new-tokens", "8"]
        assert main(["respond", "--model", "tiny", *extra, *options]) == 0
        texts.append(json.loads(out.read_text())["response"])
    assert texts[0] != texts[1]
    assert "zz" in texts[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [("not json", "line 1: not JSON"), ('{"text": "x"}', 'needs a non-empty text "prompt"'), ("", "holds no prompts")],
)
def test_a_bad_prompt_file_is_named(
    tmp_path: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line)
    assert main(["respond", "--model", "tiny", "--prompts", str(path), "--out", str(tmp_path / "o")]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_model_and_an_adapter_that_is_no_safetensors_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_prompts(tmp_path / "in.jsonl", "one")
    options = ["--prompts", str(prompts), "--out", str(tmp_path / "o")]
    assert main(["respond", "--model", str(tmp_path / "nowhere"), *options]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_model.bin").write_bytes(b"pickle")
    assert main(["respond", "--model", "tiny", "--adapter", str(tmp_path / "a"), *options]) == 2
    assert "only safetensors" in capsys.readouterr().err


def test_an_endpoint_answers_in_order(server: str) -> None:
    progress: list[int] = []
    answers = Endpoint(server).generate(
        ["a", "b", "c"], max_new_tokens=8, temperature=0, seed=1, copies=2, on_batch=progress.append
    )
    assert [[g.text for g in own] for own in answers] == [["echo a"] * 2, ["echo b"] * 2, ["echo c"] * 2]
    assert progress[-1] == 3
    assert Endpoint(server).generate(["a"], max_new_tokens=2, temperature=0, seed=1)[0][0].finish == "length"


def test_an_endpoint_that_fails_is_an_error_with_a_remedy(server: str) -> None:
    with pytest.raises(EndpointError, match="is the server up"):
        Endpoint(server).generate(["fail"], max_new_tokens=8, temperature=0, seed=1)
    with pytest.raises(EndpointError, match="names no model"):
        Endpoint("http://127.0.0.1:1/v1")
