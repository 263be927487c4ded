"""The critic's heads, its calibration and what it says; hand-made features, so that the truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignment.critic import LabelledAnswer, fit_critic
from alignment.heads import Basis, fit_coefficients, fit_head, fit_platt, load_heads, save_heads, sigmoid
from alignment.language_model import Features, LanguageModel, middle_layers
from alignment.records import Principle, Query, Response

PRINCIPLES = [
    Principle("private-life", "conformity", "Private life", "text"),
    Principle("no-weapons-help", "conformity", "No weapons", "text"),
    Principle("right-arithmetic", "competence", "Sums", "text"),
]


def features(value: float, rng: np.random.Generator, sentences: tuple[float, ...] = ()) -> Features:
    """Three layers of width 8; the first coordinate of each carries `value`, the rest is noise."""

    def layer(v: float) -> np.ndarray:
        noise = rng.normal(0, 1, (3, 8))
        noise[:, 0] = v + rng.normal(0, 0.3, 3)
        return noise

    spans = [(10 * i, 10 * i + 9) for i in range(len(sentences))]
    own = np.stack([layer(s) for s in sentences]) if sentences else np.zeros((0, 3, 8))
    return Features(layer(value), layer(0.0), spans, own)


def rows(n: int, seed: int = 0) -> list[LabelledAnswer]:
    rng = np.random.default_rng(seed)
    keys = ("private-life", "no-weapons-help")
    return [
        LabelledAnswer(f"prompt {i}", float(i % 2), keys[(i // 2) % 2], 1.0, True, features(2.0 * (i % 2) - 1, rng))
        for i in range(n)
    ]


def query(kind: str = "unsafe", **more: object) -> Query:
    return Query("q", "text", kind, "privacy", "private-life", "question", 1, "seed", "s", **more)  # type: ignore[arg-type]


def test_head_matches_the_plain_fit_in_all_coordinates() -> None:
    """The rotation to N coordinates is exact: the same probabilities as the fit in all D coordinates."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 100)), np.arange(30) % 2.0
    z = (x - x.mean(0)) / x.std(0)
    coef, bias = fit_coefficients(z, y, np.ones(30), strength=0.1)
    direct = sigmoid(z @ coef + bias)
    assert np.allclose(fit_head(x, y, np.ones(30), strength=0.1).probability(x), direct, atol=2e-3)
    assert Basis.of(x).rotate(x).shape == (30, 30)


def test_one_class_only_is_unsure_and_not_certain() -> None:
    head = fit_head(np.random.default_rng(0).normal(size=(8, 4)), np.ones(8), np.ones(8))
    assert np.allclose(head.probability(np.zeros((1, 4))), 9 / 10)


def test_soft_labels_count_on_both_sides() -> None:
    """Four rows at x = 1 with P 0.75 and four at x = -1 with P 0.25: the unpenalised fit gives back 0.75 and 0.25."""
    x = np.array([[1.0]] * 4 + [[-1.0]] * 4)
    soft = np.array([0.75] * 4 + [0.25] * 4)
    head = fit_head(x, soft, np.ones(8), strength=1e6)
    assert head.probability(np.array([[1.0], [-1.0]])) == pytest.approx([0.75, 0.25], abs=1e-3)


def test_platt_restores_the_base_rate() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(4000) < 0.2).astype(float)
    logit = 3 * (truth - 0.5) + rng.normal(0, 1, 4000)
    slope, offset = fit_platt(logit, truth, np.ones(4000))
    assert sigmoid(slope * logit + offset).mean() == pytest.approx(0.2, abs=0.03)


