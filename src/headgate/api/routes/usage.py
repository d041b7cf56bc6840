"""Usage: what was called, what it used and cost, by any of its fields and by time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.download import Download
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.usage import (
    ErrorRateQuery,
    ErrorRateResponse,
    UsageExportQuery,
    UsageReport,
    UsageReportQuery,
    build_usage_request,
    to_error_rate,
    to_usage_report,
)
from headgate.metering.model.usage_table import list_columns, to_cells
from headgate.metering.service.export import MEDIA_TYPES, Encoder, open_encoder
from headgate.metering.service.usage import (
    UsageRequest,
    find_zone_of,
    query_usage,
    read_page,
)
from headgate.metering.store.calls import count_errors

OPERATIONS = Operations(
    "Usage",
    "Sums over calls: how many, their tokens, cost and latency, by project, key, model, time and "
    "more.",
)
EXPORTED_ROWS = 5_000
"""Rows of one piece of an export."""
READ = organization("usage:read")
READ_OWN = organization("usage:read", own_key=True)


@OPERATIONS.get("/v1/usage", access=READ_OWN, summary="Read usage", errors=(400,))
@OPERATIONS.get("/api/usage", access=READ, summary="Read usage", errors=(400,))
async def get_usage(context: RequestContext[UsageReportQuery, Empty]) -> UsageReport:
    """Return sums over calls, by the fields of `group_by`, and their total. Periods and groups
    without calls are rows of zeros. Days and months are those of `time_zone`, by default the
    reporting zone of the organization. An inference key sees its own calls."""
    query, own_key_id = context.query, context.own_key_id

    def read(connection: sa.Connection) -> UsageReport:
        request = build_request(
            context, connection, own_key_id=own_key_id, cursor=query.cursor, limit=query.limit
        )
        return to_usage_report(request, query_usage(connection, request))

    return await context.read(read)


@OPERATIONS.get(
    "/v1/usage/export",
    access=READ_OWN,
    summary="Read usage as a file",
    errors=(400,),
    media_types=tuple(MEDIA_TYPES.values()),
)
@OPERATIONS.get(
    "/api/usage/export",
    access=READ,
    summary="Read usage as a file",
    errors=(400,),
    media_types=tuple(MEDIA_TYPES.values()),
)
async def export_usage(context: RequestContext[UsageExportQuery, Empty]) -> Download:
    """Send the sums as a file, with a row for each period and group: CSV, or Parquet where the
    server has the extra `export`. An inference key sees its own calls."""
    own_key_id = context.own_key_id
    request = await context.read(
        lambda connection: build_request(
            context, connection, own_key_id=own_key_id, limit=EXPORTED_ROWS
        )
    )
    export_format = context.query.format
    encoder = open_encoder(export_format, list_columns(request.group_by), zone=request.zone)
    download = Download(
        f"usage.{export_format}",
        MEDIA_TYPES[export_format],
        encode_pages(context, request, encoder),
    )
    return await download.begin()


async def encode_pages(
    context: RequestContext[UsageExportQuery, Empty], request: UsageRequest, encoder: Encoder
) -> AsyncIterator[bytes]:
    """Yield the encoded rows, a page at a time: a slow client holds no transaction open."""

    def read(connection: sa.Connection) -> tuple[bytes, str | None]:
        rows, cursor = read_page(connection, request)
        cells = [
            to_cells(request.zone, request.group_by, row.period, row.group, row.measures)
            for row in rows
        ]
        return encoder.add(cells), cursor

    cursor: str | None = ""
    while cursor is not None:
        request = msgspec.structs.replace(request, cursor=cursor)
        piece, cursor = await context.read(read)
        yield piece
    yield encoder.end()


def build_request(
    context: RequestContext[Any, Empty],
    connection: sa.Connection,
    *,
    own_key_id: str | None,
    limit: int,
    cursor: str = "",
) -> UsageRequest:
    """Return the query of a request, limited to what its principal may see."""
    return build_usage_request(
        context.query,
        organization_id=context.organization_id,
        zone=find_zone_of(connection, context.organization_id),
        now=context.services.clock.now(),
        projects=context.principal.projects,
        own_key_id=own_key_id,
        cursor=cursor,
        limit=limit,
    )


@OPERATIONS.get("/v1/usage/error-rate", access=READ_OWN, summary="Read the error rate")
@OPERATIONS.get("/api/usage/error-rate", access=READ, summary="Read the error rate")
async def get_error_rate(context: RequestContext[ErrorRateQuery, Empty]) -> ErrorRateResponse:
    """Return the share of the calls of the last minutes that failed. Calls that the client
    cancelled are no errors. With `status_code`, only failures with that status count. An inference
    key sees its own calls."""
    query = context.query
    filters, window = query.select(
        context.organization_id,
        projects=context.principal.projects,
        own_key_id=context.own_key_id,
        now=context.services.clock.now(),
    )
    calls, errors = await context.read(
        lambda connection: count_errors(connection, filters, window, status=query.status_code)
    )
    return to_error_rate(query, window, calls, errors)
