"""The indexes behind /samples/: cells, orders, and the full-text index of each database."""

import django.db.models.deletion
from django.db import OperationalError, migrations, models, transaction

# SQLite: an FTS5 table that keeps no copy of the text; triggers keep it in step with oversight_sampletext, whoever
# writes there. The tokens are made by oversight.search, so "ascii" has nothing to fold: it splits at spaces.
FTS5 = """
CREATE VIRTUAL TABLE oversight_search USING fts5(
  text, content='oversight_sampletext', content_rowid='id', tokenize='ascii', detail=none, columnsize=0
)
"""
TRIGGERS = (
    """
    CREATE TRIGGER oversight_search_added AFTER INSERT ON oversight_sampletext BEGIN
      INSERT INTO oversight_search(rowid, text) VALUES (new.id, new.text);
    END
    """,
    """
    CREATE TRIGGER oversight_search_removed AFTER DELETE ON oversight_sampletext BEGIN
      INSERT INTO oversight_search(oversight_search, rowid, text) VALUES ('delete', old.id, old.text);
    END
    """,
    """
    CREATE TRIGGER oversight_search_changed AFTER UPDATE ON oversight_sampletext BEGIN
      INSERT INTO oversight_search(oversight_search, rowid, text) VALUES ('delete', old.id, old.text);
      INSERT INTO oversight_search(rowid, text) VALUES (new.id, new.text);
    END
    """,
)
# PostgreSQL: the same tokens as lexemes, and one more for the block of ids that the row lies in (search.BLOCK),
# so that the newest finds of a frequent word can be read block by block. Without fastupdate a search never has to
# go through what was not merged yet.
TSVECTOR = (
    """
    ALTER TABLE oversight_sampletext ADD COLUMN tokens tsvector GENERATED ALWAYS AS (
      array_to_tsvector(string_to_array(text, ' ') || ('\u00a7' || (id / 32768)::text))
    ) STORED
    """,
    "CREATE INDEX sampletext_tokens ON oversight_sampletext USING gin (tokens) WITH (fastupdate = off)",
)


def create_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in TSVECTOR:
            schema_editor.execute(statement)
        return
    try:
        with transaction.atomic():
            schema_editor.execute(FTS5)
    except OperationalError:
        return  # this SQLite has no FTS5: the search reads the texts themselves, and the page says so
    for statement in TRIGGERS:
        schema_editor.execute(statement)


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE oversight_sampletext DROP COLUMN tokens")
        return
    for name in ("added", "removed", "changed"):
        schema_editor.execute(f"DROP TRIGGER IF EXISTS oversight_search_{name}")
    schema_editor.execute("DROP TABLE IF EXISTS oversight_search")


class Migration(migrations.Migration):
    dependencies = [("oversight", "0004_finish_workbench")]
    operations = [
        migrations.CreateModel(
            name='Cell',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=12)),
                ('category', models.CharField(blank=True, max_length=40)),
                ('principle', models.CharField(blank=True, max_length=60)),
                ('flag_reason', models.CharField(blank=True, max_length=20)),
            ],
        ),
        migrations.RemoveIndex(
            model_name='sample',
            name='sample_recent',
        ),
        migrations.RemoveIndex(
            model_name='sample',
            name='sample_gold',
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(fields=['experiment', '-created_at', '-id'], name='sample_recent'),
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(fields=['experiment', 'status', '-created_at', '-id'], name='sample_status'),
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(fields=['round', 'kind', 'category', 'principle', 'flag_reason', 'status', '-created_at', '-id'], name='sample_cell'),
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(condition=models.Q(('gold', True)), fields=['experiment', '-created_at', '-id'], name='sample_gold'),
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(condition=models.Q(('disputed', True)), fields=['experiment', '-created_at', '-id'], name='sample_disagreed'),
        ),
        migrations.AddIndex(
            model_name='sample',
            index=models.Index(condition=models.Q(('assigned_to__isnull', False)), fields=['assigned_to', '-created_at', '-id'], name='sample_assigned'),
        ),
        migrations.AddField(
            model_name='cell',
            name='round',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='oversight.round'),
        ),
        migrations.AddConstraint(
            model_name='cell',
            constraint=models.UniqueConstraint(fields=('round', 'kind', 'category', 'principle', 'flag_reason'), name='one_cell'),
        ),
        # Rows that are there already carry no tokens yet: 0006 writes them.
        migrations.RunSQL("DELETE FROM oversight_sampletext", migrations.RunSQL.noop),
        migrations.RunPython(create_index, drop_index),
    ]
