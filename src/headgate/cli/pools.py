"""`headgate pools`: show, set and remove the priority pools of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.audit.model import COMMAND_LINE
from headgate.capacity.model.pools import InvalidPoolsError, PriorityPool, PriorityPools
from headgate.cli.data_directory import open_data_directory
from headgate.cli.files import read_bytes
from headgate.cli.options import Data, Json
from headgate.cli.tables import print_table
from headgate.keys.model import KeyFilter
from headgate.main.application import Application
from headgate.resources.model.resource import ResourceFilter

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show, set and remove the priority pools of a project.",
)

LIST_MAX = 10_000
Project = Annotated[str | None, typer.Option(help="Project id or name. [default: the oldest]")]
decode_pools = msgspec.json.Decoder(tuple[PriorityPool, ...]).decode


@app.command()
def show(data: Data = None, as_json: Json = False, *, project: Project = None) -> None:
    """Show the pools of a project, the first one first."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        owner = application.accounts.find_project(connection, project)
        pools = application.pools.get(connection, owner.id)
    _print(pools, as_json=as_json)


@app.command("set")
def set_pools(
    file: Annotated[
        Path, typer.Argument(help="JSON file with a list of pools; `-` is standard input.")
    ],
    data: Data = None,
    as_json: Json = False,
    *,
    project: Project = None,
) -> None:
    """Replace the pools of a project. Servers use them within a quarter of a second."""
    pools = read_pools(read_bytes(file))
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = application.accounts.find_project(connection, project)
        stored = application.pools.set(
            connection,
            organization_id=owner.organization_id,
            project_id=owner.id,
            pools=pools,
            by=COMMAND_LINE,
        )
        unknown = list_unknown(application, connection, stored)
    if unknown:
        typer.echo(f"Not found in the project: {', '.join(unknown)}.", err=True)
    _print(stored, as_json=as_json)


@app.command()
def remove(data: Data = None, *, project: Project = None) -> None:
    """Remove the pools of a project: its calls share their connections freely."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        owner = application.accounts.find_project(connection, project)
        pools = application.pools.get(connection, owner.id)
        application.pools.remove(connection, pools, by=COMMAND_LINE)
    typer.echo(f"The priority pools of {owner.name} are removed.")


def read_pools(text: bytes) -> tuple[PriorityPool, ...]:
    """Return the pools of a JSON file. Raise `InvalidPoolsError`."""
    try:
        return decode_pools(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = (
            f"This is no list of pools: {error}. Write for example "
            '[{"name": "chat", "rank": 0, "min_reservation": 50, "resources": ["support"]}].'
        )
        raise InvalidPoolsError(message) from error


def list_unknown(
    application: Application, connection: sa.Connection, pools: PriorityPools
) -> list[str]:
    """Return the members of pools that the project does not have, which gate nothing."""
    filters = ResourceFilter(organization_id=pools.organization_id, project_id=pools.project_id)
    resources, _ = application.resources.list_page(connection, filters, limit=LIST_MAX)
    keys, _ = application.keys.list_page(
        connection, KeyFilter(organization_id=pools.organization_id), limit=LIST_MAX
    )
    known = {name for each in resources for name in (each.id, each.name)}
    known_keys = {each.id for each in keys}
    return [
        *(name for pool in pools.pools for name in pool.resources if name not in known),
        *(name for pool in pools.pools for name in pool.keys if name not in known_keys),
    ]


def _print(pools: PriorityPools, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(pools))
        return
    table = Table("Rank", "Name", "At least %", "At most %", "Resources", "Keys")
    for pool in sorted(pools.pools, key=lambda each: each.rank):
        table.add_row(
            str(pool.rank),
            pool.name,
            f"{pool.min_reservation:g}",
            f"{pool.max_reservation:g}",
            ", ".join(pool.resources),
            ", ".join(pool.keys),
        )
    print_table(table)
