"""What 0002 added to rows that were there before: copies on the sample, and the evidence of labels."""

from django.db import migrations
from django.db.models import OuterRef, Subquery

BATCH = 500


def fill(apps, schema_editor):
    Sample, Query, Round = (apps.get_model("oversight", name) for name in ("Sample", "Query", "Round"))
    query = Query.objects.filter(pk=OuterRef("query_id"))
    Sample.objects.update(
        experiment_id=Subquery(Round.objects.filter(pk=OuterRef("round_id")).values("experiment_id")[:1]),
        kind=Subquery(query.values("kind")[:1]),
        category=Subquery(query.values("category")[:1]),
        principle=Subquery(query.values("principle")[:1]),
    )
    Label = apps.get_model("oversight", "Label")
    changed = []
    for label in Label.objects.prefetch_related("reviews").iterator(chunk_size=BATCH):
        reviews = sorted(label.reviews.all(), key=lambda review: (review.created_at, review.pk))
        label.evidence = [str(review.pk) for review in reviews]
        rewriting = [review.rewrite_of for review in reviews if review.action == "rewrite"]
        label.rewrite_of = rewriting[-1] if label.rewrite and rewriting else None
        label.how = "single" if len(reviews) < 2 else "agreed"
        changed.append(label)
    Label.objects.bulk_update(changed, ["evidence", "rewrite_of", "how"], batch_size=BATCH)
    # What finished rounds had learnt from: the labels of their own samples.
    TrainedOn = apps.get_model("oversight", "TrainedOn")
    used = Label.objects.filter(sample__round__checkpoints__role="learner").values_list("sample_id", "sample__round_id")
    TrainedOn.objects.bulk_create(
        [TrainedOn(sample_id=sample, round_id=round_id) for sample, round_id in used], batch_size=BATCH
    )


class Migration(migrations.Migration):
    dependencies = [("oversight", "0002_workbench")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
