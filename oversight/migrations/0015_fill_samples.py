"""Samples get copies of their query's operator and level, and what the critic called each answer."""

from itertools import groupby, islice

from django.db import migrations
from django.db.models import OuterRef, Subquery

from oversight.models.samples import call_letter

BATCH = 1_000


def fill(apps, schema_editor):
    Query, Sample, Critique = (apps.get_model("oversight", name) for name in ("Query", "Sample", "Critique"))
    asked = Query.objects.filter(pk=OuterRef("query"))
    Sample.objects.update(operator=Subquery(asked.values("operator")), level=Subquery(asked.values("level")))
    rows = Critique.objects.order_by("sample_id", "response_index").values_list(
        "sample_id", "response_index", "status", "violation"
    )
    samples = (
        Sample(pk=sample, calls=_write(list(found)))
        for sample, found in groupby(rows.iterator(chunk_size=BATCH), key=lambda row: row[0])
    )
    while batch := list(islice(samples, BATCH)):
        Sample.objects.bulk_update(batch, ["calls"])


def _write(rows):
    letters = {index: call_letter(violation if status == "ok" else None) for _, index, status, violation in rows}
    return "".join(letters.get(index, "?") for index in range(max(letters) + 1))[:16]


class Migration(migrations.Migration):
    dependencies = [("oversight", "0014_checkpoints")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
