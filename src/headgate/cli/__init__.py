"""The command line. Each command is a module of its own, imported when it is asked for."""

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
    "init",
    "migrate",
    "backup",
    "restore",
    "doctor",
    "organizations",
    "people",
    "keys",
    "credentials",
    "secrets",
    "vault",
    "models",
    "wallet",
    "receipts",
    "prices",
    "audit",
    "simulate",
    "version",
)


class CommandGroup(TyperGroup):
    """Finds a command by the name of its module; says what is wrong in one sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of their need."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = get_command(importlib.import_module(f"headgate.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an error that says what to do ends it with status 1."""
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
    """One gate that every model call passes: checked, routed, metered, billed, proven."""


def main() -> None:
    """The program `headgate`."""
    # Whatever is written (keys, database, certificates) is for its owner alone.
    os.umask(0o077)
    # Until a command has read its settings: nothing reaches the terminal but through the masks.
    log.configure(sys.stderr, level="info")
    log.catch_uncaught()
    sys.exit(app())
