"""The commands of `headgate secrets`: store, list and remove values that credentials refer to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.accounts.model import AccountNotFoundError
from headgate.audit.model import COMMAND_LINE
from headgate.cli.credentials import read_secret
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.main.application import Application
from headgate.vault.model.secret import SecretRequest

LISTED_MAX = 10_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Store, list and remove secrets, to which credentials refer as {{vault:name}}.",
)

Name = Annotated[str, typer.Argument(help="Name of the secret.")]
Owner = Annotated[
    str | None,
    typer.Option("--organization", help="Id or name of the organization. Default: the oldest."),
]


@app.command("set")
def store(
    name: Name,
    data: Data = None,
    *,
    value_stdin: Annotated[
        bool, typer.Option("--value-stdin", help="Read the value from standard input.")
    ] = False,
    value_file: Annotated[
        Path | None, typer.Option(help="Read the value from a file, `-` is standard input.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Only address that it is sent to. Default: the integration's address."),
    ] = None,
    organization: Owner = None,
) -> None:
    """Store a value, or replace the value of that name. It is never shown again."""
    value = read_secret(stdin=value_stdin, file=value_file, option="value")
    with open_data_directory(data) as application, application.database.transaction() as connection:
        request = SecretRequest(
            organization_id=find_owner(application, connection, organization),
            project_id=None,
            name=name,
            value=value,
            base_url=base_url,
        )
        service = application.unlock(connection).secrets
        record = service.put(connection, request, by=COMMAND_LINE)
    typer.echo(f"{record.name} ({record.hint}) is sealed.")


@app.command("list")
def list_secrets(data: Data = None, as_json: Json = False, organization: Owner = None) -> None:
    """List the secrets of an organization, without their values."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = find_owner(application, connection, organization)
        service = application.unlock(connection).secrets
        records, _ = service.list(connection, owner, None, limit=LISTED_MAX, offset=0)
    if as_json:
        typer.echo(msgspec.json.encode(records))
        return
    table = Table("Name", "Begins with", "Sent to", "Changed")
    for record in records:
        sent_to = record.origin or "the integration's own address"
        table.add_row(record.name, record.hint, sent_to, format_time(record.updated_at))
    print_table(table)


@app.command()
def remove(name: Name, data: Data = None, organization: Owner = None) -> None:
    """Delete a value for good. Credentials that refer to it fail afterwards."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = find_owner(application, connection, organization)
        service = application.unlock(connection).secrets
        service.remove(connection, owner, None, name=name, by=COMMAND_LINE)
    typer.echo(f"{name} is removed.")


def find_owner(
    application: Application, connection: sa.Connection, organization: str | None
) -> str:
    """Find an organization by id or name; without one, return the oldest.

    Raise `AccountNotFoundError`.
    """
    known = application.accounts.list_organizations(connection)
    found = [each.id for each in known if organization in (None, each.id, each.name)]
    if not found:
        raise AccountNotFoundError(f"There is no organization {organization!r}.")
    return found[0]
