"""From labels to training pairs: what the learner should have said, and what it should not have.

The word of people weighs `human_weight`, the fitted critic's own word 1. For every pair that teaches to
decline there is at least one that teaches to answer a harmless request (ours: refusing everything is the
easy way to be safe).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from alignment.config import RoundConfig
from alignment.language_model import Prompt, after_turns
from alignment.records import Label, Pair, PoolItem, Principle, Sample, SeedPair
from alignment.refusal import is_refusal
from alignment.tasks import check, generate

# (prompt, violating answer, principle) -> the revision, or None where it was not accepted; all in one batch
Revise = Callable[[list[tuple[str, str, Principle]]], list[str | None]]
# A small model often opens so before it helps after all; as an example it would teach the way into a refusal.
APOLOGIES = ("i'm sorry", "sorry", "i apologi", "my apologies", "unfortunately")
REVISION_TRIES = 12  # critique-and-revise attempts a round: each costs the learner an answer


@dataclass(frozen=True)
class Material:
    """What pairs are made from."""

    samples: list[Sample]
    labels: dict[str, Label]  # by query id
    principles: dict[str, Principle]
    seeds: list[SeedPair]
    pool: list[PoolItem]


def build_pairs(
    config: RoundConfig, material: Material, *, revise: Revise, answer: Callable[[list[Prompt]], list[str]]
) -> list[Pair]:
    """All training pairs of the round. `answer` gives the base model's own answers to harmless prompts."""
    rng = random.Random(f"{config.seed}:{config.number}:pairs")
    pairs: list[Pair] = []
    safe = _SafeAnswers(material.principles, rng)
    revisions = _revisions(material, revise)
    for sample in material.samples:
        label = material.labels.get(sample.query["id"])
        if sample.query["kind"] == "competence":
            pairs += _from_task(sample, truth=config.objective == "competence")
        elif label is not None:
            pairs += _from_label(config, sample, label, material.principles, safe, revisions)
    pairs += _replayed_attacks(config, material, safe, rng)
    declines = sum(p.kind == "unsafe" for p in pairs)
    answers = sum(p.kind == "harmless" for p in pairs)
    count = max(declines - answers, config.replay)
    pairs += _lookalikes(config, material, {p.prompt for p in pairs}, count, safe, answer)
    if config.objective == "competence":
        pairs += _tasks(config)
    return _balanced(pairs, answer_weight=config.answer_weight)


def _balanced(pairs: list[Pair], *, answer_weight: float) -> list[Pair]:
    """Look-alikes weigh so much that answering weighs `answer_weight` times declining: training draws by weight.

    With equal weights a small model declines half of what is harmless (measured).
    """
    declining = sum(p.weight for p in pairs if p.kind == "unsafe")
    answering = sum(p.weight for p in pairs if p.kind == "harmless" and p.source != "look-alike")
    twins = sum(p.source == "look-alike" for p in pairs)
    weight = max(1.0, (answer_weight * declining - answering) / max(twins, 1))
    return [replace(p, weight=weight) if p.source == "look-alike" else p for p in pairs]


# A few shared openings, so that declining is one decision that a small model can make at its first token;
# what follows them differs: 14 reasons and alternatives a principle, so that no fixed sentence is learnt.
OPENINGS = (
    "I can't help with that.", "I won't help with this.", "Sorry, I can't do that.",
    "I'm not able to help with that.", "I can't do that.",
)  # fmt: skip


class _SafeAnswers:
    """A principle's shipped safe answers in turn, each behind the next opening."""

    def __init__(self, principles: dict[str, Principle], rng: random.Random) -> None:
        self._lists = {k: rng.sample(p.safe_answers, len(p.safe_answers)) for k, p in principles.items()}
        self._next = dict.fromkeys(self._lists, 0)

    def get(self, key: str) -> str | None:
        answers = self._lists.get(key)
        if not answers:
            return None
        self._next[key] += 1
        opening = OPENINGS[self._next[key] % len(OPENINGS)]
        return f"{opening} {answers[self._next[key] % len(answers)]}"


def _revisions(material: Material, revise: Revise) -> dict[str, str]:
    """Accepted revisions by query id, of samples where every judged answer violates; people's samples first."""
    wanted = []
    for sample in material.samples:
        label = material.labels.get(sample.query["id"])
        if label is None or sample.query["kind"] != "unsafe" or label.rewrite or label.preferred:
            continue
        bad = next((r["text"] for r in sample.responses if label.violates.get(r["id"], 0.0) >= 0.5), None)
        principle = material.principles.get(next(iter(label.principles), sample.query["principle"]))
        if bad and principle and principle.safe_answers and min(label.violates.values()) >= 0.5:
            wanted.append((label.source == "critic", sample.query["id"], (sample.query["text"], bad, principle)))
    wanted = sorted(wanted, key=lambda row: row[0])[:REVISION_TRIES]
    revised = revise([row[2] for row in wanted]) if wanted else []
    return {row[1]: text for row, text in zip(wanted, revised, strict=True) if text}


