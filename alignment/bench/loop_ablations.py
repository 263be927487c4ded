"""The loop and what is left of it when one ingredient is taken away: the variants of `bench loop`.

All have the same number of rounds, queries and training steps; where an ingredient brought queries, attacks take their
places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from alignment.config import RoundConfig
from alignment.loop import LoopSettings

FULL = "full"


def _nothing(config: RoundConfig) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Variant:
    """`changes` gives the settings that differ, from those that the full loop has."""

    name: str
    words: str
    changes: Callable[[RoundConfig], dict[str, Any]] = field(default=_nothing)
    schedule: str = "alternating"
    annealing: str = "annealed"

    def apply(self, settings: LoopSettings) -> LoopSettings:
        own = self.changes(settings.base_config())
        return replace(
            settings, overrides={**settings.overrides, **own}, schedule=self.schedule, annealing=self.annealing,
            name=f"bench-{self.name}",
        )  # fmt: skip


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(FULL, "everything"),
        Variant("no_people", "no reviews: the critic's labels alone", lambda c: {"budget": 0}),
        Variant(
            "no_critic", "no labels from the critic, reviews drawn at random",
            lambda c: {"critic_labels": False, "policy": "random"},
        ),
        Variant("random_attacks", "attacks drawn at random, nothing remembered", lambda c: {"attack_policy": "random"}),
        Variant("random_selection", "reviews drawn at random", lambda c: {"policy": "random"}),
        Variant(
            "no_lookalikes", "no harmless look-alike asked or trained on, as many more attacks",
            lambda c: {"lookalike_training": False, "lookalikes": 0, "attacks": c.attacks + c.lookalikes},
        ),
        Variant("joint", "both objectives in every round", schedule="joint"),
        Variant("fixed", "levels, budget and beta as they are in the first round", annealing="fixed"),
    )
}  # fmt: skip
ABLATIONS = tuple(name for name in VARIANTS if name != FULL)


def parse_ablations(text: str) -> list[str]:
    """Names from "a,b", all for "all", none for ""; ValueError names one that is not known."""
    names = list(ABLATIONS) if text == "all" else [part.strip() for part in text.split(",") if part.strip()]
    unknown = sorted(set(names) - set(ABLATIONS))
    if unknown:
        raise ValueError(f"ablation {', '.join(unknown)} is not known; there are all, {', '.join(ABLATIONS)}")
    return list(dict.fromkeys(names))
