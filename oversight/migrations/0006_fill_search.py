"""Makes the samples findable that were there before 0005."""

from itertools import islice

from django.db import migrations

from oversight.search import BATCH, CELL, make_text


def fill(apps, schema_editor):
    Sample, Cell, SampleText = (apps.get_model("oversight", name) for name in ("Sample", "Cell", "SampleText"))
    cells = Sample.objects.order_by().values(*CELL).distinct()
    Cell.objects.bulk_create([Cell(**cell) for cell in cells.iterator()], batch_size=BATCH)
    rows = Sample.objects.select_related("query").order_by("-experiment_id", "created_at", "id").iterator(BATCH)
    while batch := list(islice(rows, BATCH)):
        SampleText.objects.bulk_create(
            [SampleText(sample_id=sample.pk, text=make_text(sample, sample.query.text)) for sample in batch]
        )


class Migration(migrations.Migration):
    dependencies = [("oversight", "0005_search")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
