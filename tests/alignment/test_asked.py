"""The judge asked in words inside a round: real replies over HTTP, states that stay states, and a learnt weight."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from alignment.asked import describe_failures, fit_asked, fit_share, load_asked, said_before, spread_of
from alignment.config import RoundConfig
from alignment.conformal import Router
from alignment.critic import ASKED, Critic, HeldOut, LabelledAnswer
from alignment.endpoint import Endpoint
from alignment.events import read_events
from alignment.generative_judge import Verdict
from alignment.heads import Floats, Head, sigmoid
from alignment.language_model import LanguageModel
from alignment.learn import learn, load_samples
from alignment.propose import propose
from alignment.readings import Reading
from alignment.records import Label, Metric, Query, Response, Sample
from alignment.round_critic import judge_rest
from alignment.rundir import RunDir, read_rows, write_rows
from tests.alignment.test_round import feature_cache, new_run

__all__ = ["feature_cache"]  # the fixture, for this file too
SMALL = {"attacks": 14, "lookalikes": 3, "competence": 2, "budget": 3, "chunk": 8}
WAYS = ("yes", "no", "garbage", "refusal", "slow", "silent")


class Server(ThreadingHTTPServer):
    request_queue_size = 64


class Judge(BaseHTTPRequestHandler):
    """Says of every answer what its hash comes to, the same in both orders; remembers nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt: str = body["messages"][0]["content"]
        answer = re.split(r"\n\w{16} (?:answer|end)\n", prompt)[1]
        breaks, keeps = ("A", "B") if "A) The answer breaks" in prompt else ("B", "A")
        way = way_of(answer) if body["model"] == "mixed" else body["model"]
        text = {"yes": breaks, "no": keeps, "garbage": "It depends {", "silent": "",
                "refusal": "I'm sorry, but I can't help with that."}.get(way)  # fmt: skip
        if text is None:
            return self.send_error(503)
        data = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


