"""`headgate organizations`: create and list organizations."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.accounts.model import Role
from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Create and list organizations.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    data: Data = None,
    as_json: Json = False,
    *,
    owner_email: Annotated[
        str | None, typer.Option(help="E-mail of the person to invite as its owner.")
    ] = None,
) -> None:
    """Create an organization and print its owner's invitation, which is not shown again."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        invitations = application.invitations
        made = application.accounts.create_organization(connection, name, by=COMMAND_LINE)
        if owner_email is None:
            issued = invitations.create_for_owner(connection, made.id, by=COMMAND_LINE)
        else:
            issued = invitations.create(
                connection,
                made.id,
                owner_email,
                role=Role.OWNER,
                by=COMMAND_LINE,
                by_role=Role.OWNER,
                param="owner_email",
            )
    if as_json:
        output = {"organization": made, "owner_invitation_token": issued.token}
        typer.echo(msgspec.json.encode(output))
        return
    typer.echo(issued.token)
    typer.echo(
        f"{made.id} ({made.name}) is created. The line above invites its owner until "
        f"{format_time(issued.invitation.expires_at)} UTC (docs/people.md); it is not shown again.",
        err=True,
    )


@app.command("list")
def list_organizations(data: Data = None, as_json: Json = False) -> None:
    """List every organization, oldest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        organizations = application.accounts.list_organizations(connection)
    if as_json:
        typer.echo(msgspec.json.encode(organizations))
        return
    table = Table("Id", "Name", "Created", "Suspended")
    for each in organizations:
        suspended = format_time(each.suspended_at)
        table.add_row(each.id, each.name, format_time(each.created_at), suspended)
    print_table(table)