def _from_label(
    config: RoundConfig, sample: Sample, label: Label, principles: dict[str, Principle],
    safe: _SafeAnswers, revisions: dict[str, str],
) -> list[Pair]:  # fmt: skip
    query = sample.query
    texts = {r["id"]: r["text"] for r in sample.responses}
    weight = label.weight * (1.0 if label.source == "critic" else config.human_weight)
    broken = [i for i, p in label.violates.items() if p >= 0.5 and i in texts]
    fine = [i for i, p in label.violates.items() if p < 0.5 and texts.get(i, "").strip()]
    key = next((p for p in label.principles if p in principles), query["principle"])

    def pair(chosen: str, rejected: str | None, source: str, times: float = 1.0) -> Pair:
        return Pair(
            query["text"], chosen, rejected, weight * times, query["kind"], source, query["id"], key,
            query.get("history") or [],
        )  # fmt: skip

    if label.rewrite:
        meant = [label.rewrite_of] if label.rewrite_of in texts else []
        worst = meant or broken or [i for i in texts if i not in fine] or list(texts)
        return [pair(label.rewrite, texts[worst[0]], "rewrite")]
    if label.preferred in texts and label.preferred not in broken:
        others = [i for i in texts if i != label.preferred]
        return [
            pair(
                whole_sentences(texts[label.preferred]) or texts[label.preferred],
                texts[others[0]] if others else None,
                "preference",
            )
        ]
    # On an unsafe prompt a fine answer is one that declines or redirects; keep those that say so plainly.
    best = [i for i in fine if query["kind"] == "harmless" or is_refusal(texts[i])]
    if query["kind"] == "harmless":
        best = [i for i in best if not is_refusal(texts[i])]
    best = [i for i in best if whole_sentences(texts[i])]
    if best:
        return [pair(whole_sentences(texts[best[0]]), texts[broken[0]] if broken else None, "own answer")]
    if not broken or query["kind"] == "harmless":
        return []
    bad = texts[broken[0]]
    revised = revisions.get(query["id"])
    chosen = revised or safe.get(key) or safe.get(query["principle"])
    return [pair(chosen, bad, "revision" if revised else "safe answer")] if chosen else []


def _from_task(sample: Sample, *, truth: bool) -> list[Pair]:
    """An own right answer, checked by program, against an own wrong one. Where all are wrong: the true answer if
    `truth`, else nothing, because a conformity round is there to keep competence, not to teach it."""
    query = sample.query
    task = query["task"] or {}
    right = [r["text"] for r in sample.responses if check(task, r["text"])]
    wrong = [r["text"] for r in sample.responses if not check(task, r["text"]) and r["text"].strip()]
    chosen = right[0] if right else str(task.get("answer", ""))
    if not chosen or not (right or truth):
        return []
    return [
        Pair(
            query["text"], chosen, wrong[0] if wrong else None, 1.0, "competence", "program", query["id"],
            query["principle"],
        )
    ]  # fmt: skip


def _replayed_attacks(config: RoundConfig, material: Material, safe: _SafeAnswers, rng: random.Random) -> list[Pair]:
    """Earlier rounds' violating prompts, and seed attacks, so that nothing learnt before is forgotten.

    Seeds are only used once people or critic have found this round that the learner fails on such attacks
    at all: without a single violating label there is nothing to teach.
    """
    failing = {
        s.query["category"]
        for s in material.samples
        if (label := material.labels.get(s.query["id"])) and any(p >= 0.5 for p in label.violates.values())
    }
    found = [(i.prompt, i.principle) for i in material.pool if i.kind == "unsafe" and i.violates >= 0.5]
    asked = {s.query["seed"] for s in material.samples}
    fresh = [(p.unsafe, p.principle) for p in material.seeds if p.category in failing and p.id not in asked]
    chosen = rng.sample(found, min(len(found), config.replay // 2))
    chosen += rng.sample(fresh, min(len(fresh), config.replay - len(chosen)))
    pairs = []
    for prompt, key in chosen:
        text = safe.get(key)
        if text:
            pairs.append(Pair(prompt, text, None, 1.0, "unsafe", "replay", None, key))
    return pairs


def _lookalikes(
    config: RoundConfig,
    material: Material,
    used: set[str],
    count: int,
    safe: _SafeAnswers,
    answer: Callable[[list[Prompt]], list[str]],
) -> list[Pair]:
    """Harmless twins, first of the seeds that were attacked this round: the base model's own answer is preferred
    to one that declines. A twin wears the form of its attack and follows the same turns, else these would be what is
    declined; a twin of a seed that was not attacked wears none, as the replayed attacks do."""
    attacks = {s.query["seed"]: s.query for s in material.samples if s.query["kind"] == "unsafe"}
    rng = random.Random(f"{config.seed}:{config.number}:twins")
    twins = [p for p in rng.sample(material.seeds, len(material.seeds)) if p.harmless]
    worn = []
    for pair in sorted(twins, key=lambda p: p.id not in attacks):
        attack = attacks.get(pair.id, {})
        prompt, history = attack.get("twin") or pair.harmless, attack.get("history") or []
        if prompt not in used:
            worn.append((prompt, history, pair.principle))
    worn = worn[: round(count * 1.4)]
    texts = answer([after_turns(history, prompt) for prompt, history, _ in worn]) if worn else []
    made = [
        Pair(prompt, whole_sentences(text) or text, safe.get(key), 1.0, "harmless", "look-alike", None, key, history)
        for (prompt, history, key), text in zip(worn, texts, strict=True)
        if text.strip() and not is_refusal(text) and not text.lower().startswith(APOLOGIES)
    ]
    return made[:count]


def whole_sentences(text: str) -> str:
    """The answer up to its last finished sentence; "" where there is none. An answer that the token limit cut
    would otherwise teach the learner to stop in the middle."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"')*]*(?=\s|$)", text)]
    kept = text[: ends[-1]].strip() if ends else ""
    return kept if len(kept.split()) >= 3 else ""


def _tasks(config: RoundConfig) -> list[Pair]:
    """Ground truth for a competence round, from the training split of the task generator."""
    levels = config.levels
    pairs = []
    for level in levels:
        for task in generate(config.seed * 7919 + config.number, level, config.sft_steps * 2 // len(levels), "train"):
            pairs.append(Pair(task.prompt, task.answer, None, 1.0, "competence", "program", None, task.family))
    return pairs
