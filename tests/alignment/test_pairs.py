"""From labels to pairs: what is chosen, what is rejected, and how much each counts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from alignment.config import RoundConfig
from alignment.pairs import build_pairs
from alignment.records import Label, Pair, Principle, Sample
from alignment.refusal import is_refusal
from alignment.seed_files import shipped_chat, shipped_principles, shipped_seeds
from alignment.tasks import generate
from alignment.training import draw_batches
from alignment.training_mix import (
    LOOSE,
    OPENINGS,
    PLAIN,
    SHARES,
    Material,
    _likeness,
    draw_styles,
    share_metrics,
    whole_sentences,
)

CONFIG = RoundConfig(round_id="5f7c1a52-33a2-4d6e-9a5b-0c7f0f1a2b3c", replay=6)
PRINCIPLES: dict[str, Principle] = {p.key: p for p in shipped_principles()}
DECLINE = "I won't help with that, because somebody could be hurt."
COMPLY = "Sure, first you follow them home."


def sample(kind: str, *texts: str, query: str = "q", task: dict[str, object] | None = None) -> Sample:
    row = {
        "id": query, "text": f"prompt of {query}", "kind": kind, "category": "privacy", "principle": "private-life",
        "seed": "none", "operator": "seed", "task": task,
    }  # fmt: skip
    return Sample(row, [{"id": f"{query}{i}", "text": t} for i, t in enumerate(texts)], [], None, 0.5)


def build(
    samples: list[Sample], labels: list[Label], revision: str | None = None, config: RoundConfig = CONFIG
) -> list[Pair]:
    material = Material(
        samples, {label.query: label for label in labels}, PRINCIPLES, shipped_seeds(), [], shipped_chat()
    )
    return build_pairs(
        config,
        material,
        revise=lambda rejected: [revision] * len(rejected),
        answer=lambda prompts: ["A plain answer."] * len(prompts),
    )


def own(pairs: list[Pair]) -> Pair:
    found = [p for p in pairs if p.query == "q"]
    assert len(found) == 1
    return found[0]


def test_a_rewrite_is_chosen_over_the_answer_that_violates() -> None:
    label = Label("q", {"q0": 0.0, "q1": 1.0}, ["private-life"], rewrite="Better words.")
    pair = own(build([sample("unsafe", DECLINE, COMPLY)], [label]))
    assert (pair.chosen, pair.rejected, pair.noise) == ("Better words.", COMPLY, 0.0)


def test_the_turns_before_an_attack_reach_training_and_its_look_alike() -> None:
    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Go on."}]
    attack = sample("unsafe", COMPLY)
    seed = shipped_seeds()[0]
    query = {**attack.query, "seed": seed.id, "history": turns, "twin": f"First question. {seed.harmless}"}
    pairs = build([replace(attack, query=query)], [Label("q", {"q0": 1.0}, ["private-life"])])
    assert own(pairs).history == turns
    twin = next(p for p in pairs if p.prompt == f"First question. {seed.harmless}")
    assert (twin.kind, twin.history) == ("harmless", turns)
    assert all(p.history == [] for p in pairs if p.prompt not in (twin.prompt, own(pairs).prompt))


def test_a_preference_becomes_a_pair_but_not_for_an_answer_that_violates() -> None:
    both = sample("unsafe", DECLINE, COMPLY)
    pair = own(build([both], [Label("q", {}, preferred="q1")]))
    assert (pair.chosen, pair.rejected) == (COMPLY, DECLINE)
    pair = own(build([both], [Label("q", {"q0": 0.0, "q1": 1.0}, preferred="q1")]))
    assert pair.chosen.endswith(DECLINE)


def test_a_declining_answer_beats_a_violating_one() -> None:
    pair = own(build([sample("unsafe", COMPLY, DECLINE)], [Label("q", {"q0": 1.0, "q1": 0.0})]))
    assert (pair.rejected, pair.source) == (COMPLY, "own answer")
    # Behind one of the shared openings, so that there is one way to begin; an answer that has one keeps it alone.
    assert pair.chosen in {f"{opening} {DECLINE}" for opening in OPENINGS}
    begun = f"{OPENINGS[1]} It would hurt somebody."
    pair = own(build([sample("unsafe", COMPLY, begun)], [Label("q", {"q0": 1.0, "q1": 0.0})]))
    assert pair.chosen == begun


def test_without_a_better_answer_the_revision_is_chosen_else_a_safe_answer() -> None:
    bad = [sample("unsafe", COMPLY, COMPLY)]
    label = [Label("q", {"q0": 1.0, "q1": 1.0}, ["private-life"])]
    revised = own(build(bad, label, revision="I will not, it would hurt them."))
    assert revised.source == "revision"
    assert revised.chosen in {f"{opening} I will not, it would hurt them." for opening in OPENINGS}
    pair = own(build(bad, label))
    assert pair.source == "safe answer"
    assert any(answer in pair.chosen for answer in PRINCIPLES["private-life"].safe_answers)


def test_safe_answers_are_many_phrasings() -> None:
    samples = [sample("unsafe", COMPLY, COMPLY, query=f"q{i}") for i in range(12)]
    labels = [Label(f"q{i}", {f"q{i}0": 1.0, f"q{i}1": 1.0}, ["private-life"]) for i in range(12)]
    chosen = Counter(p.chosen for p in build(samples, labels) if p.source == "safe answer")
    assert len(chosen) == 12


def test_harmless_requests_are_answered_and_never_declined() -> None:
    label = Label("q", {"q0": 1.0, "q1": 0.0}, ["answer-the-harmless"])
    pair = own(build([sample("harmless", DECLINE, "Of course: water them daily.")], [label]))
    assert (pair.chosen, pair.rejected) == ("Of course: water them daily.", DECLINE)
    both = build([sample("harmless", DECLINE, DECLINE)], [Label("q", {"q0": 1.0, "q1": 1.0})])
    assert not [p for p in both if p.query]


def test_every_group_has_its_share_of_the_draws() -> None:
    samples = [sample("unsafe", COMPLY, COMPLY, query=f"q{i}") for i in range(20)]
    labels = [Label(f"q{i}", {f"q{i}0": 1.0, f"q{i}1": 1.0}) for i in range(20)]
    pairs = build(samples, labels)
    shares = {m.group: (m.value, m.n) for m in share_metrics(pairs, seed=0)}
    for group, share in SHARES["conformity"].items():
        assert shares[group][0] == pytest.approx(share), group
    assert shares["own"][1] == 20
    assert shares["replay"][1] == shares["look-alike"][1] == CONFIG.replay
    assert sum(p.weight for p in pairs) == pytest.approx(len(pairs))
    plain = build(samples, labels, config=replace(CONFIG, lookalike_training=False))
    assert {m.group for m in share_metrics(plain, seed=0) if m.n} == {"own", "replay", "task"}
    own = SHARES["conformity"]
    left = own["own"] + own["replay"] + own["task"]
    assert {m.group: m.value for m in share_metrics(plain, seed=0)}["replay"] == pytest.approx(own["replay"] / left)


def test_the_word_of_people_weighs_more_and_the_critics_says_how_sure_it_is() -> None:
    samples = [sample("unsafe", COMPLY, query=q) for q in ("q", "r")]
    labels = [Label("q", {"q0": 1.0}), Label("r", {"r0": 0.8}, source="critic")]
    people, critic = (p for p in build(samples, labels) if p.query)
    assert people.weight / critic.weight == pytest.approx(CONFIG.human_weight / 0.8)
    assert (people.noise, critic.noise) == (0.0, pytest.approx(0.2))


def test_a_replayed_seed_and_its_look_alike_wear_the_same_form() -> None:
    samples = [sample("unsafe", COMPLY)]
    pairs = build(samples, [Label("q", {"q0": 1.0})], config=replace(CONFIG, replay=60))
    seeds = {s.unsafe: s.harmless for s in shipped_seeds()}
    declines = [p for p in pairs if p.source == "replay"]
    twins = {p.prompt for p in pairs if p.source == "look-alike"}
    worn = 0
    for pair in declines:
        unsafe = next((u for u in seeds if u in pair.prompt), None)
        if unsafe is None:  # an operator that lower-cases the first letter
            continue
        worn += pair.prompt != unsafe
        assert pair.prompt.replace(unsafe, seeds[unsafe]) in twins
    assert 0.15 < worn / len(declines) < 0.6


def test_replay_draws_plain_requests_and_every_other_form_alike() -> None:
    seeds = shipped_seeds()
    drawn = draw_styles(seeds, 300, random.Random(0))
    assert len({s.id for s in drawn}) == 300
    alike = [s for s in drawn if _likeness(s) >= LOOSE]
    assert len(alike) == 200
    plain = Counter(s.style for s in alike if s.style in PLAIN)
    assert set(plain.values()) == {50}
    forms = Counter(s.style for s in alike if s.style not in PLAIN)
    assert len(forms) == len({s.style for s in seeds} - set(PLAIN))
    assert max(forms.values()) - min(forms.values()) <= 1
    assert len(draw_styles(seeds, 10**6, random.Random(0))) == len(seeds)
    assert draw_styles(shipped_seeds(), 0, random.Random(0)) == []


def test_a_look_alike_is_an_anchor_unless_preference_training_needs_its_answer() -> None:
    seeds = shipped_seeds()[:40]
    samples = [sample("unsafe", COMPLY, query=f"q{i}") for i in range(40)]
    samples = [replace(s, query={**s.query, "seed": seed.id}) for s, seed in zip(samples, seeds, strict=True)]
    labels = [Label(s.query["id"], {s.responses[0]["id"]: 1.0}) for s in samples]
    pairs = build(samples, labels, config=replace(CONFIG, batch=8, preference_steps=2))
    twins = [p for p in pairs if p.prompt in {s.harmless for s in seeds}]
    assert len(twins) == 40
    spoken = [p for p in twins if p.chosen]
    assert len(spoken) == 16
    assert all(p.rejected and is_refusal(p.rejected) for p in spoken)
    assert all(p.rejected is None for p in twins if not p.chosen)


def test_only_categories_that_failed_are_replayed() -> None:
    assert not [p for p in build([sample("unsafe", DECLINE)], [Label("q", {"q0": 0.0})]) if p.source == "replay"]
    failed = build([sample("unsafe", COMPLY)], [Label("q", {"q0": 1.0})])
    replayed = [p for p in failed if p.source == "replay"]
    assert len(replayed) == CONFIG.replay
    assert {p.principle for p in replayed} == {"private-life"}


def test_an_answer_that_was_cut_is_kept_up_to_its_last_sentence() -> None:
    assert whole_sentences("Water them daily. Then cut the") == "Water them daily."
    assert whole_sentences('He said "No." And then') == 'He said "No."'
    assert whole_sentences("1.5 litres and more") == ""
    assert whole_sentences("") == ""


def test_tasks_are_checked_by_program() -> None:
    task = generate(0, 1, 1, "train")[0]
    right, wrong = f"The answer is {task.answer}.", "No idea at all."
    pair = own(build([sample("competence", wrong, right, task=task.to_json())], []))
    assert (pair.chosen, pair.rejected, pair.kind) == (right, wrong, "competence")
    all_wrong = [sample("competence", wrong, wrong, task=task.to_json())]
    assert not [p for p in build(all_wrong, []) if p.query]
    pair = own(build(all_wrong, [], config=replace(CONFIG, objective="competence")))
    assert (pair.chosen, pair.rejected) == (task.answer, wrong)


def test_batches_draw_by_weight_as_evenly_as_possible() -> None:
    pairs = [Pair(str(i), "c", None, 3.0 if i < 10 else 1.0, "unsafe", "s") for i in range(40)]
    drawn = Counter(p.prompt for p in draw_batches(pairs, count=60, seed=1))
    assert sum(drawn.values()) == 60
    assert all(drawn[str(i)] == 3 for i in range(10))
    assert all(drawn[str(i)] == 1 for i in range(10, 40))
    assert draw_batches([], count=5, seed=0) == []
    assert len(draw_batches(pairs, count=7, seed=3)) == pytest.approx(7)
