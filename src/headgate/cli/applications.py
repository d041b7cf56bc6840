"""`headgate applications`: list and disconnect the applications that people connected."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.keys.model import find_state
from headgate.oauth.service import ApplicationFilter

LISTED_MAX = 10_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List and disconnect the applications that people connected, such as agents.",
)

ApplicationId = Annotated[
    str, typer.Argument(help="Id of the application; see `headgate applications list`.")
]


@app.command("list")
def list_applications(
    data: Data = None,
    as_json: Json = False,
    organization: Annotated[
        str | None, typer.Option(help="Organization id or name. [default: the only one]")
    ] = None,
) -> None:
    """List the connected applications of an organization."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = application.accounts.find_organization(connection, organization)
        page, _ = application.connected_applications.list_page(
            connection, ApplicationFilter(organization_id=owner.id), limit=LISTED_MAX
        )
        now = application.clock.now()
    if as_json:
        typer.echo(msgspec.json.encode([each.application for each in page]))
        return
    table = Table("Id", "Application", "Leads to", "Person", "Key", "State", "May", "Last used")
    for each in page:
        table.add_row(
            each.application.id,
            each.application.client_name,
            each.application.redirect_host,
            each.person.email,
            each.key.id,
            find_state(each.key, now).value,
            each.scopes[-1] if each.scopes else "",
            format_time(each.key.last_used_at),
        )
    print_table(table)


@app.command()
def revoke(application_id: ApplicationId, data: Data = None) -> None:
    """Disconnect an application for good, and revoke its key."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        service = application.connected_applications
        found = service.get(connection, None, application_id).application
        service.revoke(connection, found, by=COMMAND_LINE)
    typer.echo(f"{found.client_name} ({found.id}) is disconnected.")
