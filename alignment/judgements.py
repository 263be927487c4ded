"""People's judgements as the figures about people need them: this module owns the types, `reliability` the sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from alignment.records import Metric, Record


@dataclass(frozen=True)
class Judgement:
    """What one person said of one sample: first, and now. Maps go from an answer's index to "it violates".

    An answer missing from a map was not judged there: a preference says nothing of the unmarked answer.
    Judgements that were withdrawn, or taken back with none in their place, are not passed at all. Late ones
    are; a lead's decisions are not, they are the `decided` of other people's judgements.
    """

    rater: str
    sample: str
    round: int  # number within the experiment
    principle: str
    purpose: Literal["review", "gold"]  # "gold" tests the rater
    blind: bool  # `first` was made before the critic's verdict was shown
    first: dict[int, bool]
    standing: dict[int, bool]  # the same as `first` where it was never revised
    critic: dict[int, bool] = field(default_factory=dict)  # its P(violates) cut at 0.5; failed critiques are missing
    decided: dict[int, bool] = field(default_factory=dict)  # by a lead, independently of the rater
    expected: dict[int, bool] = field(default_factory=dict)  # the approved label that made the sample a gold one
    seconds: float | None = None  # of activity, for `first`


@dataclass(frozen=True)
class Switch(Record):
    """A person gave up a blind verdict for the critic's. `critic_was_wrong` is None where no lead has decided."""

    sample: str
    answer: int
    critic: bool
    critic_was_wrong: bool | None


@dataclass(frozen=True)
class GoldAnswer(Record):
    """What a person said of an answer whose label was known."""

    sample: str
    answer: int
    said: bool
    expected: bool


@dataclass(frozen=True)
class Bias(Record):
    """How blind verdicts that the critic contradicts fare once it is shown (definitions in `automation_bias`)."""

    switched: Metric
    misled: Metric
    undecided: int  # switches that no lead's decision and no gold label judges


@dataclass(frozen=True)
class RaterFigures(Record):
    rater: str
    judgements: int  # samples judged, tests included
    shared: int  # answers judged blind that somebody else judged blind too
    seconds: list[float] | None  # lower quartile, median, upper quartile; None where none was measured
    gold: Metric
    sensitivity: Metric
    specificity: Metric
    bias: Bias
    golds: list[GoldAnswer]  # newest last, at most `KEPT`
    switches: list[Switch]  # newest last, at most `KEPT`


@dataclass(frozen=True)
class Figures(Record):
    """Everything computed about the people of one experiment. `to_json` gives plain values."""

    raters: list[RaterFigures]
    alpha: Metric
    alpha_by_round: list[Metric]  # group: the round's number
    alpha_by_principle: list[Metric]  # group: the principle's key
    bias: Bias
    seed: int
    draws: int  # of every bootstrap
