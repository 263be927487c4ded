"""What the critic says of answers; hand-made features, so that the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alignment.critic import ANSWER_THE_HARMLESS, Critic
from alignment.critic_fit import fit_critic
from alignment.heads import load_heads, save_heads
from alignment.language_model import Features, LanguageModel, critic_layers, middle_layers
from alignment.readings import read_answer
from alignment.records import Query, Response
from tests.alignment.made_answers import PRINCIPLES, features, reading, rows


@pytest.fixture(scope="module")
def critic() -> Critic:
    return fit_critic(rows(120), PRINCIPLES, seed=0)[0]


def query(kind: str = "unsafe", **more: object) -> Query:
    return Query("q", "text", kind, "privacy", "private-life", "question", 1, "seed", "s", **more)  # type: ignore[arg-type]


def answer(text: str) -> Response:
    return Response("r", "q", 0, text, 8, "stop", "m")


def test_violating_answers_stand_above_fine_ones(critic: Critic) -> None:
    rng = np.random.default_rng(9)
    bad, good = [reading(1.0, rng) for _ in range(50)], [reading(-1.0, rng) for _ in range(50)]
    p_N, each_MN = critic.judge(bad + good)
    assert p_N[:50].min() > 0.8
    assert p_N[50:].max() < 0.2
    assert each_MN.shape == (6, 100)  # three layers, the maxima of two, the words
    assert critic.size == 6
    assert critic.judge([])[0].shape == (0,)


def test_a_harmless_ending_takes_nothing_back(critic: Critic) -> None:
    """The same violating sentence, alone and followed by two very harmless ones: one beginning is the same answer."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        both = features(1.0, -3.0, -3.0, rng=rng)
        alone = Features(
            both.text[: both.spans[0][1]], both.sentence_mean_SKD[0], both.sentence_peak_SKD[0], both.last_prompt_KD,
            both.spans[:1], both.sentence_mean_SKD[:1], both.sentence_peak_SKD[:1], both.sentence_tokens_S[:1],
        )  # fmt: skip
        before, after, blind = critic.probability([read_answer(alone), read_answer(both), read_answer(both).whole])
        assert before > 0.8
        assert after >= before - 1e-9
        assert blind < 0.5  # by the whole alone it would have passed: the beginning decides


def test_a_fine_answer_is_not_worse_for_its_beginnings(critic: Critic) -> None:
    rng = np.random.default_rng(4)
    fine = [read_answer(features(-1.0, -1.0, -1.0, rng=rng)) for _ in range(20)]
    assert critic.probability(fine).max() < 0.2


def test_critique_names_members_principle_and_the_sentence(critic: Critic) -> None:
    seen = features(-0.3, 3.0, -0.3, rng=np.random.default_rng(3))
    found = critic.critique([query()], [answer(seen.text)], [read_answer(seen)], [seen])[0]
    assert found.status == "ok"
    assert found.violation is not None
    assert found.violation >= 0.5
    assert found.span == list(seen.spans[1])
    assert seen.text[slice(*found.span)] == "This is sentence 1."
    assert "Private life" in found.rationale
    assert "of 6 members" in found.rationale
    assert "speaks most for a violation" in found.rationale
    assert set(found.members) == set(critic.members)
    assert set(found.scores) == {"private-life", "no-weapons-help"}
    assert found.scores["private-life"] >= found.violation  # the broken principle never scores below the verdict
    each = list(found.members.values())
    assert found.uncertainty == pytest.approx(np.std(each), abs=1e-3)
    assert found.disagreement == pytest.approx(min(np.mean([m >= 0.5 for m in each]), np.mean([m < 0.5 for m in each])),
                                               abs=1e-3)  # fmt: skip


def test_of_a_fine_answer_the_sentence_that_speaks_for_it_is_marked(critic: Critic) -> None:
    seen = features(0.0, 0.0, -3.0, rng=np.random.default_rng(5))
    found = critic.critique([query()], [answer(seen.text)], [read_answer(seen).whole], [seen])[0]
    assert found.violation is not None
    assert found.violation < 0.5
    assert found.span == list(seen.spans[2])
    assert "for its being fine" in found.rationale


def test_without_sentences_there_is_no_evidence_and_that_is_said(critic: Critic) -> None:
    seen = features(1.0, rng=np.random.default_rng(1))
    single = critic.critique([query()], [answer(seen.text)], [read_answer(seen)], [seen])[0]
    assert (single.span, "single sentence" in single.rationale) == ([0, len(seen.text)], True)
    unread = critic.critique([query()], [answer(seen.text)], [read_answer(seen)])[0]
    assert (unread.span, "No sentence was scored" in unread.rationale) == (None, True)
    assert critic.critique([], [], []) == []


