"""What a list of samples may be asked for, as a link carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from oversight.models import Experiment, Role, Sample, User
from oversight.permissions import has_role

REASONS = ("unjudged", "violation", "uncertainty", "disagreement", "diversity", "error_reduction", "random", "audit")
KINDS = ("unsafe", "harmless", "competence")
LEVELS = (1, 2, 3, 4, 5)
Status = Sample.Status


@dataclass(frozen=True)
class SampleFilter:
    """The only filters there are. A name that is not here is ignored, so no other column can be asked for."""

    round: int | None = None  # number within the experiment
    status: str = ""
    kind: str = ""
    category: str = ""
    principle: str = ""
    operator: str = ""
    level: int | None = None
    reason: str = ""
    reviewer: str = ""  # user name: whose judgement of it stands
    assigned: str = ""  # user name
    disputed: str = ""  # "yes": its judgements contradict each other, decided or not
    gold: str = ""  # "yes"
    text: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> SampleFilter:
        """Values outside their set count as not given: an old link shows more, never an error."""

        def one_of(name: str, allowed: tuple[str, ...]) -> str:
            value = query.get(name, "")
            return value if value in allowed else ""

        def free(name: str, most: int) -> str:
            return query.get(name, "").replace("\x00", "").encode("utf-8", "ignore").decode().strip()[:most]

        number, level = query.get("round", ""), query.get("level", "")
        return cls(
            round=int(number) if number.isascii() and number.isdigit() and len(number) < 7 else None,
            status=one_of("status", tuple(Status.values)),
            kind=one_of("kind", KINDS),
            category=free("category", 40),
            principle=free("principle", 60),
            operator=free("operator", 40),
            level=int(level) if level.isascii() and level.isdigit() and len(level) < 3 else None,
            reason=one_of("reason", REASONS),
            reviewer=free("reviewer", 150),
            assigned=free("assigned", 150),
            disputed=one_of("disputed", ("yes",)),
            gold=one_of("gold", ("yes",)),
            text=free("text", 200),
        )

    def link(self) -> str:
        """The query string that gives this filter again."""
        return urlencode({name: value for name, value in vars(self).items() if value not in ("", None)})


@dataclass(frozen=True)
class Sight:
    """What a person may see in a list. `hidden` are the states of samples that they may still be asked about:
    their reasons stay back, and a dispute looks like any sample that waits."""

    user: User
    lead: bool
    hidden: tuple[str, ...]

    def shows_reason(self, sample: Sample) -> bool:
        return sample.status not in self.hidden

    def state_of(self, sample: Sample) -> str:
        return Status.QUEUED if not self.lead and sample.status == Status.DISPUTED else sample.status


def open_sight(user: User, experiment: Experiment) -> Sight:
    """Where known answers are mixed into the queue, any decided sample may be one of them."""
    if has_role(user, Role.LEAD):
        return Sight(user, True, ())
    asked = (Status.QUEUED, Status.DISPUTED)
    return Sight(user, False, (*asked, Status.DECIDED) if experiment.gold_share > 0 else asked)


@dataclass(frozen=True)
class Conditions:
    """A filter as the database takes it, without what the person may not ask."""

    experiment: Experiment
    cell: dict[str, Any]  # column of Cell -> value
    statuses: tuple[str, ...]
    form: dict[str, Any] = field(default_factory=dict)  # column of Sample -> value: operator and level, in no Cell
    reviewer: int | None = None  # ids of people
    assigned: int | None = None
    disputed: bool = False
    gold: bool = False
    nothing: bool = False  # it names a round or a person that is not there, or only what is kept back

    @property
    def status(self) -> str:
        """The one state asked for; "" for several."""
        return self.statuses[0] if len(self.statuses) == 1 else ""

    @property
    def any_status(self) -> bool:
        return len(self.statuses) == len(Status)

    @property
    def lasting(self) -> bool:
        """Whether all that is asked for never changes about a sample."""
        return self.any_status and not self.form and not (self.disputed or self.gold or self.reviewer or self.assigned)


def allow(wanted: SampleFilter, sight: Sight) -> SampleFilter:
    """The filter without what `sight` keeps back: a reviewer asks about their own judgements only."""
    if sight.lead:
        return wanted
    name = sight.user.get_username()
    return replace(
        wanted,
        status="" if wanted.status == Status.DISPUTED else wanted.status,
        reviewer=name if wanted.reviewer == name else "",
        assigned=name if wanted.assigned == name else "",
        disputed="",
        gold="",
    )


def read_conditions(experiment: Experiment, wanted: SampleFilter, sight: Sight) -> Conditions:
    """A query for the round and one for each person, where they are named."""
    wanted = allow(wanted, sight)
    cell = {
        "kind": wanted.kind,
        "category": wanted.category,
        "principle": wanted.principle,
        "flag_reason": wanted.reason,
    }
    found: dict[str, Any] = {name: value for name, value in cell.items() if value}
    form = {"operator": wanted.operator or None, "level": wanted.level}
    missing = False
    if wanted.round is not None:
        found["round_id"] = experiment.rounds.filter(number=wanted.round).values_list("pk", flat=True).first()
        missing = found["round_id"] is None
    people: dict[str, int | None] = {}
    for role in ("reviewer", "assigned"):
        name = getattr(wanted, role)
        if name:
            people[role] = User.objects.filter(username=name).values_list("pk", flat=True).first()
            missing = missing or people[role] is None
    statuses = _list_statuses(wanted, sight)
    return Conditions(
        experiment=experiment,
        cell=found,
        statuses=statuses,
        form={name: value for name, value in form.items() if value is not None},
        disputed=bool(wanted.disputed),
        gold=bool(wanted.gold),
        nothing=missing or not statuses,
        **people,
    )


def _list_statuses(wanted: SampleFilter, sight: Sight) -> tuple[str, ...]:
    """The states that fit. A reason, the critic's hint, finds nothing of what may still be asked about."""
    statuses = [wanted.status] if wanted.status else list(Status.values)
    if wanted.status == Status.QUEUED and not sight.lead:
        statuses.append(Status.DISPUTED)
    return tuple(status for status in statuses if not (wanted.reason and status in sight.hidden))
