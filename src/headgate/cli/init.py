"""`headgate init`: the data directory and its first owner, before or beside a running server."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate.cli.data_directory import load_settings
from headgate.cli.options import Data
from headgate.cli.passwords import ask_email, ask_password_hash
from headgate.main.application import open_application_for_command
from headgate.main.first_start import prepare_first_start

app = typer.Typer(add_completion=False)


@app.command()
def init(
    data: Data = None,
    *,
    email: Annotated[str | None, typer.Option(help="Of the first owner; else asked for.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the first owner; else the e-mail.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing where there is somebody already.")
    ] = False,
) -> None:
    """Make the first owner, who is the operator of this installation as well."""
    loaded = load_settings(data)
    application = open_application_for_command(loaded, "headgate init")
    try:
        prepare_first_start(application)
        with application.database.reading() as connection:
            is_done = application.first_owner.exists(connection)
        if is_done and if_missing:
            typer.echo("There is an owner already; nothing was done.", err=True)
            return
        address = "" if is_done else ask_email(email)
        hashed = "" if is_done else ask_password_hash(address, from_stdin=password_stdin)
        with application.database.transaction(exclusive=True) as connection:
            person = application.first_owner.create(
                connection, email=address, name=name or address, password_hash=hashed
            )
    finally:
        application.close()
    typer.echo(f"{person.email} owns the first organization and operates this installation.")
