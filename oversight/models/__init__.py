"""The records in the database. Rows are written by `services`, read through `selectors`."""

from oversight.models.checkpoints import Merge, Start
from oversight.models.continuous import ContinuousRun
from oversight.models.people import AuditEvent, Role, SignInLink, User
from oversight.models.reviews import Draft, Label, Lease, Postponement, Review, ReviewFigures
from oversight.models.rounds import Checkpoint, LogLine, MetricPoint, ProbeAnswer, Round
from oversight.models.samples import Cell, Critique, Query, Sample, SampleText, TrainedOn
from oversight.models.second_looks import SecondLook
from oversight.models.setup import Constitution, Experiment, Principle, Seed, UuidModel
from oversight.models.withdrawals import LabelChange, Withdrawal

__all__ = [
    "AuditEvent",
    "Cell",
    "Checkpoint",
    "Constitution",
    "ContinuousRun",
    "Critique",
    "Draft",
    "Experiment",
    "Label",
    "LabelChange",
    "Lease",
    "LogLine",
    "Merge",
    "MetricPoint",
    "Postponement",
    "Principle",
    "ProbeAnswer",
    "Query",
    "Review",
    "ReviewFigures",
    "Role",
    "Round",
    "Sample",
    "SampleText",
    "SecondLook",
    "Seed",
    "SignInLink",
    "Start",
    "TrainedOn",
    "User",
    "UuidModel",
    "Withdrawal",
]
