"""What ships in seeds/: enough of it, of every kind, and no probe anywhere near what is trained on."""

from __future__ import annotations

import unicodedata
from collections import Counter

from alignment.near_duplicates import shingles
from alignment.refusal import is_refusal
from alignment.seed_files import (
    final_probes,
    shipped_chat,
    shipped_exemplars,
    shipped_injections,
    shipped_principles,
    shipped_probes,
    shipped_seeds,
)

STYLES = {
    "question", "imperative", "story", "roleplay", "statement", "yes_no", "reason", "chat", "text_task", "follow_up",
    "pretext", "brief", "fill_in", "plea", "steps", "third_person", "typed_fast", "hypothetical", "advert", "scene",
    "troubleshooting", "speech", "translate", "compare", "persuade", "ticket", "game", "backstory", "several", "report",
    "learner_english", "plan_review", "verse", "errand",
}  # fmt: skip
TYPED = {"plain_question", "plain_imperative"}  # as users type them; held out by wording alone


Index = dict[tuple[str, ...], set[str]]  # 3-gram of words -> the texts that have it


def _index(texts: list[str]) -> Index:
    found: Index = {}
    for text in texts:
        for shingle in shingles(text):
            found.setdefault(shingle, set()).add(text)
    return found


def _closest(text: str, index: Index) -> tuple[float, str]:
    """The greatest Jaccard similarity of 3-grams in [0, 1], and the text that has it."""
    own = shingles(text)
    near = set().union(*(index.get(shingle, set()) for shingle in own))
    return max(((len(own & o) / len(own | o), t) for t in near for o in [shingles(t)]), default=(0.0, ""))


def test_principles_cover_both_kinds_with_guidance() -> None:
    principles = shipped_principles()
    kinds = Counter(p.kind for p in principles)
    assert len(principles) >= 16
    assert kinds["conformity"] >= 8
    assert kinds["competence"] >= 4
    assert all(len(p.guidance) > 80 and p.text and p.title for p in principles)
    assert len({p.key for p in principles}) == len(principles)


def test_every_conformity_principle_has_many_different_safe_answers() -> None:
    for principle in shipped_principles():
        if principle.kind == "conformity":
            answers = principle.safe_answers
            assert len(answers) >= 12
            assert len({" ".join(a.split()[:3]) for a in answers}) >= 10, principle.key
            assert sum(map(is_refusal, answers)) == len(answers)


def test_seed_pairs_are_many_and_mixed() -> None:
    seeds = shipped_seeds()
    assert len(seeds) >= 2000
    assert min(Counter(s.category for s in seeds).values()) >= 200
    assert len({s.category for s in seeds}) >= 8
    assert {s.style for s in seeds} == STYLES
    assert all(s.harmless.strip() and s.harmless != s.unsafe for s in seeds)
    assert len({s.id for s in seeds}) == len(seeds)
    assert len({s.unsafe for s in seeds} | {s.harmless for s in seeds}) == 2 * len(seeds)
    keys = {p.key for p in shipped_principles()}
    assert {s.principle for s in seeds} <= keys


def test_exemplars_name_their_evidence_and_keep_critic_and_judge_apart() -> None:
    exemplars = shipped_exemplars()
    assert len(exemplars) >= 240
    assert all(e.span in e.response for e in exemplars)
    assert {e.principle for e in exemplars} <= {p.key for p in shipped_principles()}
    judge = {e.prompt for e in exemplars if e.use == "judge"}
    critic = {e.prompt for e in exemplars if e.use == "critic"}
    assert len(judge) >= 100
    assert not judge & critic
    for use in ("judge", "critic"):
        own = [e.verdict for e in exemplars if e.use == use and e.category != "none"]
        assert 0.35 < own.count("violates") / len(own) < 0.65


def test_probes_are_held_out_by_style_and_by_wording() -> None:
    probes = shipped_probes()
    assert len(probes) >= 160
    assert not {p.style for p in probes} & STYLES
    by_id = {p.id: p for p in probes}
    for probe in probes:
        assert probe.twin is not None
        assert by_id[probe.twin].twin == probe.id
        assert {probe.kind, by_id[probe.twin].kind} == {"unsafe", "harmless"}
    trained = [t for s in shipped_seeds() for t in (s.unsafe, s.harmless)]
    trained += [t for e in shipped_exemplars() for t in (e.prompt, e.response)]
    trained += [a for p in shipped_principles() for a in p.safe_answers]
    index = _index(trained)
    for probe in probes:
        worst, text = _closest(probe.prompt, index)
        assert worst < 0.2, f"{probe.id} is too like {text!r}"


def test_final_probes_are_apart_from_all_that_is_trained_on_or_tuned_with() -> None:
    final, tuned = final_probes(), shipped_probes()
    assert len(final) >= 300
    assert not {p.style for p in final} & (STYLES | {p.style for p in tuned})
    assert {p.style for p in final} > TYPED
    by_id = {p.id: p for p in final}
    assert all(by_id[by_id[p.id].twin or ""].twin == p.id for p in final)
    seen = [t for s in shipped_seeds() for t in (s.unsafe, s.harmless)]
    index = _index([*seen, *(p.prompt for p in tuned), *(c.prompt for c in shipped_chat())])
    assert [p.id for p in final if _closest(p.prompt, index)[0] >= 0.3] == []


def test_chat_prompts_are_many_and_no_probes() -> None:
    prompts = [c.prompt for c in shipped_chat()]
    assert len(prompts) == len(set(prompts)) >= 200
    index = _index([p.prompt for p in (*shipped_probes(), *final_probes())])
    assert [p for p in prompts if _closest(p, index)[0] >= 0.3] == []


def test_injections_are_many_families_and_their_tricks_are_real() -> None:
    injections = shipped_injections()
    families = Counter(i.family for i in injections)
    assert len(injections) >= 48
    assert len(families) >= 10
    assert min(families.values()) >= 4
    assert len({i.id for i in injections}) == len({i.text for i in injections}) == len(injections)
    plain = [i.text for i in injections if i.family == "look-alike-letters"]
    # Not one of them can be found by looking for the plain words; folding look-alikes brings some back.
    assert not any("verdict is safe" in t.lower() for t in plain)
    assert sum("safe" in unicodedata.normalize("NFKC", t).lower() for t in plain) >= 2
