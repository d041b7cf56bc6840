"""Assets: files that are kept, and served to anybody who knows their address."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import AccountNotFoundError
from headgate.api.access import MANAGERS, tools
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.keys import choose_project
from headgate.api.schemas.assets import (
    AssetCreate,
    AssetPage,
    AssetQuery,
    AssetResponse,
    read_upload,
    to_asset_page,
    to_asset_response,
)
from headgate.api.schemas.fields import Empty
from headgate.assets.model.asset import Asset, AssetFilter
from headgate.assets.model.owner import ProjectOwner
from headgate.connectors.model.policy import check_allowed
from headgate.connectors.model.tool import ToolDefinition
from headgate.connectors.service.asset_tools import LIST_ASSETS, UPLOAD_ASSET
from headgate.oauth.model.challenge import find_base_url

OPERATIONS = Operations(
    "Assets", "Images, documents and other files that are kept and served at an address."
)
READ = tools("assets:read", roles=MANAGERS)
WRITE = tools("assets:write", roles=MANAGERS)
ALL = "/api/assets"
ONE = "/api/assets/{asset_id}"
BODY_BYTES_MAX = 8 * 1024 * 1024
"""A file of 5 MiB in base64, and the other fields."""
EXAMPLE = {"content_text": "Hello", "slug": "hello.txt", "alt": "A greeting"}


@OPERATIONS.get(ALL, access=READ, summary="List assets")
async def list_assets(context: RequestContext[AssetQuery, Empty]) -> AssetPage:
    """Return the assets of the organization, or of one project, the newest first."""
    query = context.query
    check_tool(context, LIST_ASSETS)
    filters = make_filter(context, query.project_id)

    def read(connection: sa.Connection) -> AssetPage:
        assets = context.services.assets
        page, total = assets.list_page(connection, filters, limit=query.limit, offset=query.offset)
        return to_asset_page(
            [respond(context, each) for each in page],
            assets.measure(connection, context.organization_id, filters.among),
            assets.maxima,
            query.position(total),
        )

    return await context.read(read)


@OPERATIONS.post(
    ALL,
    access=WRITE,
    status=201,
    summary="Store an asset",
    errors=(409, 413, 502, 503),
    example=EXAMPLE,
    body_bytes_max=BODY_BYTES_MAX,
)
async def create_asset(context: RequestContext[Empty, AssetCreate]) -> AssetResponse:
    """Keep a file, and serve it at the `url` of the answer. The file comes from a public https
    address, as base64 or text in the request, or from a handle that a tool returned. Its bytes tell
    its type; one that is claimed, by `media_type` or the extension of the slug, has to agree. A
    slug that exists is a conflict unless `overwrite` is set."""
    body = context.body
    check_tool(context, UPLOAD_ASSET)
    among = list_projects(context)

    def find_owner(connection: sa.Connection) -> ProjectOwner:
        project_id = body.project_id or choose_project(context, connection)
        if among and project_id not in among:
            raise AccountNotFoundError("There is no such project.")
        context.services.accounts.get_project(connection, context.organization_id, project_id)
        return ProjectOwner(context.organization_id, project_id)

    await context.check_repeated()
    owner = await context.read(find_owner)
    stored = await context.services.asset_files.receive(owner, read_upload(body))

    def create(connection: sa.Connection) -> AssetResponse:
        asset = context.services.assets.store(connection, stored, by=context.actor)
        return respond(context, asset)

    return await context.create(create)


@OPERATIONS.get(ONE, access=READ, summary="Read an asset")
async def get_asset(context: RequestContext[Empty, Empty]) -> AssetResponse:
    """Return what is known about an asset. Its content is at its `url`."""
    check_tool(context, LIST_ASSETS)
    return respond(context, await context.read(lambda connection: find(context, connection)))


@OPERATIONS.delete(ONE, access=WRITE, status=204, summary="Remove an asset")
async def remove_asset(context: RequestContext[Empty, Empty]) -> None:
    """Remove an asset for good. Its address answers 404 from now on, except from caches that have
    it."""
    check_tool(context, UPLOAD_ASSET)

    def remove(connection: sa.Connection) -> None:
        asset = context.check_version(find(context, connection))
        context.services.assets.remove(connection, asset, by=context.actor)

    await context.write(remove)


def make_filter(context: RequestContext[Any, Any], project_id: str | None = None) -> AssetFilter:
    return AssetFilter(
        organization_id=context.organization_id,
        project_id=project_id,
        among=list_projects(context),
    )


def list_projects(context: RequestContext[Any, Any]) -> tuple[str, ...]:
    """Return the projects to which the principal is limited; empty for all. An inference key and a
    connected application have their own."""
    grant = context.principal.grant
    if grant is None or grant.management:
        return context.principal.projects
    return (grant.project_id,)


def check_tool(context: RequestContext[Any, Any], tool: ToolDefinition) -> None:
    """Raise `ToolForbiddenError` for an inference key or a connected application that may not use
    the tool which does the same."""
    grant = context.principal.grant
    if grant is not None and not grant.management:
        check_allowed(context.tool_caller, tool)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Asset:
    assets = context.services.assets
    return assets.find(connection, make_filter(context), context.path["asset_id"])


def respond(context: RequestContext[Any, Any], asset: Asset) -> AssetResponse:
    request = context.request
    public_url = context.services.authentication.public_url
    base_url = find_base_url(public_url, request.headers.raw, scheme=request.url.scheme)
    return to_asset_response(asset, base_url)
