"""The commands of `headgate assets`: list, upload and remove files that are served."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer
from rich.table import Table

from headgate.accounts.model import Project
from headgate.api.schemas.assets import to_asset_response
from headgate.assets.model.asset import Asset, AssetFilter, AssetUpload, make_slug
from headgate.assets.model.errors import AssetNotFoundError
from headgate.assets.model.owner import ProjectOwner
from headgate.audit.model import COMMAND_LINE
from headgate.cli.data_directory import open_data_directory
from headgate.cli.files import STANDARD_INPUT, read_bytes
from headgate.cli.options import Data, Json, format_time
from headgate.cli.tables import print_table
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.main.application import Application
from headgate.main.assets import build_assets, find_own_url
from headgate.main.egress import open_client

LISTED_MAX = 10_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, upload and remove assets: files that are kept and served at an address.",
)

ProjectOption = Annotated[
    str | None, typer.Option("--project", help="Id or name of the project. Default: the oldest.")
]


@app.command("list")
def list_assets(data: Data = None, as_json: Json = False, project: ProjectOption = None) -> None:
    """List assets with their addresses, the newest first: of one project, or of all."""
    with open_data_directory(data) as application, application.database.reading() as connection:
        base_url = find_own_url(application.settings)
        assets = _list_all(application, connection, project)
    if as_json:
        responses = [to_asset_response(each, base_url) for each in assets]
        typer.echo(msgspec.json.encode(responses))
        return
    table = Table("Id", "Slug", "Type", "Bytes", "Changed", "Expires", "Address")
    for each in assets:
        table.add_row(
            each.id,
            each.slug,
            each.media_type,
            str(each.bytes),
            format_time(each.updated_at),
            format_time(each.expires_at),
            base_url + each.path,
        )
    print_table(table)


@app.command()
def upload(
    source: Annotated[str, typer.Argument(help="A file, `-` for standard input, or an https URL.")],
    data: Data = None,
    as_json: Json = False,
    *,
    slug: Annotated[
        str | None, typer.Option(help="File name in the address. Default: that of the file.")
    ] = None,
    alt: Annotated[str | None, typer.Option(help="A description of the image.")] = None,
    media_type: Annotated[str | None, typer.Option(help="The type of the file.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the asset of this slug.")
    ] = False,
    project: ProjectOption = None,
) -> None:
    """Upload a file and print its address."""
    is_url = "://" in source
    if not is_url and slug is None and Path(source) != STANDARD_INPUT:
        slug = make_slug(Path(source).name) or None
    wanted = AssetUpload(
        source_url=source if is_url else None,
        content=None if is_url else base64.b64encode(read_bytes(Path(source))).decode(),
        slug=slug,
        alt=alt,
        media_type=media_type,
        overwrite=overwrite,
    )
    with open_data_directory(data) as application:
        with application.database.reading() as connection:
            found = application.accounts.find_project(connection, project)
            application.unlock(connection)
        asset = asyncio.run(_upload(application, found, wanted))
        base_url = find_own_url(application.settings)
    if as_json:
        typer.echo(msgspec.json.encode(to_asset_response(asset, base_url)))
        return
    typer.echo(f"{asset.slug} ({asset.media_type}, {asset.bytes} bytes) is {asset.id}:")
    typer.echo(base_url + asset.path)


@app.command()
def remove(
    asset: Annotated[str, typer.Argument(help="Id of the asset, or its slug in the project.")],
    data: Data = None,
    project: ProjectOption = None,
) -> None:
    """Remove an asset for good. Its address answers 404 from now on."""
    with open_data_directory(data) as application, application.database.transaction() as connection:
        found = _find(application, connection, asset, project)
        application.assets.remove(connection, found, by=COMMAND_LINE)
    typer.echo(f"{found.slug} is removed.")


def _list_all(
    application: Application, connection: sa.Connection, project: str | None
) -> list[Asset]:
    accounts = application.accounts
    if project is not None:
        found = accounts.find_project(connection, project)
        filters = [AssetFilter(organization_id=found.organization_id, project_id=found.id)]
    else:
        organizations = accounts.list_organizations(connection)
        filters = [AssetFilter(organization_id=each.id) for each in organizations]
    return [
        asset
        for each in filters
        for asset in application.assets.list_page(connection, each, limit=LISTED_MAX, offset=0)[0]
    ]


def _find(
    application: Application, connection: sa.Connection, reference: str, project: str | None
) -> Asset:
    """Return an asset by its id, or by its slug in a project. Raise `AssetNotFoundError`."""
    asset = application.assets.find_current(connection, reference)
    if asset is None:
        found = application.accounts.find_project(connection, project)
        asset = application.assets.find_named(connection, found.id, reference)
    if asset is None:
        raise AssetNotFoundError(f"There is no asset {reference[:200]!r}.")
    return asset


async def _upload(application: Application, project: Project, wanted: AssetUpload) -> Asset:
    async with AsyncExitStack() as stack:
        writer = Writer(application.database)
        writer.start()
        stack.push_async_callback(writer.stop)
        client = open_client(application.settings, application.egress_rules)
        stack.push_async_callback(client.close)
        database = AsyncDatabase(application.database, writer, reload=lambda: None)
        files = build_assets(application, database, client).files
        owner = ProjectOwner(project.organization_id, project.id)
        return await files.upload(owner, wanted, by=COMMAND_LINE)