def test_critic_separates_what_it_was_shown_and_reports_only_peoples_rows() -> None:
    critic, held_out = fit_critic(rows(120), PRINCIPLES, seed=0)
    rng = np.random.default_rng(9)
    bad, good = [features(1.0, rng) for _ in range(50)], [features(-1.0, rng) for _ in range(50)]
    assert critic.probability(bad).mean() > 0.65
    assert critic.probability(good).mean() < 0.35
    assert critic.size == 6
    assert len(held_out.predicted) == 120
    mixed = [replace(row, human=i < 30) for i, row in enumerate(rows(120))]
    assert len(fit_critic(mixed, PRINCIPLES, seed=0)[1].predicted) == 30


def test_critique_names_members_principle_and_the_sentence() -> None:
    critic, _ = fit_critic(rows(120), PRINCIPLES, seed=0)
    text = "first one. second on. third one."
    answer = Response("r", "q", 0, text, 8, "stop", "m")
    seen = features(1.0, np.random.default_rng(3), sentences=(-2.0, 3.0, -2.0))
    critique = critic.critique([query()], [answer], [seen])[0]
    assert critique.status == "ok"
    assert critique.violation is not None
    assert critique.violation >= 0.5
    assert critique.span == [10, 19]
    assert "Private life" in critique.rationale
    assert "6 members" in critique.rationale
    assert set(critique.scores) == {"private-life", "no-weapons-help"}


def test_an_empty_answer_is_a_state_of_its_own() -> None:
    critic, _ = fit_critic(rows(40), PRINCIPLES, seed=0)
    empty = Response("r", "q", 0, "  ", 0, "stop", "m")
    critique = critic.critique([query()], [empty], [features(0.0, np.random.default_rng(0))])[0]
    assert (critique.status, critique.violation, critique.uncertainty) == ("empty", None, None)


def test_refusing_a_harmless_lookalike_is_seen_as_a_fault() -> None:
    critic, _ = fit_critic(rows(40), PRINCIPLES, seed=0)
    refusal = Response("r", "q", 0, "I'm sorry, but I can't help with that.", 9, "stop", "m")
    critique = critic.critique([query("harmless")], [refusal], [features(-1.0, np.random.default_rng(0))])[0]
    assert critique.principle == "answer-the-harmless"
    assert critique.violation == 0.9


def test_heads_survive_the_disk(tmp_path: Path) -> None:
    critic, _ = fit_critic(rows(40), PRINCIPLES, seed=0)
    save_heads(tmp_path, critic.members, {"n": 40})
    x = np.random.default_rng(0).normal(size=(5, 8))
    back = load_heads(tmp_path)
    assert back["layer 1"].probability(x) == pytest.approx(critic.members["layer 1"].probability(x))
    with pytest.raises(ValueError, match=r"heads\.safetensors is missing"):
        load_heads(tmp_path / "none")


def test_features_of_a_real_model_have_sentences_and_survive_unicode() -> None:
    model = LanguageModel.load("tiny")
    text = "Grüße 👋 an alle. مرحبا بكم! End"
    one, empty = model.features(["Hi", "Hi"], [text, ""], layers=middle_layers(model.layers))
    assert one.mean_KD.shape == (3, 48)
    assert [text[a:b] for a, b in one.spans] == ["Grüße 👋 an alle.", "مرحبا بكم!", "End"]
    assert not empty.mean_KD.any()
    alone = model.features(["Hi"], [text], layers=middle_layers(model.layers))[0]
    # Padding must not leak into the states: batched and alone agree.
    assert np.allclose(alone.mean_KD, one.mean_KD, atol=1e-5)


def test_generation_is_the_same_for_a_seed_and_keeps_order() -> None:
    model = LanguageModel.load("tiny")
    prompts = ["a longer prompt than the other one", "b", "c"]
    options = {"max_new_tokens": 6, "temperature": 0.9, "seed": 5, "copies": 2}
    first = model.generate(prompts, **options)  # type: ignore[arg-type]
    assert first == model.generate(prompts, **options)  # type: ignore[arg-type]
    assert [len(own) for own in first] == [2, 2, 2]
    assert all(g.tokens <= 6 for own in first for g in own)
