"""The attacker: writes a chunk of attacks at a time, after the earlier chunks were judged.

`attack_policy` "archive" searches after Rainbow Teaming (`archive.py`): an operator by its yield (`bandit.py`), a cell
of its style with a bias to empty and weak ones, then a parent (an elite, or a fresh seed) that the operator changes.
"random" draws seeds in turn and operators uniformly, and remembers nothing. Both put the same form on the harmless
look-alike of each attack.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from alignment.archive import Archive, Cell, cells_of, retries_of, take_in_samples
from alignment.bandit import draw_operator, update_yields
from alignment.chunk_plan import BUNCH, Slots
from alignment.config import RoundConfig
from alignment.multi_turn import build_up, nearest_opening
from alignment.near_duplicates import NearDuplicates
from alignment.operators import (
    CROSS,
    CROSS_PROMPT,
    MODEL_PROMPTS,
    MULTI_TURN,
    OPERATORS,
    PLAIN,
    SEED,
    TEMPLATES,
    style_of,
    transplant,
    words,
)
from alignment.records import Author, Elite, OperatorYield, PoolItem, Query, Sample, SeedPair
from alignment.rewriting import Rewriter, Wanted, describe_rewriting, rewrite

RETRY_SHARE = 0.2  # of a chunk's attacks: elites of earlier rounds, asked again of the learner as it is now
PARENT_CHANCE = 0.5  # of an elite of the same subject as the parent where the cell is still empty
LONGEST_PARENT = 60  # words; a form on a form on a form says nothing any more
TRIES = 6  # draws for one attack before its place stays empty

# The user's turns of several conversations -> each with the learner's answers
AnswerTurns = Callable[[list[list[str]]], list[list[dict[str, str]]]]


@dataclass
class Draft:
    """An attack on its way. `wanted` is what the attacker model is asked for: the attack, then its look-alike."""

    pair: SeedPair
    operator: str
    text: str = ""
    twin: str = ""
    turns: list[str] = field(default_factory=list)
    written_by: Author = "template"
    parent: str | None = None
    wanted: list[Wanted] = field(default_factory=list)
    written: list[str | None] = field(default_factory=list)  # what came for each of `wanted`
    twin_bare: bool = False  # the look-alike wears no form
    again: bool = False  # an elite of an earlier round


def record_id(config: RoundConfig, *parts: object) -> str:
    """The same id for the same record in every attempt at the round, so that a resumed round adds nothing twice."""
    return str(uuid.uuid5(uuid.UUID(config.round_id), ":".join(map(str, parts))))


def order_seeds(seeds: Sequence[SeedPair], *, count: int, number: int, seed: int) -> list[SeedPair]:
    """All seeds in the order for round `number`, spread over categories; the `count` of earlier rounds come last."""
    rng = random.Random(seed)
    by_category: dict[str, list[SeedPair]] = {}
    for pair in seeds:
        by_category.setdefault(pair.category, []).append(pair)
    columns = [rng.sample(pairs, len(pairs)) for _, pairs in sorted(by_category.items())]
    longest = max((len(c) for c in columns), default=0)
    ordered = [column[i] for i in range(longest) for column in columns if i < len(column)]
    start = (number - 1) * count % max(len(ordered), 1)
    return ordered[start:] + ordered[:start]


class AttackSearch:
    """State of one propose phase; `remember` and `learn` bring it to the same point again after a restart."""

    def __init__(
        self, config: RoundConfig, seeds: Sequence[SeedPair], pool: Sequence[PoolItem], model: Rewriter,
        avoid: Sequence[str], *, earlier: Sequence[Elite] = (), yields: Sequence[OperatorYield] = (),
    ) -> None:  # fmt: skip
        """`avoid` are texts that no attack may resemble (the held-out probes); `earlier` and `yields` are what the
        rounds before found."""
        self.config, self.model = config, model
        self.order = order_seeds(seeds, count=config.attacks, number=config.number, seed=config.seed)
        self.by_id = {s.id: s for s in seeds}
        self.cells = cells_of(seeds)
        self.archive = Archive(earlier)
        self.earlier, self.past = list(earlier), list(yields)
        self.yields = update_yields(self.past, [])
        self.samples: list[Sample] = []
        self.used: Counter[str] = Counter()
        self.forbidden, self.known = NearDuplicates(config.near_duplicate), NearDuplicates(config.near_duplicate)
        for text in avoid:
            self.forbidden.add(text)
        for item in pool:
            self.known.add(item.prompt)

    def remember(self, queries: Sequence[Query]) -> None:
        """Takes note of a chunk that was written, now or before a restart."""
        for query in queries:
            if query.kind == "unsafe":
                self.used[query.seed] += 1
            self.known.add(_whole([t["content"] for t in query.history if t["role"] == "user"], query.text))

    def learn(self, samples: Sequence[Sample], places: Mapping[str, str]) -> None:
        """Takes in a judged chunk: archive and yields. `places` are base64, by query id (`archive.encode_place`)."""
        self.samples += samples
        take_in_samples(self.archive, samples, places, number=self.config.number)
        self.yields = update_yields(self.past, self.samples, retried=self.retried)

    @property
    def retried(self) -> frozenset[str]:
        return retries_of(self.earlier, self.samples)

    def write(self, number: int, slots: Slots, answer_turns: AnswerTurns) -> tuple[list[Query], str]:
        """(the chunk's attacks, then their look-alikes; what the log says of the attacker model or "")."""
        rng = random.Random(f"{self.config.seed}:{self.config.number}:attacks:{number}")
        used = self.used.copy()
        drafts = self._retries(slots, rng)
        drafts += self._drafts([MULTI_TURN] * slots.turns, drafts, slots, rng)
        drafts += self._drafts(self._operators(slots, slots.attacks - len(drafts), rng), drafts, slots, rng)
        said = self._rewrite(drafts, number, rng)
        kept = self._distinct(drafts, slots, rng)
        self.used = used  # `remember` counts what was written in the end, the same after a restart
        twins = self._twins(kept, slots.lookalikes, rng)
        told = answer_turns([d.turns for d in kept if d.turns]) if any(d.turns for d in kept) else []
        answered = iter(told)
        history = [next(answered) if d.turns else [] for d in kept]
        attacks = [self._query(d, h, number, i) for i, (d, h) in enumerate(zip(kept, history, strict=True))]
        return attacks + [self._look_alike(kept[i], attacks[i], number, i) for i in twins], said

    # --- What to write ------------------------------------------------------------------------------

    def _retries(self, slots: Slots, rng: random.Random) -> list[Draft]:
        """Elites that the learner of an earlier round answered: their fitness is stale."""
        if self.config.attack_policy != "archive":
            return []
        stale = [e for e in self.archive.elites if e.round < self.config.number]
        chosen = rng.sample(stale, min(len(stale), round(RETRY_SHARE * slots.attacks)))
        return [
            Draft(
                self.by_id.get(e.seed) or SeedPair(e.seed, e.category, e.principle, "", e.level, e.text, e.twin),
                SEED if e.style == PLAIN else e.style, e.text, e.twin, list(e.history), e.written_by, e.id, again=True,
            )
            for e in chosen
        ]  # fmt: skip

    def _operators(self, slots: Slots, count: int, rng: random.Random) -> list[str]:
        """`count` operators. The attacker model writes in every third chunk only, then for three chunks."""
        plain = [o for o in OPERATORS if o not in MODEL_PROMPTS and (o != CROSS or self._forms())]
        able = [o for o in OPERATORS if o in plain or o in MODEL_PROMPTS]

        def draw(among: list[str]) -> str:
            return (
                draw_operator(self.yields, among, rng) if self.config.attack_policy == "archive" else rng.choice(among)
            )

        asked = [o for o in (draw(able) for _ in range(BUNCH * count)) if o in MODEL_PROMPTS] if slots.model else []
        asked = asked[: count // 2]
        return [*asked, *(draw(plain) for _ in range(count - len(asked)))]

    def _drafts(self, operators: list[str], planned: list[Draft], slots: Slots, rng: random.Random) -> list[Draft]:
        taken: list[Cell] = [_cell(d) for d in planned]
        drafts = []
        for operator in operators:
            draft = self._draft(operator, taken, slots, rng)
            taken.append(_cell(draft))
            self.used[draft.pair.id] += 1
            drafts.append(draft)
        return drafts

    def _draft(self, operator: str, taken: list[Cell], slots: Slots, rng: random.Random) -> Draft:
        if self.config.attack_policy != "archive":
            return self._make(operator, self._fresh(), None, slots, rng)
        cells = [c for c in self.cells if c[1] == style_of(operator)]
        cell = self.archive.draw_cell(cells, rng, taken)
        parent = None
        if operator != SEED and (cell in self.archive.cells or rng.random() < PARENT_CHANCE):
            parent = self._parent(cell, rng)
        pair = self.by_id[parent.seed] if parent else self._fresh(cell)
        return self._make(operator, pair, parent, slots, rng)

    def _fresh(self, cell: Cell | None = None) -> SeedPair:
        """The least used seed, in the round's order; of the cell's category and level where there is one."""
        own = [s for s in self.order if cell is None or (s.category, s.level) == (cell[0], cell[2])]
        return min(own, key=lambda s: self.used[s.id])

    def _parent(self, cell: Cell, rng: random.Random) -> Elite | None:
        """An elite of the cell's category and level in another style, in proportion to its fitness."""
        able = [
            e for e in self.archive.elites
            if (e.category, e.level) == (cell[0], cell[2]) and e.style != cell[1] and not e.history
            and e.seed in self.by_id and len(words(e.text)) <= LONGEST_PARENT
        ]  # fmt: skip
        return rng.choices(able, [0.1 + e.fitness for e in able])[0] if able else None

    def _forms(self) -> list[Elite]:
        """Elites whose form another subject can take."""
        if self.config.attack_policy != "archive":
            return []
        return [
            e for e in self.archive.elites
            if e.style != PLAIN and not e.history and e.seed in self.by_id and len(words(e.text)) <= LONGEST_PARENT
        ]  # fmt: skip

    # --- Writing it ---------------------------------------------------------------------------------

    def _make(self, operator: str, pair: SeedPair, parent: Elite | None, slots: Slots, rng: random.Random) -> Draft:
        text = parent.text if parent else pair.unsafe
        twin = (parent.twin or pair.harmless) if parent else pair.harmless
        draft = Draft(pair, operator, text, twin, parent=parent.id if parent else None)
        if operator == SEED:
            draft.written_by = "seed"
        elif operator in MODEL_PROMPTS:
            self._want(draft, MODEL_PROMPTS[operator], text=text, twin=twin)
        elif operator == CROSS:
            self._cross(draft, slots, rng)
        elif operator == MULTI_TURN:
            opening = nearest_opening(pair, self.order)
            draft.turns, draft.text, draft.twin = build_up(
                text, twin, category=pair.category, opening=opening, rng=rng
            )  # fmt: skip
        else:
            self._form(draft, operator, rng)
        return draft

    def _form(self, draft: Draft, operator: str, rng: random.Random) -> None:
        """Puts a template on the attack and, with the same random choices, on its look-alike."""
        state = rng.getrandbits(64)
        template = TEMPLATES[operator]
        draft.operator, draft.written_by = operator, "template"
        draft.text = template(draft.text, random.Random(state))
        draft.twin = template(draft.twin, random.Random(state)) if draft.twin else ""

    def _want(self, draft: Draft, prompt: str, *, text: str, twin: str, form: str = "") -> None:
        pair = draft.pair
        draft.written_by = "model"
        draft.wanted = [Wanted(prompt.format(text=text, form=form), pair.unsafe)]
        if twin:
            draft.wanted.append(Wanted(prompt.format(text=twin, form=form), pair.harmless))

    def _cross(self, draft: Draft, slots: Slots, rng: random.Random) -> None:
        """The seed's subject in the form of an elite on another one: by text where that names its own subject whole,
        else by the attacker model; a template where neither can be."""
        forms = [e for e in self._forms() if e.seed != draft.pair.id]
        form = rng.choices(forms, [0.1 + e.fitness for e in forms])[0] if forms else None
        draft.text, draft.twin, draft.parent = draft.pair.unsafe, draft.pair.harmless, form.id if form else None
        subject = self.by_id[form.seed].unsafe if form else ""
        text = transplant(form.text, subject, draft.text) if form else None
        if form and text:
            draft.text, draft.twin = text, transplant(form.text, subject, draft.twin) or "" if draft.twin else ""
        elif form and slots.model:
            self._want(draft, CROSS_PROMPT, text=draft.text, twin=draft.twin, form=form.text)
        else:
            draft.parent = None
            self._form(draft, rng.choice(sorted(TEMPLATES)), rng)

    def _rewrite(self, drafts: list[Draft], number: int, rng: random.Random) -> str:
        """One batch for the chunk. Where the model gives no attack a template stands in, and the log says which."""
        asked = [(d, wanted) for d in drafts for wanted in d.wanted]
        texts, failed = rewrite(
            self.model, [w for _, w in asked], max_new_tokens=self.config.max_new_tokens,
            seed=self.config.seed + 17 + 1000 * self.config.number + number,
        )  # fmt: skip
        for (draft, _), text in zip(asked, texts, strict=True):
            draft.written.append(text)
        fallbacks: Counter[str] = Counter()
        for draft in (d for d in drafts if d.wanted):
            attack, *twin = draft.written
            if attack is None:
                draft.parent = None if draft.operator == CROSS else draft.parent  # its form is not worn
                self._form(draft, rng.choice(sorted(TEMPLATES)), rng)
                fallbacks[draft.operator] += 1
            else:
                draft.text, draft.twin_bare = attack, not any(twin)
                draft.twin = next(filter(None, twin), draft.pair.harmless)
        return describe_rewriting(self.model.name, sum(t is not None for t in texts), failed, fallbacks)

    def _distinct(self, drafts: list[Draft], slots: Slots, rng: random.Random) -> list[Draft]:
        """Those that are like no other attack and no probe; one that is makes room for another draw."""
        kept: list[Draft] = []
        for draft in drafts:
            for _ in range(TRIES):
                fresh = not self.forbidden.like(draft.text) and self.known.add(_whole(draft.turns, draft.text))
                if fresh or draft.again:
                    kept.append(draft)
                    break
                operator = MULTI_TURN if draft.turns else rng.choice(sorted(TEMPLATES))
                pair = draft.pair if rng.random() < 0.5 else self._fresh(_cell(draft))
                self.used[pair.id] += 1
                draft = self._make(operator, pair, None, slots, rng)
        return kept

    def _twins(self, drafts: list[Draft], count: int, rng: random.Random) -> list[int]:
        """Which attacks' look-alikes are asked too: any of the chunk's with the same chance."""
        found: list[int] = []
        for i in rng.sample(range(len(drafts)), len(drafts)):
            draft = drafts[i]
            if len(found) == count or not draft.twin or self.forbidden.like(draft.twin):
                continue
            if self.known.add(_whole(draft.turns, draft.twin)):
                found.append(i)
        return sorted(found)

    def _query(self, draft: Draft, history: list[dict[str, str]], number: int, place: int) -> Query:
        pair = draft.pair
        return Query(
            id=record_id(self.config, "attack", number, place), text=draft.text, kind="unsafe", category=pair.category,
            principle=pair.principle, style=pair.style, level=pair.level, operator=draft.operator, seed=pair.id,
            parent=draft.parent, written_by=draft.written_by, history=history, twin=draft.twin,
        )  # fmt: skip

    def _look_alike(self, draft: Draft, attack: Query, number: int, place: int) -> Query:
        operator = SEED if draft.twin_bare else draft.operator
        by: Author = "seed" if draft.twin_bare else draft.written_by
        return Query(
            id=record_id(self.config, "twin", number, place), text=draft.twin, kind="harmless",
            category=attack.category, principle=attack.principle, style=attack.style, level=attack.level,
            operator=operator, seed=attack.seed, written_by=by, history=attack.history,
        )  # fmt: skip


def _whole(turns: Sequence[str], text: str) -> str:
    return " ".join([*turns, text])


def _cell(draft: Draft) -> Cell:
    return draft.pair.category, style_of(draft.operator), draft.pair.level
