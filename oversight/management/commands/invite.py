"""`manage.py invite USER --role ROLE`"""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from oversight.models import Role
from oversight.services import accounts, people


class Command(BaseCommand):
    help = "Makes an account, or gives an existing one a role, and prints a link that signs the person in once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")
        parser.add_argument("--role", choices=[role.value for role in Role], default=Role.REVIEWER.value)
        port = os.environ.get("PORT", "8000")
        parser.add_argument("--base-url", default=f"http://localhost:{port}", help="address at which people reach it")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["base_url"].startswith(("http://", "https://")):
            raise CommandError(f"--base-url is {options['base_url']!r}; it must start with http:// or https://")
        try:
            user = people.invite_user(username=options["user"], role=Role(options["role"]), actor="command line")
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(accounts.make_sign_in_link(user=user, base_url=options["base_url"]))
