"""What the learner's preference training minimises, by name. One table: everything an objective sets is in it.

TRL computes the losses; formulas and sources are in docs/methods.md. Importing this module loads neither torch
nor numpy, so that a config can name its choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

USUAL_BETA = 0.1  # the beta of a config that leaves every objective at its own default
MOST_NOISE = 0.4  # where a loss divides by 1 - 2 noise: a pair counts five times at most


@dataclass(frozen=True)
class PreferenceObjective:
    """One way to train on preferences. `losses` and `divergence` are TRL's names."""

    name: str
    words: str
    rows: Literal["none", "pairs", "answers"]  # nothing; chosen against rejected; single answers, good or bad
    losses: tuple[str, ...] = ()  # summed, each with weight 1
    beta: float = USUAL_BETA  # temperature at which a config's beta of USUAL_BETA puts it
    divergence: str = "reverse_kl"
    alpha: float = 0.5  # the f-DPO paper's, in (0, 1); only for the alpha divergence. TRL's own is 1 - this
    flipped: float = 0.0  # chance that any label is the wrong way round, in [0, 0.5)
    noise: Literal["soft", "flip", "none"] = "soft"  # what a pair's own `noise` does; see `smoothing`

    def beta_at(self, beta: float) -> float:
        """The temperature at a config's `beta`, which is on DPO's scale: own default times beta / 0.1 (ours).

        So the schedule can make any objective firmer by a factor without knowing which one it is.
        """
        return self.beta * beta / USUAL_BETA

    def smoothing(self, noise: float) -> float:
        """What TRL's `label_smoothing` e has to be for a pair whose label is wrong with chance `noise` in [0, 0.5).

        TRL's "robust" loss is ((1 - e) L(d) - e L(-d)) / (1 - 2e). "flip": e is the noise, which is Robust DPO.
        "soft": e = -noise / (1 - 2 noise) turns the same expression into (1 - noise) L(d) + noise L(-d), cross-entropy
        to a label of that probability (ours: the critic's calibrated confidence is a posterior for this very pair,
        so the expected loss is this one, while Robust DPO would give the doubtful pairs the largest gradients).
        """
        if not 0 <= noise < 0.5:
            raise ValueError(f"noise is {noise}; a pair whose label is more often wrong than right is no example")
        if self.noise == "flip":
            return min(max(noise, self.flipped), MOST_NOISE)
        return -noise / (1 - 2 * noise) if self.noise == "soft" else 0.0


OBJECTIVES: dict[str, PreferenceObjective] = {
    own.name: own
    for own in (
        PreferenceObjective("sft", "supervised only: nothing is trained on rejected answers", "none"),
        PreferenceObjective("dpo", "direct preference optimisation, reverse KL", "pairs", ("sigmoid",)),
        PreferenceObjective(
            "dpo_forward_kl", "DPO under the forward KL", "pairs", ("sigmoid",), divergence="forward_kl"
        ),
        PreferenceObjective(
            "dpo_js", "DPO under the Jensen-Shannon divergence", "pairs", ("sigmoid",), divergence="js_divergence"
        ),
        PreferenceObjective(
            "dpo_alpha", "DPO under the alpha divergence", "pairs", ("sigmoid",), divergence="alpha_divergence"
        ),
        # TRL has one smoothing for no length-normalised loss, so a pair's noise only lowers its weight here.
        PreferenceObjective("ln_dpo", "DPO on margins per token", "pairs", ("sigmoid_norm",), beta=5.0, noise="none"),
        PreferenceObjective(
            "robust", "DPO that expects one label in ten to be wrong", "pairs", ("robust",), flipped=0.1, noise="flip"
        ),
        PreferenceObjective("kto", "single answers, good or bad, without a pair", "answers", ("kto",), noise="none"),
        PreferenceObjective("dpo_sft", "DPO with a supervised term on the chosen answer", "pairs", ("sigmoid", "sft")),
    )
}
DEFAULT = "dpo_sft"


def find_objective(name: str) -> PreferenceObjective:
    """The objective of that name; ValueError names the choices."""
    if name not in OBJECTIVES:
        raise ValueError(f"preference {name!r} is not one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
