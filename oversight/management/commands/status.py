"""`manage.py status [--json]`"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from oversight.selectors.status import read_status


class Command(BaseCommand):
    help = "Rounds with their counts and times, the review queue, workers, broker and database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--limit", type=int, default=20, help="rounds shown, newest first")

    def handle(self, *args: Any, **options: Any) -> None:
        report = read_status(limit=options["limit"])
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=1))
            return
        for line in describe(report):
            self.stdout.write(line)


def describe(report: dict[str, Any]) -> list[str]:
    """The report as lines for a terminal."""
    lines = []
    for name in ("database", "broker"):
        part = report[name]
        lines.append(f"{name:<10}{part['at']}  " + ("answers" if part["answers"] else f"NO ANSWER: {part['error']}"))
    for queue, names in report["broker"].get("workers", {}).items():
        waiting = report["broker"]["messages"][queue]
        lines.append(f"{'worker':<10}{queue}: {', '.join(names) or 'NOBODY LISTENS'}; {waiting} messages wait")
    if "queue" in report:
        queue = report["queue"]
        lines.append(f"{'review':<10}{queue['waiting']} wait, {queue['decided']} decided, {queue['skipped']} skipped")
    for round in report.get("rounds", []):
        lines += _describe_round(round)
    return lines


def _describe_round(round: dict[str, Any]) -> list[str]:
    running = round["status"] in ("proposing", "learning") and round["stage"]
    where = f" ({round['stage']} {round['done']}/{round['total']})" if running else ""
    lines = [
        f"{'round':<10}{round['experiment']} #{round['number']}  {round['status']}{where}  "
        f"{round['samples']} samples, {round['flagged']} flagged, {round['decided']} decided, {round['waiting']} wait"
    ]
    times = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in round["stage_seconds"].items())
    if times:
        lines.append(f"{'':<10}seconds: {times}")
    if round["reason"]:
        lines.append(f"{'':<10}{round['reason']}")
    return lines
