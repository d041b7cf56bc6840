"""`headgate version`."""

from __future__ import annotations

import typer

from headgate import __version__

app = typer.Typer(add_completion=False)


@app.command()
def version() -> None:
    """Print the version of Headgate."""
    typer.echo(__version__)
