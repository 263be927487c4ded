"""`manage.py up`: the same as `make run` once everything is installed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from oversight import supervisor


class Command(BaseCommand):
    help = "Starts the broker, the web server and the workers on this machine, and keeps them up until Ctrl-C."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        supervisor.main()
