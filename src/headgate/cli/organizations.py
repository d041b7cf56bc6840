"""`headgate organizations`: create, change and list organizations."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.accounts.model import Role
from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.keys import InvalidOptionError
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Create, change and list organizations."
)


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


@app.command()
def update(
    organization: Annotated[
        str | None, typer.Argument(help="Id or name; needed where there are several.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
    *,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    reporting_zone: Annotated[
        str | None,
        typer.Option(help="Time zone of the days of its usage, such as Europe/Berlin."),
    ] = None,
) -> None:
    """Change the name or the reporting zone of an organization."""
    given = {"name": name, "reporting_zone": reporting_zone}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise InvalidOptionError("Give --name or --reporting-zone.")
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = application.accounts.find_organization(connection, organization)
        changed = application.accounts.change_organization(
            connection, found, changes, by=COMMAND_LINE
        )
    if as_json:
        typer.echo(msgspec.json.encode(changed))
        return
    typer.echo(f"{changed.id} ({changed.name}) counts days in {changed.reporting_zone}.")


@app.command("list")
def list_organizations(data: Data = None, as_json: Json = False) -> None:
    """List every organization, oldest first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        organizations = application.accounts.list_organizations(connection)
    if as_json:
        typer.echo(msgspec.json.encode(organizations))
        return
    table = Table("Id", "Name", "Created", "Suspended", "Zone")
    for each in organizations:
        suspended = format_time(each.suspended_at)
        created = format_time(each.created_at)
        table.add_row(each.id, each.name, created, suspended, each.reporting_zone)
    print_table(table)
