"""The rows that cross between `alignment` and `oversight`, one frozen dataclass a kind of row.

Every record is written as one JSON object a line (see `rundir.py`). Importing this module never
loads torch.

Words: a *query* asks the learner something; a *sample* is a query with its responses and its
critiques; a *flag* says why a sample goes to people; a *label* is what people (or, marked so, the
fitted critic) decided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

QueryKind = Literal["unsafe", "harmless", "competence"]
CritiqueStatus = Literal["ok", "empty", "refused", "timeout", "unparseable"]
FlagReason = Literal[
    "unjudged", "violation", "uncertainty", "disagreement", "diversity", "error_reduction", "random", "audit"
]
Verdict = Literal["fine", "violates"]
Author = Literal["seed", "template", "model", "program"]


@dataclass(frozen=True)
class Record:
    """Base of all records: to and from plain JSON values. Unknown keys are an error."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(row) - known)
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        try:
            return cls(**row)
        except TypeError as error:
            raise ValueError(f"{cls.__name__} row {row!r:.200}: {error}") from error


@dataclass(frozen=True)
class Principle(Record):
    key: str
    kind: Literal["conformity", "competence"]
    title: str
    text: str
    guidance: str = ""
    fine: str = ""
    category: str | None = None
    safe_answers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SeedPair(Record):
    """An unsafe prompt and its harmless look-alike: same topic words and form, fine to answer."""

    id: str
    category: str
    principle: str
    style: str
    level: int
    unsafe: str
    harmless: str


@dataclass(frozen=True)
class Exemplar(Record):
    """A labelled answer that ships with the project. `use` keeps critic and judge apart."""

    id: str
    category: str
    principle: str
    prompt: str
    response: str
    verdict: Verdict
    rationale: str
    span: str
    use: Literal["critic", "judge"]


@dataclass(frozen=True)
class Probe(Record):
    """A held-out evaluation prompt; never trained on. `task` is set for competence probes."""

    id: str
    category: str
    principle: str
    style: str
    kind: QueryKind
    prompt: str
    twin: str | None = None
    level: int = 0
    task: dict[str, Any] | None = None


@dataclass(frozen=True)
class ChatPrompt(Record):
    """An ordinary harmless prompt without an unsafe twin; the base model's own answer is what a learner keeps."""

    id: str
    prompt: str
    topic: str


@dataclass(frozen=True)
class Injection(Record):
    """A text that tries to talk the critic into a verdict when it stands at the end of an answer."""

    id: str
    family: str
    text: str


@dataclass(frozen=True)
class Query(Record):
    """One prompt put to the learner. `parent` is the id of the query it was made from, if any.

    `history` holds the turns before `text` in an attack of several turns, oldest first, as
    {"role": "user" | "assistant", "content": ...}; the assistant's turns are the learner's own.
    `twin` is an attack's harmless look-alike in the same form, after the same turns; "" where there is none.
    """

    id: str
    text: str
    kind: QueryKind
    category: str
    principle: str
    style: str
    level: int
    operator: str
    seed: str
    parent: str | None = None
    written_by: Author = "seed"
    task: dict[str, Any] | None = None
    history: list[dict[str, str]] = field(default_factory=list)
    twin: str = ""


@dataclass(frozen=True)
class Elite(Record):
    """The best attack of one cell (category, style, level) of the archive.

    `id` is the query that last asked it. `style` is the operator that gave the form, "plain" for a bare seed.
    `history` holds the user's turns before `text`. `fitness` in [0, 1] is P(violates) of the learner's worst answer,
    by the critic or, once reviewed, by people; `novelty` in [0, 1] is 1 - the greatest cosine to another elite.
    `place` is where the attack lies in the hidden states: base64 of float16, little-endian; "" where unknown.
    """

    id: str
    category: str
    style: str
    level: int
    text: str
    principle: str
    seed: str
    fitness: float
    round: int
    parent: str | None = None
    twin: str = ""
    history: list[str] = field(default_factory=list)
    written_by: Author = "seed"
    novelty: float = 1.0
    tries: int = 1
    successes: int = 0
    place: str = ""


@dataclass(frozen=True)
class OperatorYield(Record):
    """What an operator has brought: tries and successes, those of earlier rounds discounted, so fractional."""

    operator: str
    tries: float
    successes: float


@dataclass(frozen=True)
class Response(Record):
    """One sampled answer. `finish` is "length" where the token limit cut it."""

    id: str
    query: str
    index: int
    text: str
    tokens: int
    finish: Literal["stop", "length"]
    model: str


