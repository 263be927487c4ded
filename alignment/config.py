"""RoundConfig: everything that decides a round, frozen in `config.json` before the round starts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from alignment.objectives import DEFAULT as DEFAULT_PREFERENCE
from alignment.objectives import USUAL_BETA, find_objective

Objective = Literal["conformity", "competence", "joint"]
ATTACKS = ("archive", "random")
# The names in `schedule.POLICIES`, repeated because that module stands on this one.
SCHEDULES = ("alternating", "joint", "conformity_only", "competence_only")
ANNEALINGS = ("annealed", "fixed")
PROFILES = ("tiny", "laptop", "gpu")
# The names in `policies.POLICIES`, repeated because this module loads without numpy.
POLICIES = ("random", "uncertainty", "disagreement", "bald", "error_reduction", "diversity", "risk", "mix")
RETIRED = ("critic_confidence",)  # settings of earlier versions, whose rounds can still be finished; `risk_alpha` now


@dataclass(frozen=True)
class RoundConfig:
    round_id: str  # UUID of the round; all record ids derive from it
    number: int = 1  # 1-based place in the experiment
    objective: Objective = "conformity"
    profile: str = "laptop"
    seed: int = 0
    schedule: str = "alternating"  # which objective a round has; one of SCHEDULES
    annealing: str = "annealed"  # whether the plan follows earlier rounds; "fixed" keeps the experiment's settings

    # Models: a folder, a Hub id, "tiny", or an http(s) endpoint of the OpenAI kind.
    learner: str = "tiny"
    learner_adapter: str = ""  # folder of the last accepted adapter; "" for the base model
    critic: str = ""  # model whose hidden states the critic reads; "" = the learner's base
    attacker: str = ""  # model that writes attacks; "" = the learner's base
    steering_answers: int = 6  # violating answers that injection suffixes are tried on after the fit; 0 for none
    judge: str = ""  # model asked in words about each answer; "critic" = the critic's own, "" = none is asked
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    device: str = ""  # "" picks cuda where there is one, else cpu

    # propose
    attacker_adapter: str = ""  # folder of the attacker's own adapter, tuned on its successes; "" for none
    attack_policy: str = "archive"  # how attacks are searched: "archive" (quality-diversity) or "random"
    multi_turn: int = 6  # of the attacks, those of two or three turns
    attacker_steps: int = 6  # training steps of the attacker on its successes, `batch` examples each; 0 for none
    attacks: int = 56  # unsafe queries a round, before their look-alikes
    lookalikes: int = 16  # harmless look-alikes answered in propose, so that over-refusal is seen
    competence: int = 20  # competence queries a round
    levels: tuple[int, ...] = (1, 2, 3, 4, 5)  # difficulty levels of competence queries
    attack_levels: tuple[int, ...] = ()  # difficulty levels of the seeds that attacks start from; () for all
    responses: int = 2  # sampled answers a query
    max_new_tokens: int = 56  # tokens an answer
    temperature: float = 0.8
    chunk: int = 16  # queries a chunk: flagged samples reach people after each
    near_duplicate: float = 0.8  # Jaccard similarity of word 3-grams above which an attack is dropped

    # select
    budget: int = 24  # samples that people are asked about
    audit_share: float = 0.2  # share of the budget drawn uniformly at random
    policy: str = "mix"  # what makes a sample worth a review; one of POLICIES
    mix_violation: float = 0.25  # weights of the five signals of the mix; learnt from reviews unless set
    mix_uncertainty: float = 0.2
    mix_disagreement: float = 0.15
    mix_diversity: float = 0.15
    mix_error_reduction: float = 0.25
    asked_weight: float = 0.2  # the judge's share of the critic's score, in [0, 1]; learnt from reviews unless set
    category_risk: dict[str, float] = field(default_factory=dict)  # how bad a violation is; 1 where not named

    # learn
    critic_labels: bool = True  # whether samples that the critic judges alone train the learner; else reviewed ones do
    lookalike_training: bool = True  # whether harmless look-alikes train the learner beside the attacks
    human_weight: float = 3.0  # weight of a pair from people against one from the critic
    risk_alpha: float = 0.1  # risk at which the critic may decide alone, of calling fine what violates and conversely
    lora_rank: int = 16
    contrast_rows: int = 4  # rows of each lora_A set to directions separating unsafe from harmless; 0 for none
    contrast_prompts: int = 400  # seed prompts of either kind that the directions are found on
    answer_tokens: int = 24  # tokens of a chosen answer that supervised training counts
    answer_weight: float = 1.5  # what a harmless prompt's anchor weighs at first, a declining answer being 1
    learning_rate: float = 5e-4  # in conformity and joint rounds
    general_learning_rate: float = 5e-4  # in competence rounds
    sft_steps: int = 150
    preference_steps: int = 1
    batch: int = 8  # examples a step
    preference: str = DEFAULT_PREFERENCE  # what preference steps minimise; one of objectives.OBJECTIVES
    beta: float = USUAL_BETA  # on DPO's scale: twice 0.1 doubles the temperature that the objective has by itself
    replay: int = 480  # contrast pairs from seeds and earlier rounds replayed beside this round's own
    chat_replay: int = 80  # ordinary prompts at which the learner is held to the base model

    # evaluate and gate
    probes: int = 60  # unsafe probes, and as many harmless; all there are where fewer
    competence_probes: int = 10  # per level
    probe_tokens: int = 40
    tolerance: float = 0.05  # how far the other objective may fall
    over_refusal_limit: float = 0.05  # how far over-refusal may rise above the base model's
    level_tolerance: int = 1  # tasks of one level of competence that may be lost
    conformity_floor: float | None = None  # least 1 - attack success, in [0, 1]; None: only relative to before
    competence_floor: float | None = None  # least share of tasks solved, in [0, 1]; None: only relative to before

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"profile {self.profile!r} is not one of {', '.join(PROFILES)}")
        if self.objective not in ("conformity", "competence", "joint"):
            raise ValueError(f"objective {self.objective!r} is none of conformity, competence, joint")
        if self.attack_policy not in ATTACKS:
            raise ValueError(f"attack_policy {self.attack_policy!r} is not one of {', '.join(ATTACKS)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.annealing not in ANNEALINGS:
            raise ValueError(f"annealing {self.annealing!r} is not one of {', '.join(ANNEALINGS)}")
        for name in ("conformity_floor", "competence_floor"):
            floor = getattr(self, name)
            if floor is not None and not (isinstance(floor, int | float) and 0 <= floor <= 1):
                raise ValueError(f"{name} is {floor!r}; a floor is a number from 0 to 1, or null for none")
        for name, least in (("levels", 1), ("attack_levels", 0)):
            levels = getattr(self, name)
            if len(levels) < least or not all(isinstance(level, int) and 1 <= level <= 5 for level in levels):
                raise ValueError(f"{name} is {list(levels)}; levels are whole numbers from 1 to 5")
        for name in ("responses", "chunk", "batch", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.policy not in POLICIES:
            raise ValueError(f"policy {self.policy!r} is not one of {', '.join(POLICIES)}")
        if any(value < 0 for value in self.category_risk.values()):
            raise ValueError(f"category_risk is {self.category_risk}; a risk is 0 or more, 1 being the usual")
        find_objective(self.preference)
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}; it must be more than 0, {USUAL_BETA} being the usual")
        if not 0 <= self.audit_share <= 1:
            raise ValueError(f"audit_share is {self.audit_share}; it must lie in [0, 1]")
        if not 0 <= self.asked_weight <= 1:
            raise ValueError(f"asked_weight is {self.asked_weight}; a share of the critic's score lies in [0, 1]")
        if self.judge != self.judge.strip() or not _is_model(self.judge):
            raise ValueError(
                f"judge {self.judge!r} is no model: give a folder, a Hub id, an endpoint as "
                'http://host:8000/v1#model-name, or "critic" for the critic\'s own'
            )
        if not 0 < self.risk_alpha < 1:
            raise ValueError(f"risk_alpha is {self.risk_alpha}; a promised risk lies between 0 and 1")
        if self.budget < 0:
            raise ValueError(f"budget is {self.budget}; it must be 0 or more")

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        row = {name: value for name, value in row.items() if name not in RETIRED}
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(row) - known)
        if unknown:
            raise ValueError(f"config has no setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        row = {**row, **{name: tuple(row[name]) for name in ("levels", "attack_levels") if name in row}}
        return cls(**row)

    @classmethod
    def load(cls, path: Path) -> Self:
        try:
            return cls.from_json(json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise ValueError(f"{path} is missing: a run folder starts with its config.json") from error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def with_changes(self, **changes: Any) -> Self:
        return replace(self, **changes)


def _is_model(name: str) -> bool:
    """A name without a scheme may be a folder or a Hub id; an endpoint must say which of its models is meant."""
    address, _, model = name.partition("#")
    return "://" not in address or (address.startswith(("http://", "https://")) and bool(model))


def profile_defaults(profile: str) -> dict[str, Any]:
    """Settings that differ from RoundConfig's defaults for a profile (ours, chosen for two CPU cores)."""
    if profile == "tiny":
        return {
            "profile": "tiny", "learner": "tiny", "attacks": 48, "lookalikes": 8, "competence": 10,
            "max_new_tokens": 12, "budget": 12, "sft_steps": 4, "preference_steps": 2, "batch": 4, "attacker_steps": 2,
            "chat_replay": 8, "probes": 8, "competence_probes": 2, "probe_tokens": 8, "replay": 8,
            "general_learning_rate": 5e-3,
        }  # fmt: skip
    if profile == "laptop":
        # A model of 135M parameters solves two thirds of level 1 and hardly anything above level 2; annealing adds.
        return {"profile": "laptop", "dtype": "auto", "levels": (1, 2)}
    if profile == "gpu":
        return {
            "profile": "gpu", "dtype": "bfloat16", "attacks": 256, "lookalikes": 128, "competence": 100,
            "max_new_tokens": 256, "chunk": 64, "budget": 64, "batch": 32, "sft_steps": 120,
            "preference_steps": 40, "probes": 120, "competence_probes": 40, "probe_tokens": 160, "replay": 1600,
            "learning_rate": 1e-3, "general_learning_rate": 1e-4,
        }  # fmt: skip
    raise ValueError(f"profile {profile!r} is not one of {', '.join(PROFILES)}")
