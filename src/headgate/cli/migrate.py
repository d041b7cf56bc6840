"""`headgate migrate`."""

from __future__ import annotations

import os
import sys

import typer

from headgate.cli.options import Data
from headgate.kit import log, settings
from headgate.main.installation import open_for_command

app = typer.Typer(add_completion=False)


@app.command()
def migrate(data: Data = None) -> None:
    """Bring the database to this version's schema, as a start would, and end."""
    loaded = settings.load(os.environ, data=data)
    log.configure(sys.stderr, level=loaded.log_level)
    installation = open_for_command(loaded, "headgate migrate")
    installation.close()
    typer.echo(f"The database {installation.database.name} is up to date.")