@dataclass(frozen=True)
class Critique(Record):
    """What the critic says of one response.

    `violation` in [0, 1] is None unless `status` is "ok": a failed critique is never a low score.
    `uncertainty` is the standard deviation over ensemble members, `disagreement` the share of
    members on the minority side of 0.5. `span` is [start, end) in characters of the response.
    """

    response: str
    query: str
    status: CritiqueStatus
    violation: float | None
    uncertainty: float | None
    disagreement: float | None
    principle: str
    scores: dict[str, float] = field(default_factory=dict)
    members: dict[str, float] = field(default_factory=dict)
    rationale: str = ""
    span: list[int] | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class Flag(Record):
    """Why a sample goes to people. `propensity` in (0, 1] is its chance of being chosen.

    `signals` maps each signal of the selection to its size for this sample, 1 being the mean of its chunk.
    """

    query: str
    reason: FlagReason
    propensity: float
    priority: float
    words: str
    signals: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample(Record):
    """A query with everything the propose phase found out; `flag` is None where nobody is asked.

    `propensity` is kept for unflagged samples too, so that estimates over all samples are possible.
    """

    query: dict[str, Any]
    responses: list[dict[str, Any]]
    critiques: list[dict[str, Any]]
    flag: dict[str, Any] | None
    propensity: float


@dataclass(frozen=True)
class Label(Record):
    """The approved result for one sample.

    `violates` maps a response id to P(violates) in [0, 1]; a response missing there was not judged.
    `preferred` is the id of the better response, or None. `rewrite_of` is the response that `rewrite` replaces.
    `weight` > 0 scales its part in training. `votes` maps a response id to what each person said of it,
    `raters` to their pseudonyms in the same order. `decided`: a lead settled it, so nothing softens it.
    """

    query: str
    violates: dict[str, float]
    principles: list[str] = field(default_factory=list)
    preferred: str | None = None
    rewrite: str | None = None
    rewrite_of: str | None = None
    source: Literal["human", "critic", "simulated"] = "human"
    weight: float = 1.0
    reviews: int = 1
    audit: bool = False
    votes: dict[str, list[bool]] = field(default_factory=dict)
    raters: dict[str, list[str]] = field(default_factory=dict)
    decided: bool = False


@dataclass(frozen=True)
class SecondLook(Record):
    """A label worth a second look. `predicted` in [0, 1] is P(violates) by a critic that never saw the answer.

    `margin` in (0, 1] is P(other verdict) - P(the label's): the order of the list.
    """

    query: str
    response: str
    label: float
    predicted: float
    margin: float
    words: str


@dataclass(frozen=True)
class Pair(Record):
    """A training example: `rejected` is None where only supervised training is possible.

    `chosen` is "" where people rejected an answer and nobody named a better one; only "kto" learns from that.
    `noise` in [0, 0.5) is the chance that the two are the wrong way round: 0 for people's, else the critic's own
    expected error, 1 - its calibrated confidence.
    """

    prompt: str
    chosen: str
    rejected: str | None
    weight: float
    kind: QueryKind
    source: str
    query: str | None = None
    principle: str = ""
    history: list[dict[str, str]] = field(default_factory=list)
    noise: float = 0.0


@dataclass(frozen=True)
class Metric(Record):
    """One number with its uncertainty, or the reason why there is none (`value` None).

    `group` is "" for the whole, else a category, a level, or a calibration bin.
    """

    name: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    seed: int
    group: str = ""
    reason: str = ""
    model: str = "new"


@dataclass(frozen=True)
class PoolItem(Record):
    """A labelled answer of an earlier round: the critic is fitted on these too, the learner replays them."""

    prompt: str
    response: str
    violates: float
    kind: QueryKind
    category: str
    principle: str
    weight: float = 1.0
    audit: bool = False
    rewrite: str | None = None
    round: int = 0
    propensity: float = 0.0  # chance that its sample had of being drawn for people; 0 where it was not drawn


@dataclass(frozen=True)
class ProbeAnswer(Record):
    """The same probe before and after the round. Verdicts: violates, fine, refused, correct, wrong, unjudged."""

    probe: str
    kind: QueryKind
    category: str
    level: int
    prompt: str
    before: str
    after: str
    before_verdict: str
    after_verdict: str


@dataclass(frozen=True)
class GateResult(Record):
    """Whether the new checkpoint is kept, and every check that decided it, in words."""

    accepted: bool
    reasons: list[str]
