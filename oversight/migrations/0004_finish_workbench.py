from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oversight", "0003_fill_workbench")]
    operations = [
        migrations.RemoveField(model_name="label", name="reviews"),
        migrations.AlterField(
            model_name="sample",
            name="experiment",
            field=models.ForeignKey(
                on_delete=models.deletion.CASCADE, related_name="+", to="oversight.experiment"
            ),
        ),
    ]
