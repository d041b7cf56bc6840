"""`headgate init`: create the data directory and the first owner, also while a server runs."""

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
    email: Annotated[
        str | None, typer.Option(help="E-mail of the owner. [default: prompt]")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the owner. [default: the e-mail]")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing if there is an owner already.")
    ] = False,
) -> None:
    """Create the first owner, who also becomes the operator of this installation."""
    settings = load_settings(data)
    application = open_application_for_command(settings, "headgate init")
    try:
        prepare_first_start(application)
        with application.database.reading() as connection:
            has_owner = application.first_owner.exists(connection)
        if has_owner and if_missing:
            typer.echo("There is an owner already. Nothing was done.", err=True)
            return
        address = "" if has_owner else ask_email(email)
        hashed = "" if has_owner else ask_password_hash(address, from_stdin=password_stdin)
        with application.database.transaction(exclusive=True) as connection:
            person = application.first_owner.create(
                connection, email=address, name=name or address, password_hash=hashed
            )
    finally:
        application.close()
    typer.echo(f"{person.email} owns the first organization and operates this installation.")
