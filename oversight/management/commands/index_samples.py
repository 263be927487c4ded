"""`manage.py index_samples`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from oversight import search


class Command(BaseCommand):
    help = "Writes the search index of all samples anew: after rows came in by other ways than rounds."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{search.rebuild_index()} samples are indexed.")
