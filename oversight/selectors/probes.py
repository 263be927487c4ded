"""The same probe over all rounds of an experiment: the list with a strip of verdicts, and one with every answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from oversight.models import Checkpoint, Experiment, ProbeAnswer

KINDS = ("unsafe", "harmless", "competence")
CHANGES = ("changed", "better", "worse", "same")
LEVELS = (1, 2, 3, 4, 5)
GOOD, BAD = ("fine", "refused", "correct"), ("violates", "wrong")


@dataclass(frozen=True)
class ProbeSearch:
    """The only filters there are; a value outside its set counts as not given."""

    kind: str = ""
    category: str = ""
    level: int | None = None
    change: str = ""  # of the verdict, from the base model to the newest kept model
    text: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> ProbeSearch:
        def clean(name: str, most: int) -> str:
            return query.get(name, "").replace("\x00", "").encode("utf-8", "ignore").decode().strip()[:most]

        level = query.get("level", "")
        return cls(
            kind=query.get("kind", "") if query.get("kind", "") in KINDS else "",
            category=clean("category", 40),
            level=int(level) if level in map(str, LEVELS) else None,
            change=query.get("change", "") if query.get("change", "") in CHANGES else "",
            text=clean("text", 200),
        )

    def link(self) -> str:
        return urlencode({name: value for name, value in vars(self).items() if value not in ("", None)})


@dataclass(frozen=True)
class Step:
    """A verdict after a round; number 0 is the model before the first round that asked the probe."""

    number: int
    verdict: str
    kept: bool  # False where the gate rolled the round's checkpoint back
    good: bool | None  # None: unjudged


@dataclass
class ProbeRow:
    """A probe of the list: what it is, and its verdict over the rounds."""

    probe: str
    kind: str
    category: str
    level: int
    steps: list[Step] = field(default_factory=list)
    prompt: str = ""

    @property
    def change(self) -> str:
        """From the first verdict to that of the newest kept model: one of CHANGES but "changed"."""
        kept = [step for step in self.steps if step.kept]
        first, last = kept[0], kept[-1]
        if first.good == last.good or first.good is None or last.good is None:
            return "same" if first.verdict == last.verdict else "other"
        return "better" if last.good else "worse"


def judge_verdict(verdict: str, kind: str) -> bool | None:
    """Whether a verdict is good; refusing a harmless probe is a fault, and an unjudged answer is neither."""
    if kind == "harmless" and verdict == "refused":
        return False
    return True if verdict in GOOD else False if verdict in BAD else None


def list_kept(experiment: Experiment) -> set[int]:
    """Numbers of the rounds whose learner the gate accepted."""
    accepted = Checkpoint.objects.filter(
        experiment=experiment, role=Checkpoint.Role.LEARNER, verdict=Checkpoint.Verdict.ACCEPTED
    )
    return set(accepted.values_list("round__number", flat=True))


def list_probes(experiment: Experiment, wanted: ProbeSearch) -> list[ProbeRow]:
    """Every probe that fits, without its prompt; two queries. The texts of the answers are not read."""
    answers = ProbeAnswer.objects.filter(round__experiment=experiment)
    for name in ("kind", "category"):
        if getattr(wanted, name):
            answers = answers.filter(**{name: getattr(wanted, name)})
    if wanted.level is not None:
        answers = answers.filter(level=wanted.level)
    if wanted.text:
        named = answers.filter(prompt__icontains=wanted.text) | answers.filter(probe__icontains=wanted.text)
        answers = answers.filter(probe__in=named.values("probe"))
    kept = list_kept(experiment)
    rows: dict[str, ProbeRow] = {}
    told = answers.order_by("round__number").values_list(
        "probe", "kind", "category", "level", "round__number", "before_verdict", "after_verdict"
    )
    for probe, kind, category, level, number, before, after in told.iterator(chunk_size=5_000):
        row = rows.get(probe)
        if row is None:
            row = rows[probe] = ProbeRow(probe, kind, category, level)
            row.steps.append(Step(0, before, True, judge_verdict(before, kind)))
        row.steps.append(Step(number, after, number in kept, judge_verdict(after, kind)))
    found = sorted(rows.values(), key=lambda row: (KINDS.index(row.kind) if row.kind in KINDS else 9, row.category,
                                                   row.level, row.probe))  # fmt: skip
    if not wanted.change:
        return found
    fits = {"better": ("better",), "worse": ("worse",), "same": ("same",), "changed": ("better", "worse", "other")}
    return [row for row in found if row.change in fits[wanted.change]]


def fill_prompts(experiment: Experiment, rows: list[ProbeRow]) -> list[ProbeRow]:
    """The prompts of one page; one query."""
    prompts = dict(
        ProbeAnswer.objects.filter(round__experiment=experiment, probe__in=[row.probe for row in rows])
        .order_by("round__number")
        .values_list("probe", "prompt")
    )
    for row in rows:
        row.prompt = prompts.get(row.probe, "")
    return rows


def list_probe_categories(experiment: Experiment) -> list[str]:
    found = ProbeAnswer.objects.filter(round__experiment=experiment).order_by().values_list("category", flat=True)
    return sorted({category for category in found.distinct() if category})


def list_answers(experiment: Experiment, probe: str) -> list[ProbeAnswer]:
    """A probe's answers, a row a round, the oldest first; one query."""
    answers = ProbeAnswer.objects.filter(round__experiment=experiment, probe=probe)
    return list(answers.select_related("round").order_by("round__number"))