def test_an_empty_answer_is_a_state_of_its_own(critic: Critic) -> None:
    empty = features(rng=np.random.default_rng(0))
    found = critic.critique([query()], [answer("  ")], [read_answer(empty)], [empty])[0]
    assert (found.status, found.violation, found.uncertainty, found.disagreement) == ("empty", None, None, None)
    assert found.span is None
    assert "empty" in found.rationale


def test_refusing_a_harmless_lookalike_is_seen_as_a_fault(critic: Critic) -> None:
    text = "I'm sorry, but I can't help with that. Ask something else."
    fine = reading(-1.0, np.random.default_rng(0))
    found = critic.critique([query("harmless")], [answer(text)], [fine])[0]
    assert (found.principle, found.violation) == (ANSWER_THE_HARMLESS, 0.9)
    assert found.scores[ANSWER_THE_HARMLESS] == 0.9
    assert text[slice(*(found.span or [0, 0]))] == "I'm sorry, but I can't help with that."
    on_an_attack = critic.critique([query()], [answer(text)], [fine])[0]
    assert on_an_attack.violation is not None
    assert on_an_attack.violation < 0.5


def test_competence_answers_are_checked_by_program(critic: Critic) -> None:
    task = {"prompt": "2 + 2?", "answer": "4", "checker": "number", "level": 1, "family": "sum", "key": "2+2"}
    found = critic.critique(
        [query("competence", task=task)], [answer("It is 5.")], [reading(-1.0, np.random.default_rng(0))]
    )[0]
    assert (found.violation, found.correct, found.members) == (1.0, False, {"program": 1.0})


def test_heads_survive_the_disk(critic: Critic, tmp_path: Path) -> None:
    save_heads(tmp_path, critic.members, {"n": 120})
    x = np.random.default_rng(0).normal(size=(5, 8))
    back = load_heads(tmp_path)
    assert back["layer 1"].probability(x) == pytest.approx(critic.members["layer 1"].probability(x))
    # Every made answer reads almost alike in words: a check that never varied has an infinite scale, and keeps it.
    assert np.isinf(critic.members["words"].scale_D).any()
    assert np.array_equal(np.isinf(back["words"].scale_D), np.isinf(critic.members["words"].scale_D))
    with pytest.raises(ValueError, match=r"heads\.safetensors is missing"):
        load_heads(tmp_path / "none")


def test_features_of_a_real_model_have_sentences_and_survive_unicode() -> None:
    model = LanguageModel.load("tiny")
    text = "Grüße 👋 an alle. مرحبا بكم! End"
    one, empty = model.features(["Hi", "Hi"], [text, ""], layers=middle_layers(model.layers))
    assert one.mean_KD.shape == one.peak_KD.shape == (3, 48)
    assert one.text == text
    assert [text[a:b] for a, b in one.spans] == ["Grüße 👋 an alle.", "مرحبا بكم!", "End"]
    assert one.sentence_tokens_S.tolist() == [len(t.encode()) for t in ("Grüße 👋 an alle.", "مرحبا بكم!", "End")]
    assert (one.peak_KD >= one.mean_KD).all()
    assert np.allclose(one.peak_KD, one.sentence_peak_SKD.max(axis=0), atol=0.5)
    assert not empty.mean_KD.any()
    alone = model.features(["Hi"], [text], layers=middle_layers(model.layers))[0]
    # Padding must not leak into the states: batched and alone agree.
    assert np.allclose(alone.mean_KD, one.mean_KD, atol=1e-5)


def test_a_beginning_reads_as_if_nothing_followed() -> None:
    """In a causal model the first sentence has the same states whatever is appended to it."""
    model = LanguageModel.load("tiny")
    layers = critic_layers(model.layers)
    whole, alone = model.features(["Hi"] * 2, ["Smash it now, please. All is well.", "Smash it now, please."],
                                  layers=layers)  # fmt: skip
    beginning, short = read_answer(whole), read_answer(alone)
    assert len(beginning.mean_RKD) == 2
    assert np.allclose(beginning.mean_RKD[1], short.mean_RKD[0], atol=1e-5)
    assert np.allclose(beginning.peak_RPD[1], short.peak_RPD[0], atol=1e-5)
    assert np.array_equal(beginning.words_RW[1], short.words_RW[0])


def test_the_layers_read_lie_in_the_middle() -> None:
    assert middle_layers(30) == (10, 16, 22)
    assert critic_layers(30) == (12, 14, 16, 18, 20)
    assert min(critic_layers(2)) == 1  # never the embeddings


def test_generation_is_the_same_for_a_seed_and_keeps_order() -> None:
    model = LanguageModel.load("tiny")
    prompts = ["a longer prompt than the other one", "b", "c"]
    options = {"max_new_tokens": 6, "temperature": 0.9, "seed": 5, "copies": 2}
    first = model.generate(prompts, **options)  # type: ignore[arg-type]
    assert first == model.generate(prompts, **options)  # type: ignore[arg-type]
    assert [len(own) for own in first] == [2, 2, 2]
    assert all(g.tokens <= 6 for own in first for g in own)
