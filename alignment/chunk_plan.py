"""What each chunk of a propose phase holds: so many attacks, look-alikes and tasks, decided before the first answer.

Attacks are written chunk by chunk, after the earlier chunks were judged; only their number is planned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from alignment.config import RoundConfig
from alignment.records import Query

BUNCH = 3  # chunks that share one batch of what costs generation: a batch of six costs little more than one of two


@dataclass(frozen=True)
class Slots:
    """How many queries of each kind a chunk holds. `turns` of the attacks have several turns; `model` says whether
    the attacker model writes in this chunk."""

    attacks: int
    lookalikes: int
    tasks: int
    turns: int = 0
    model: bool = True

    @property
    def judged(self) -> int:
        """Queries that people may be asked about; tasks are checked by program."""
        return self.attacks + self.lookalikes

    @property
    def total(self) -> int:
        return self.judged + self.tasks


def plan_chunks(config: RoundConfig, *, attacks: int) -> list[Slots]:
    """As few chunks of at most `config.chunk` queries as hold them all, of equal size and mix as far as whole numbers
    allow, so that every chunk's share of the budget means the same. Look-alikes never outnumber attacks.

    Attacks of several turns come in every third chunk, and so does the attacker model: each needs batches of its own.
    """
    lookalikes = min(config.lookalikes, attacks)
    counts = (("attack", attacks), ("lookalike", lookalikes), ("task", config.competence))
    order = sorted(((i + 0.5) / n, kind) for kind, n in counts for i in range(n))
    count = -(-len(order) // config.chunk)
    ends = [round(i * len(order) / count) for i in range(count + 1)] if count else []
    kinds = [[kind for _, kind in order[start:end]] for start, end in pairwise(ends)]
    slots = [Slots(k.count("attack"), k.count("lookalike"), k.count("task")) for k in kinds]
    # Rounding may give a chunk one look-alike more than it has attacks to look like.
    slots = [Slots(s.attacks, min(s.lookalikes, s.attacks), s.tasks) for s in slots]
    return _bunch(slots, turns=min(config.multi_turn, attacks))


def slots_of(queries: Sequence[Query]) -> Slots:
    """What a chunk that is already written holds."""
    kinds = [q.kind for q in queries]
    return Slots(kinds.count("unsafe"), kinds.count("harmless"), kinds.count("competence"))


def _bunch(slots: list[Slots], *, turns: int) -> list[Slots]:
    bunched = range(0, len(slots), BUNCH)
    room = [slots[i].attacks if i in bunched else 0 for i in range(len(slots))]
    # An even share each, what does not fit is left out rather than crowd the other styles out.
    share = list(pairwise([round(turns * k / max(len(bunched), 1)) for k in range(len(bunched) + 1)]))
    own = {i: min(room[i], high - low) for i, (low, high) in zip(bunched, share, strict=True)}
    return [
        Slots(s.attacks, s.lookalikes, s.tasks, own.get(i, 0), i in bunched) for i, s in enumerate(slots)
    ]  # fmt: skip
