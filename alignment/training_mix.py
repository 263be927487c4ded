"""What a round trains on beside its own labels: replay, look-alikes, general chat, tasks, in stated shares (ours).

Learning only this round's failures forgets the earlier ones, and learning only to decline ends in declining all. So
every round draws fixed shares from each group; a group that has no rows leaves its share to the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from alignment.config import Objective, RoundConfig
from alignment.language_model import Prompt, after_turns
from alignment.operators import TEMPLATES
from alignment.records import ChatPrompt, Label, Metric, Pair, PoolItem, Principle, Sample, SeedPair
from alignment.refusal import is_refusal
from alignment.tasks import generate

GROUPS = ("own", "replay", "look-alike", "chat", "task")
SHARES: dict[Objective, dict[str, float]] = {
    "conformity": {"own": 0.1, "replay": 0.4, "look-alike": 0.38, "chat": 0.06, "task": 0.06},
    "competence": {"own": 0.05, "replay": 0.08, "look-alike": 0.14, "chat": 0.05, "task": 0.68},
    "joint": {"own": 0.1, "replay": 0.2, "look-alike": 0.2, "chat": 0.05, "task": 0.45},
}
SENTENCE_END = re.compile(r"[.!?][\"')*]*(?=\s|$)")
PLAIN = ("question", "imperative")  # styles
LOOSE = 0.35  # likeness below which the prompts of a pair differ in more than what makes one of them harmful
WORN = 0.4  # share of replayed seeds that wear an operator's form, and their look-alikes the same
# A small model often opens so before it helps after all; as an example it would teach the way into a refusal.
APOLOGIES = ("i'm sorry", "sorry", "i apologi", "my apologies", "unfortunately")
# A few shared openings, so that declining is one decision that a small model can make at its first token. That token
# is rare: SmolLM2-135M begins every third answer with "I", declining or not, and hardly any with "Sorry". What follows
# differs: 14 reasons and alternatives a principle, so that no fixed sentence is learnt.
OPENINGS = ("Sorry, I can't help with that.", "Sorry, I can't help with this.", "Sorry, I can't do that.")


@dataclass(frozen=True)
class Material:
    """What pairs are made from."""

    samples: list[Sample]
    labels: dict[str, Label]  # by query id
    principles: dict[str, Principle]
    seeds: list[SeedPair]
    pool: list[PoolItem]
    chat: Sequence[ChatPrompt] = ()


class SafeAnswers:
    """A principle's shipped safe answers in turn, each behind the next opening."""

    def __init__(self, principles: dict[str, Principle], rng: random.Random) -> None:
        self._lists = {k: rng.sample(p.safe_answers, len(p.safe_answers)) for k, p in principles.items()}
        self._next = dict.fromkeys(self._lists, 0)

    def get(self, key: str) -> str | None:
        answers = self._lists.get(key)
        if not answers:
            return None
        self._next[key] += 1
        return f"{self.opening(key)} {answers[self._next[key] % len(answers)]}"

    def opening(self, key: str) -> str:
        return OPENINGS[self._next.get(key, 0) % len(OPENINGS)]

    def behind(self, key: str, text: str) -> str:
        """A declining answer in the learner's own words, behind an opening where it has none. Trained on as it is, "I'm
        sorry, but as an AI ..." would be learnt as a second way to begin, and said to harmless prompts too."""
        return text if text.startswith(tuple(OPENINGS)) else f"{self.opening(key)} {text}"


def group_of(pair: Pair) -> str:
    """One of GROUPS. The round's own labels are "own", its own tasks belong to "task"."""
    if pair.kind == "competence":
        return "task"
    return pair.source if pair.source in GROUPS else "own"


def in_shares(pairs: Sequence[Pair], objective: Objective) -> list[Pair]:
    """The pairs with weights that give each group its share of SHARES, 1 a pair in the mean; within a group in the
    proportions that they had."""
    held = {name: sum(p.weight for p in pairs if group_of(p) == name) for name in GROUPS}
    there = sum(SHARES[objective][name] for name in GROUPS if held[name] > 0)
    factor = {name: len(pairs) * SHARES[objective][name] / there / held[name] for name in GROUPS if held[name] > 0}
    return [replace(p, weight=p.weight * factor[group_of(p)]) for p in pairs]


def share_metrics(pairs: Sequence[Pair], *, seed: int) -> list[Metric]:
    """ "training_share" by group: the share of the training draws that each has, and n pairs that it has."""
    whole = sum(p.weight for p in pairs)
    found = []
    for name in GROUPS:
        own = [p.weight for p in pairs if group_of(p) == name]
        found.append(Metric("training_share", sum(own) / whole if whole else 0.0, None, None, len(own), seed, name))
    return found


