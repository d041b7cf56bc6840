"""Usage: what was called, what it used and cost, by any of its fields and by time."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.usage import (
    UsageReport,
    UsageReportQuery,
    build_usage_request,
    to_usage_report,
)
from headgate.metering.service.usage import find_zone_of, query_usage

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