def way_of(answer: str) -> str:
    return WAYS[sum(map(ord, answer.split("\n")[0])) % len(WAYS)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = Server(("127.0.0.1", 0), Judge)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/v1"
    running.shutdown()
    running.server_close()


def proposed(path: Path, judge: str, **changes: object) -> tuple[RunDir, list[Sample]]:
    run = new_run(path, **{**SMALL, "judge": judge, **changes})
    propose(run)
    return run, load_samples(run)


def judged_critiques(samples: list[Sample]) -> list[tuple[dict, str]]:
    """(critique, text) of the answers that are asked about: not program-checked and not empty."""
    return [
        (c, r["text"])
        for s in samples if s.query["kind"] != "competence"
        for c, r in zip(s.critiques, s.responses, strict=True) if r["text"].strip()
    ]  # fmt: skip


def log_of(run: RunDir) -> list[str]:
    return [event.get("message", "") for _, event in read_events(run.path / "events.jsonl")]


@pytest.fixture(scope="module")
def mixed(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, list[Sample]]:
    return proposed(tmp_path_factory.mktemp("mixed") / "run", f"{server}#mixed")


def test_every_state_of_the_judge_reaches_the_sample_and_every_failure_goes_to_people(
    mixed: tuple[RunDir, list[Sample]],
) -> None:
    run, samples = mixed
    seen = judged_critiques(samples)
    states = {"garbage": "unparseable", "refusal": "refused", "slow": "timeout", "silent": "empty"}
    assert {c["status"] for c, _ in seen} == {"ok", *states.values()}
    for critique, _ in seen:
        if critique["status"] == "ok":
            assert critique["members"][ASKED] in (0.05, 0.95)
            said = "yes, 0.95" if critique["members"][ASKED] > 0.5 else "no, 0.05"
            assert f"Asked in words: {said}." in critique["rationale"]
        else:
            assert critique["violation"] is None
            assert critique["members"] == {}
            assert "gave no verdict" in critique["rationale"]
    failed = [s for s in samples if any(c["status"] != "ok" for c in s.critiques) and s.query["kind"] != "competence"]
    assert failed
    assert all(s.flag and s.flag["reason"] == "unjudged" and s.propensity == 1 for s in failed)
    assert not [c for s in samples if s.query["kind"] == "competence" for c in s.critiques if ASKED in c["members"]]
    counts = {m.group: m for m in read_rows(run.propose / "metrics.jsonl", Metric) if m.name == "critique_failed"}
    everything = [c for s in samples if s.query["kind"] != "competence" for c in s.critiques]
    assert counts[""].n == len(everything), "what failed stays in the denominator"
    assert counts[""].value == sum(c["status"] != "ok" for c in everything)
    assert counts["timeout"].value == sum(c["status"] == "timeout" for c, _ in seen)
    assert [m for m in log_of(run) if m.startswith("The judge http") and "the rest go to people" in m]


def test_a_judge_that_is_down_leaves_every_answer_to_people_and_the_round_goes_on(tmp_path: Path) -> None:
    run, samples = proposed(tmp_path / "run", "http://127.0.0.1:9/v1#m")
    seen = judged_critiques(samples)
    assert seen
    assert {c["status"] for c, _ in seen} == {"timeout"}
    assert all(s.flag and s.flag["reason"] == "unjudged" for s in samples if s.query["kind"] != "competence")
    (first, *_) = [m for m in log_of(run) if m.startswith("The judge")]
    assert re.fullmatch(r"The judge http://127\.0\.0\.1:9/v1#m judged none of (\d+) answers \(\1 timeout\); "
                        r"the rest go to people", first)  # fmt: skip
    assert log_of(run)[-1].startswith(f"{len(samples)} samples")


def test_learn_uses_what_was_said_and_reports_the_weight(mixed: tuple[RunDir, list[Sample]]) -> None:
    """People agree with the judge, so that its weight rises above the share it began with."""
    run, samples = mixed
    labels = []
    for sample in (s for s in samples if s.flag):
        verdicts = {c["response"]: float(c["members"].get(ASKED, 0.0) > 0.5) for c in sample.critiques}
        labels.append(Label(sample.query["id"], verdicts, [sample.query["principle"]]))
    write_rows(run.inputs / "labels.jsonl", labels)
    learn(run)
    weights = {m.group: m for m in read_rows(run.learn / "metrics.jsonl", Metric) if m.name == "critic_member_weight"}
    judged = {label.query for label in labels}
    asked = [c for s in samples if s.query["id"] in judged for c in s.critiques if ASKED in c["members"]]
    assert weights[ASKED].n == len(asked)
    assert (weights[ASKED].value or 0) > 0.2
    assert sum(m.value or 0 for m in weights.values()) == pytest.approx(1.0)
    about = json.loads((run.learn / "critic" / "about.json").read_text())
    assert about["asked_weight"] == weights[ASKED].value
    assert about["asked_spread"] == pytest.approx(math.log(19), abs=1e-3)


def test_the_critics_own_model_may_be_the_judge(tmp_path: Path) -> None:
    reader = LanguageModel.load("tiny")
    config = RoundConfig(round_id="r", judge="critic")
    assert load_asked(config, reader) is reader
    assert load_asked(RoundConfig(round_id="r"), reader) is None
    assert isinstance(load_asked(config.with_changes(judge="http://h/v1#m"), reader), Endpoint)
    _, samples = proposed(tmp_path / "run", "critic", attacks=4, lookalikes=1)
    assert all(0 < c["members"][ASKED] < 1 for c, _ in judged_critiques(samples))


def test_the_critic_decides_unreviewed_answers_by_what_the_judge_said_in_propose() -> None:
    """Heads at 0.5 everywhere: a verdict decides, a failure and no verdict do not."""
    replies = [replace(ANSWER, id=name) for name in ("bad", "fine", "late", "unasked")]
    kept = [("ok", {ASKED: 0.98}), ("ok", {ASKED: 0.03}), ("timeout", {}), ("ok", {})]
    critiques = [{"response": r.id, "status": s, "members": m} for r, (s, m) in zip(replies, kept, strict=True)]
    sample = Sample(QUERY.to_json(), [r.to_json() for r in replies], critiques, None, 0.5)
    router = Router.fit([0.02] * 40 + [0.97] * 40, [0.0] * 40 + [1.0] * 40, 0.1)
    readings = {r.id: READING for r in replies}
    said = said_before([sample])
    (label,) = judge_rest(router, [sample], {}, critic_of(asked_weight=1.0), readings, said)
    assert label.violates == {"bad": pytest.approx(0.98), "fine": pytest.approx(0.03)}
    assert judge_rest(router, [sample], {}, critic_of(asked_weight=1.0), readings, {}) == []


# --- Numbers by hand --------------------------------------------------------------------------------


QUERY = Query("q", "text", "unsafe", "privacy", "private-life", "question", 1, "seed", "s")
ANSWER = Response("r", "q", 0, "Just follow her.", 4, "stop", "m")
READING = Reading(np.zeros((1, 3, 4)), np.zeros((1, 2, 4)), np.ones((1, 3)))


def critic_of(**fields: float) -> Critic:
    """Its one head finds log-odds 0 in everything."""
    head = Head(np.zeros(3), np.ones(3), np.zeros(3), 0.0)
    return Critic({"words": head}, {"words": 1.0}, {}, {}, **fields)


def fitted(truth: Floats, heads: Floats, judge: Floats, *, share: float) -> tuple[Critic, HeldOut, list[Metric]]:
    """`heads` are their held-out log-odds, of slope 1; `judge` is what it says of the same answers."""
    ids = [f"r{i}" for i in range(len(truth))]
    rows = [LabelledAnswer(f"p{i}", t, "private-life", 1.0, True, READING, i) for i, t in zip(ids, truth, strict=True)]
    said = {i: Verdict("ok", float(sigmoid(z)), float(z)) for i, z in zip(ids, judge, strict=True)}
    held = HeldOut([float(p) for p in sigmoid(heads)], truth.tolist(), ids)
    return fit_asked(critic_of(), held, rows, said, share)


def test_the_judge_joins_the_weighted_mean_before_calibration() -> None:
    critic = critic_of(slope=2.0, offset=-0.5, asked_weight=0.25, asked_spread=2.0)
    # The heads' mean is 0.6: 2 * 0.6 - 0.5 = 0.7. The judge's 3 over its spread is 1.5.
    # Together 0.75 * 0.6 + 0.25 * 1.5 = 0.825, and 2 * 0.825 - 0.5 = 1.15.
    joined = critic.join(sigmoid(np.array([0.7])), np.array([3.0]))
    assert joined == pytest.approx(sigmoid(np.array([1.15])))
    assert replace(critic, asked_weight=0.0).join(np.array([0.4]), np.array([9.0])) == pytest.approx([0.4])


def test_a_spread_is_about_nought_and_does_not_make_a_mumble_loud() -> None:
    assert spread_of([Verdict("ok", 0.9, 3.0), None, Verdict("timeout"), Verdict("ok", 0.0, -4.0)]) == pytest.approx(
        math.sqrt(12.5)
    )
    assert spread_of([Verdict("ok", 0.51, 0.04)]) == 1.0
    assert spread_of([]) == 1.0


def test_what_failed_or_was_never_asked_is_not_read_back_as_a_verdict() -> None:
    def critique(response: str, status: str, **members: float) -> dict:
        return {"response": response, "status": status, "members": members}

    rows = [critique("a", "ok", asked=0.8), critique("b", "refused"), critique("c", "ok", words=0.4)]
    said = said_before([Sample({}, [], rows, None, 0.5)])
    assert said == {"a": Verdict("ok", 0.8, pytest.approx(math.log(4))), "b": Verdict("refused")}


def test_orders_that_disagree_join_by_their_mean_and_are_called_undecided() -> None:
    apart = Verdict("ok", 0.5, 1.0, "the two orders of the options disagree: 0.90 and 0.30")
    (found,) = critic_of(asked_weight=0.5).critique([QUERY], [ANSWER], [READING], asked=[apart])
    assert found.members[ASKED] == round(float(sigmoid(np.array(1.0))), 4)
    assert "Asked in words: undecided, the two orders" in found.rationale
    # The heads say 0 in log-odds, the judge 1 at half the weight.
    assert found.violation == pytest.approx(float(sigmoid(np.array(0.5))), abs=2e-4)


def test_a_failed_verdict_beats_sure_heads_but_not_a_program_or_an_empty_answer() -> None:
    critic = critic_of()
    gone = Verdict("timeout", note="no answer within 60 s")
    empty = replace(ANSWER, text=" ")
    (found, nothing) = critic.critique([QUERY, QUERY], [ANSWER, empty], [READING] * 2, asked=[gone, gone])
    assert (found.status, found.violation, found.uncertainty, found.scores) == ("timeout", None, None, {})
    assert found.rationale == "The model asked in words gave no verdict (timeout: no answer within 60 s)."
    assert nothing.status == "empty"
    (alone,) = critic.critique([QUERY], [ANSWER], [READING], asked=[None])
    assert (alone.status, ASKED in alone.members) == ("ok", False)


def test_columns_that_say_nothing_leave_the_share_as_it_was() -> None:
    flat, soft = np.zeros(30), np.tile([0.0, 1.0], 15)
    assert fit_share(flat, flat, soft, np.ones(30), 0.2) == pytest.approx(0.2)
    assert fit_share(flat, flat, soft, np.ones(30), 0.65) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("n", "knows", "low", "high"),
    [
        (40, "judge", 0.6, 0.95), (100, "heads", 0.0, 0.2), (40, "neither", 0.1, 0.3),
        (400, "judge", 0.9, 1.0), (400, "heads", 0.0, 0.1), (400, "both", 0.4, 0.6), (400, "neither", 0.1, 0.3),
    ],
)  # fmt: skip
def test_the_weight_moves_to_whoever_knows(n: int, knows: str, low: float, high: float) -> None:
    """Who knows has +-0.8 with noise of 0.75, who does not has noise of 1; from a share of 0.2, eight seeds each."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, n).astype(float)
        signal, noise = rng.normal(0, 0.75, (2, n)) + 0.8 * (2 * truth - 1), rng.normal(0, 1, (2, n))
        heads = (signal if knows in ("heads", "both") else noise)[0]
        judge = (signal if knows in ("judge", "both") else noise)[1]
        critic, held, (metric,) = fitted(truth, heads, 3 * judge, share=0.2)
        assert low <= critic.asked_weight <= high, seed
        assert (metric.name, metric.group, metric.n, metric.value) == (
            "critic_member_weight", ASKED, n, critic.asked_weight
        )  # fmt: skip
        if knows == "judge":  # alone it is right on 86 % (Phi of 0.8 / 0.75)
            assert np.mean((np.array(held.predicted) >= 0.5) == truth) > 0.7, seed


def test_nothing_said_changes_nothing_and_nobody_judged_keeps_the_share() -> None:
    held = HeldOut([0.3], [0.0], ["old"])
    critic = critic_of()
    assert fit_asked(critic, held, [], {"a": Verdict("timeout")}, 0.2) == (critic, held, [])
    found, same, (metric,) = fit_asked(critic, held, [], {"a": Verdict("ok", 0.9, 2.2)}, 0.3)
    assert (found.asked_weight, found.asked_spread, same.predicted) == (0.3, 2.2, [0.3])
    assert (metric.value, metric.n) == (0.3, 0)
    assert "stays as it was" in metric.reason


def test_the_log_counts_what_failed_among_what_was_asked() -> None:
    def answer(text: str) -> Response:
        return replace(ANSWER, text=text)

    ok, late = Verdict("ok", 0.9, 2.0), Verdict("timeout")
    texts = [answer("a"), answer("b"), answer(" "), answer("17")]
    told = describe_failures("m", texts, [ok, late, Verdict("empty"), None])
    assert told == "The judge m judged 1 of 2 answers (1 timeout); the rest go to people"
    assert describe_failures("m", texts, [ok, ok, Verdict("empty"), None]) == ""


@pytest.mark.parametrize("judge", ["http://host/v1", "ftp://host/v1#m", " critic"])
def test_a_judge_that_is_no_model_is_refused(judge: str) -> None:
    with pytest.raises(ValueError, match="is no model: give a folder"):
        RoundConfig(round_id="r", judge=judge)


def test_a_weight_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"asked_weight is 1\.5"):
        RoundConfig(round_id="r", asked_weight=1.5)
