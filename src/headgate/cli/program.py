"""The program `headgate`. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from headgate.kit import log
from headgate.kit.errors import HeadgateError

COMMANDS = (
    "serve",
    "mcp",
    "init",
    "migrate",
    "backup",
    "restore",
    "doctor",
    "organizations",
    "people",
    "keys",
    "applications",
    "credentials",
    "secrets",
    "vault",
    "models",
    "resources",
    "assets",
    "pools",
    "budgets",
    "plans",
    "wallet",
    "invoices",
    "ledger",
    "usage",
    "receipts",
    "requests",
    "prices",
    "webhooks",
    "mcp-servers",
    "audit",
    "simulate",
    "version",
)


class CommandGroup(TyperGroup):
    """Import a command by its name, and print errors as one sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command = get_command(importlib.import_module(f"headgate.cli.{module}").app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit with status 1 after a `HeadgateError`."""
        try:
            return super().invoke(ctx)
        except HeadgateError as error:
            typer.echo(f"headgate: {error.message}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    name="headgate",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def describe() -> None:
    """Headgate, a self-hosted gateway for model APIs: it checks, routes, meters and bills calls."""


def main() -> None:
    # Files that are created (keys, database, certificates) are readable by their owner only.
    os.umask(0o077)
    # Mask secrets in the log from the beginning, before a command has read its settings.
    log.configure(sys.stderr, level="info")
    log.catch_uncaught()
    sys.exit(app())
