"""Withdrawals done in batches, with a row for each sample they touch. Nothing has written the old table yet."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

STATES = [("running", "Running"), ("done", "Done"), ("restoring", "Restoring"), ("restored", "Restored")]


def person(**options):
    return models.ForeignKey(to=settings.AUTH_USER_MODEL, on_delete=django.db.models.deletion.PROTECT, **options)


def part_of(model, related_name):
    return models.ForeignKey(to=model, on_delete=django.db.models.deletion.CASCADE, related_name=related_name)


class Migration(migrations.Migration):
    dependencies = [("oversight", "0006_fill_search")]
    operations = [
        migrations.DeleteModel("Withdrawal"),
        migrations.CreateModel(
            name="Withdrawal",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("reason", models.CharField(max_length=500)),
                ("reviews", models.JSONField(default=list)),
                ("state", models.CharField(choices=STATES, default="running", max_length=10)),
                ("done", models.PositiveIntegerField(default=0)),
                ("kept_out", models.PositiveIntegerField(default=0)),
                ("moved_at", models.DateTimeField()),
                ("by", person(related_name="+")),
                ("experiment", part_of("oversight.experiment", "withdrawals")),
                ("restored_by", person(null=True, related_name="+")),
                ("reviewer", person(related_name="withdrawals")),
            ],
            options={
                "ordering": ["-created_at", "-id"],
                "indexes": [models.Index(fields=["-created_at", "-id"], name="withdrawal_recent")],
            },
        ),
        migrations.CreateModel(
            name="LabelChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("status_before", models.CharField(max_length=10)),
                ("status_after", models.CharField(max_length=10)),
                ("changed", models.BooleanField()),
                ("gold_lost", models.BooleanField(default=False)),
                ("sample", part_of("oversight.sample", "label_changes")),
                ("withdrawal", part_of("oversight.withdrawal", "changes")),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=["withdrawal", "sample"], name="changed_once")],
            },
        ),
    ]