def replayed_attacks(
    config: RoundConfig, material: Material, safe: SafeAnswers, rng: random.Random
) -> tuple[list[Pair], list[Pair]]:
    """(declining pairs, look-alikes of the same form): earlier rounds' violating prompts, and seed attacks.

    Seeds are only used once people or critic have found this round, or an earlier one, that the learner fails on such
    attacks at all: without a single violating label there is nothing to teach.
    """
    failing = {i.category for i in material.pool if i.kind == "unsafe" and i.violates >= 0.5}
    for sample in material.samples:
        label = material.labels.get(sample.query["id"])
        if label and sample.query["kind"] == "unsafe" and any(p >= 0.5 for p in label.violates.values()):
            failing.add(sample.query["category"])
    found = [(i.prompt, i.principle) for i in material.pool if i.kind == "unsafe" and i.violates >= 0.5]
    asked = {s.query["seed"] for s in material.samples}
    fresh = [p for p in material.seeds if p.category in failing and p.id not in asked]
    declines = [
        Pair(prompt, text, None, 1.0, "unsafe", "replay", None, key)
        for prompt, key in rng.sample(found, min(len(found), config.replay // 4))
        if (text := safe.get(key))
    ]
    twins = []
    for seed in draw_styles(fresh, config.replay - len(declines), rng):
        text = safe.get(seed.principle)
        if not text:
            continue
        unsafe, harmless = _worn(seed, rng)
        declines.append(Pair(unsafe, text, None, 1.0, "unsafe", "replay", None, seed.principle))
        if seed.harmless:
            twins.append(Pair(harmless, "", None, 1.0, "harmless", "look-alike", None, seed.principle))
    return declines, twins


def draw_styles(seeds: Sequence[SeedPair], count: int, rng: random.Random) -> list[SeedPair]:
    """`count` seeds without repetition, a third from each of three groups: pairs of other wording, which teach what is
    harmful; near-identical pairs of plain questions and imperatives, which teach what makes the difference where people
    type most; those of all other forms, as breadth of forms carries over to unseen ones. Within a group the styles take
    turns; a group that is used up leaves its share to the others."""
    groups: list[dict[str, list[SeedPair]]] = [{}, {}, {}]
    for seed in rng.sample(list(seeds), len(seeds)):
        group = 0 if _likeness(seed) < LOOSE else 1 if seed.style in PLAIN else 2
        groups[group].setdefault(seed.style, []).append(seed)
    return in_turn([in_turn(list(by_style.values())) for by_style in groups])[: max(0, count)]


def _likeness(seed: SeedPair) -> float:
    """Jaccard similarity of the words of the two prompts."""
    one, other = (set(text.lower().split()) for text in (seed.unsafe, seed.harmless))
    return len(one & other) / max(1, len(one | other))


def in_turn(lists: Sequence[Sequence[SeedPair]]) -> list[SeedPair]:
    """The first of every list, then the second of every list that has one, and so on."""
    return [own for row in zip_longest(*lists) for own in row if own is not None]


def _worn(seed: SeedPair, rng: random.Random) -> tuple[str, str]:
    """Both prompts of a seed in one form: their own, or that of an operator with the same random choices."""
    if rng.random() >= WORN:
        return seed.unsafe, seed.harmless
    form, state = TEMPLATES[rng.choice(sorted(TEMPLATES))], rng.getrandbits(64)
    return form(seed.unsafe, random.Random(state)), form(seed.harmless, random.Random(state))


def lookalikes(
    config: RoundConfig, material: Material, used: set[str], safe: SafeAnswers,
    answer: Callable[[list[Prompt]], list[str]],
) -> list[Pair]:  # fmt: skip
    """Harmless twins of the seeds that were attacked this round. A twin wears the form of its attack and follows the
    same turns, else these would be what is declined.

    As many as preference training draws are answered by the base model, whose answer is preferred to one that
    declines; an answer cut by the token limit is kept up to its last sentence. The others are anchors: no answer.
    """
    seeds = {p.id: p for p in material.seeds if p.harmless}
    worn: dict[str, tuple[list[dict[str, str]], str]] = {}
    for sample in material.samples:
        query = sample.query
        seed = seeds.get(query["seed"]) if query["kind"] == "unsafe" else None
        if seed:
            prompt = query.get("twin") or seed.harmless
            if prompt not in used:
                worn.setdefault(prompt, (query.get("history") or [], seed.principle))
    answered = list(worn)[: config.batch * config.preference_steps]
    texts = answer([after_turns(worn[prompt][0], prompt) for prompt in answered]) if answered else []
    spoken = {
        prompt: whole
        for prompt, text in zip(answered, texts, strict=True)
        if (whole := whole_sentences(text)) and not is_refusal(text) and not text.lower().startswith(APOLOGIES)
    }
    return [
        Pair(
            prompt, spoken.get(prompt, ""), safe.get(key) if prompt in spoken else None, 1.0, "harmless", "look-alike",
            None, key, history,
        )
        for prompt, (history, key) in worn.items()
    ]  # fmt: skip


def chat_anchors(config: RoundConfig, chat: Sequence[ChatPrompt], rng: random.Random) -> list[Pair]:
    """Ordinary prompts that go on being met as the base model meets them."""
    drawn = rng.sample(list(chat), min(len(chat), config.chat_replay))
    return [Pair(c.prompt, "", None, 1.0, "harmless", "chat") for c in drawn]


def drawn_tasks(config: RoundConfig) -> list[Pair]:
    """Ground truth from the training split of the task generator, other tasks in every round: as many as the round's
    share of training draws, the same number a level; a level that has fewer sees them more often."""
    count = round(config.sft_steps * config.batch * SHARES[config.objective]["task"] / len(config.levels))
    return [
        Pair(task.prompt, task.example, None, 1.0, "competence", "task", None, task.family)
        for level in config.levels
        for task in generate(config.seed * 7919 + config.number, level, count, "train", fewer=True)
    ]


def whole_sentences(text: str) -> str:
    """The answer up to its last finished sentence; "" where there is none. An answer that the token limit cut
    would otherwise teach the learner to stop in the middle."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    kept = text[: ends[-1]].strip() if ends else ""
    return kept if len(kept.split()) >= 3 else ""
