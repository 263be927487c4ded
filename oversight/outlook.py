"""What the next reviews of a round would buy while people review it: its labels so far -> `alignment.stopping`.

The science is numpy alone here, imported when a page first asks.
"""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import UUID

from django.db.models import OuterRef, Subquery, UUIDField

from oversight.models import Label, Round, Sample
from oversight.selectors.outlook import RATE, TITLES, Forecast, read_forecasts

SECONDS = 10.0  # a forecast of as many labels is kept so long: every open page asks for it
_kept: dict[UUID, tuple[float, int, Forecast]] = {}  # round -> (until when, its labels, the forecast)


def read_outlook(round: Round, *, labels: int) -> list[Forecast]:
    """Rate and critic: measured by the round itself once it has learnt; before, the rate from its `labels` so far
    and the critic from the newest earlier round. Two queries at most."""
    rate, critic = read_forecasts(round.experiment_id, upto=round.number)
    if round.number in (rate.round, critic.round):
        return [rate, critic]
    return [_from_labels(round, labels), critic]


def _from_labels(round: Round, labels: int) -> Forecast:
    now = time.monotonic()
    until, counted, kept = _kept.get(round.pk, (0.0, -1, None))
    if kept is not None and counted == labels and now < until:
        return kept
    found = forecast_width(round)
    for pk in [pk for pk, (end, _, _) in _kept.items() if end < now]:
        del _kept[pk]
    _kept[round.pk] = (now + SECONDS, labels, found)
    return found


def forecast_width(round: Round) -> Forecast:
    """From the round's labels and the chance each sample had of being asked about. One query."""
    from alignment.metrics.estimates import weighted_rate
    from alignment.stopping import expected_width

    # From the labels, of which there are few, to their samples: the other way every sample would be read.
    mine = Sample.objects.filter(pk=OuterRef("sample"))
    rows = (
        Label.objects.annotate(
            of_round=Subquery(mine.values("round"), output_field=UUIDField()),
            chance=Subquery(mine.values("propensity")),
        )
        .filter(of_round=round.pk)
        .order_by("sample")
        .values_list("sample", "violates", "chance")
    )
    judged = [(sample, p, chance) for sample, violates, chance in rows if chance > 0 for p in violates.values()]
    samples = [str(sample) for sample, _, _ in judged]
    rate = weighted_rate(
        "violation_rate_weighted", [p for _, p, _ in judged], [chance for *_, chance in judged], clusters=samples
    )
    _, after = expected_width(rate, len(set(samples)))
    base = Forecast(TITLES[RATE], source="from the labels so far, weighted by 1/propensity")
    return replace(base, reason=after.reason) if after.value is None else replace(base, words=after.reason)
