"""Analytics of an organization: credits, calls of models and tools, actions and people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.dashboard import (
    AnalyticsMeta,
    DashboardQuery,
    DashboardUser,
    DashboardUserAnswer,
    DashboardUserData,
    LlmUsageAnswer,
    LogAnswer,
    LogData,
    OverviewAnswer,
    ToolUsageAnswer,
    to_dashboard_user,
    to_llm_usage,
    to_log_response,
    to_overview,
    to_tool_usage,
)
from headgate.api.schemas.fields import Empty
from headgate.audit.model import AuditFilter
from headgate.metering.model import MICROSECONDS
from headgate.metering.service.usage import UsageAnswer, UsageRequest, query_usage
from headgate.metering.store import calls as call_store
from headgate.metering.store.usage import UsageFilter

OPERATIONS = Operations(
    "Dashboard", "Analytics of an organization, each with the period and the position of its page."
)
READ = organization("usage:read")
EXAMINED_MAX = 100_000
"""Calls in which hosted tools are looked for."""

Context = RequestContext[DashboardQuery, Empty]


@OPERATIONS.get("/api/dashboard/analytics/overview", access=READ, summary="Read the overview")
async def get_overview(context: Context) -> OverviewAnswer:
    """Return the plan with its credits of this month, the wallet, and the usage of the period."""
    context.principal.check_organization_wide()
    now = context.services.clock.now()

    def read(connection: sa.Connection) -> OverviewAnswer:
        state = context.services.plans.read_billing(connection, context.organization_id)
        total = sum_period(context, connection, now=now).total
        return OverviewAnswer(data=to_overview(state, total), **describe(context))

    return await context.read(read)


@OPERATIONS.get(
    "/api/dashboard/analytics/llm-usage", access=READ, summary="Read the usage of models"
)
async def get_llm_usage(context: Context) -> LlmUsageAnswer:
    """Return the calls of the period, newest first, with sums by provider and model."""
    query, now = context.query, context.services.clock.now()

    def read(connection: sa.Connection) -> LlmUsageAnswer:
        period = query.find_range(now)
        calls = call_store.list_calls(
            connection, build_filter(context), period, limit=query.limit, offset=query.offset
        )
        answer = sum_period(context, connection, "provider", "model", now=now)
        names = {
            record.id: record.name
            for record in context.services.credentials.list(connection)
            if record.organization_id == context.organization_id
        }
        data = to_llm_usage(calls, answer.rows, answer.total, names)
        return LlmUsageAnswer(data=data, **describe(context))

    return await context.read(read)


@OPERATIONS.get("/api/dashboard/analytics/tools", access=READ, summary="Read the usage of tools")
async def get_tool_usage(context: Context) -> ToolUsageAnswer:
    """Return how often the provider's hosted tools, such as `web_search`, were called in the
    period."""
    query, now = context.query, context.services.clock.now()

    def read(connection: sa.Connection) -> ToolUsageAnswer:
        found, is_complete = call_store.list_tool_calls(
            connection, build_filter(context), query.find_range(now), examined_max=EXAMINED_MAX
        )
        data = to_tool_usage(found, is_complete=is_complete)
        data.tools = data.tools[query.offset : query.offset + query.limit]
        return ToolUsageAnswer(data=data, **describe(context))

    return await context.read(read)


@OPERATIONS.get(
    "/api/dashboard/logs", access=organization("audit:read"), summary="Read the log of actions"
)
async def list_logs(context: Context) -> LogAnswer:
    """Return who did what in the organization in the period, newest first."""
    context.principal.check_organization_wide()
    query, period = context.query, context.query.find_range(context.services.clock.now())
    audit_filter = AuditFilter(
        organization_id=context.organization_id,
        since=period.start / MICROSECONDS,
        until=period.end / MICROSECONDS,
    )
    entries, total = await context.read(
        lambda connection: context.services.audit.list(
            connection, audit_filter, limit=query.limit, offset=query.offset
        )
    )
    data = LogData([to_log_response(entry) for entry in entries], total)
    return LogAnswer(data=data, **describe(context))


@OPERATIONS.get(
    "/api/dashboard/users", access=organization("people:read"), summary="List active people"
)
async def list_users(context: Context) -> DashboardUserAnswer:
    """Return the people of the organization with what each did in the period, oldest membership
    first."""
    context.principal.check_organization_wide()
    query, period = context.query, context.query.find_range(context.services.clock.now())
    services, organization_id = context.services, context.organization_id

    def read(connection: sa.Connection) -> DashboardUserAnswer:
        members, total = services.members.list(
            connection, organization_id, limit=query.limit, offset=query.offset
        )
        users: list[DashboardUser] = []
        for member in members:
            audit_filter = AuditFilter(
                organization_id=organization_id,
                actor_id=member.person_id,
                since=period.start / MICROSECONDS,
                until=period.end / MICROSECONDS,
            )
            newest, actions = services.audit.list(connection, audit_filter, limit=1)
            users.append(to_dashboard_user(member, actions, newest[0] if newest else None))
        return DashboardUserAnswer(data=DashboardUserData(users, total), **describe(context))

    return await context.read(read)


def describe(context: Context) -> dict[str, Any]:
    """Return the fields that every answer has beside `data`."""
    query = context.query
    meta = AnalyticsMeta(query.period, query.limit, query.offset)
    return {"organization_id": context.organization_id, "meta": meta}


def build_filter(context: Context) -> UsageFilter:
    return UsageFilter(organization_id=context.organization_id, projects=context.principal.projects)


def sum_period(
    context: Context, connection: sa.Connection, *group_by: str, now: float
) -> UsageAnswer:
    """Return the sums of the period by these dimensions."""
    period = context.query.find_range(now)
    request = UsageRequest(
        filters=build_filter(context),
        start=period.start,
        end=period.end,
        group_by=group_by,
        limit=10_000,
    )
    return query_usage(connection, request)
