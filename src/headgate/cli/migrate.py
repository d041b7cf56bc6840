"""`headgate migrate`."""

from __future__ import annotations

import typer

from headgate.cli.data_directory import load_settings
from headgate.cli.options import Data
from headgate.main.application import open_application_for_command

app = typer.Typer(add_completion=False)


@app.command()
def migrate(data: Data = None) -> None:
    """Upgrade the database to the schema of this version, as a start does."""
    loaded = load_settings(data)
    application = open_application_for_command(loaded, "headgate migrate")
    application.close()
    typer.echo(f"The database {application.database.name} is up to date.")
