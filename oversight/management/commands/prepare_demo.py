"""`manage.py prepare_demo`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from oversight.services import demo


class Command(BaseCommand):
    help = 'On an empty database: the administrator and the experiment "Laptop demo" with constitution and seeds.'

    def handle(self, *args: Any, **options: Any) -> None:
        experiment = demo.make_demo()
        if experiment is None:
            self.stdout.write("There is an experiment already; nothing was made.")
        else:
            self.stdout.write(f'"{experiment}" is made, with {experiment.seeds.count()} seeds.')
