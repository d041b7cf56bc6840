"""Usage: what was called, what it used and cost, by any of its fields and by time."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.usage import (
    ErrorRateQuery,
    ErrorRateResponse,
    UsageReport,
    UsageReportQuery,
    build_usage_request,
    to_error_rate,
    to_usage_report,
)
from headgate.metering.service.usage import find_zone_of, query_usage
from headgate.metering.store.calls import count_errors

OPERATIONS = Operations(
    "Usage",
    "Sums over calls: how many, their tokens, cost and latency, by project, key, model, time and "
    "more.",
)
READ = organization("usage:read")
READ_OWN = organization("usage:read", own_key=True)


@OPERATIONS.get("/v1/usage", access=READ_OWN, summary="Read usage", errors=(400,))
@OPERATIONS.get("/api/usage", access=READ, summary="Read usage", errors=(400,))
async def get_usage(context: RequestContext[UsageReportQuery, Empty]) -> UsageReport:
    """Return sums over calls, by the fields of `group_by`, and their total. Periods and groups
    without calls are rows of zeros. Days and months are those of `time_zone`, by default the
    reporting zone of the organization. An inference key sees its own calls."""
    now = context.services.clock.now()

    def read(connection: sa.Connection) -> UsageReport:
        query = build_usage_request(
            context.query,
            organization_id=context.organization_id,
            zone=find_zone_of(connection, context.organization_id),
            now=now,
            projects=context.principal.projects,
            own_key_id=context.own_key_id,
        )
        return to_usage_report(query, query_usage(connection, query))

    return await context.read(read)


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
