"""The monthly budgets of an organization, its projects and its keys."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.keys import find as find_key
from headgate.api.routes.keys import find_authority
from headgate.api.routes.projects import find as find_project
from headgate.api.schemas.budgets import (
    BudgetPage,
    BudgetQuery,
    BudgetResponse,
    BudgetSet,
    to_budget_response,
)
from headgate.api.schemas.fields import Empty
from headgate.billing.model.budget_limits import (
    KEY,
    ORGANIZATION,
    PROJECT,
    BudgetLimit,
    BudgetNotFoundError,
)
from headgate.kit.money import nano_from_dollars

OPERATIONS = Operations(
    "Budgets",
    "Spending limits for each calendar month (UTC): of the organization, of a project, of an API "
    "key. They count every call at list price, or only the calls that the wallet pays.",
)
READ = organization("budgets:read")
WRITE = organization("budgets:write")
EXAMPLE = {"limit": "250.00", "managed_only": False, "thresholds": [50, 80, 100]}


@OPERATIONS.get(
    "/v1/budgets", access=organization("budgets:read", own_key=True), summary="List budgets"
)
@OPERATIONS.get("/api/budgets", access=READ, summary="List budgets")
async def list_budgets(context: RequestContext[BudgetQuery, Empty]) -> BudgetPage:
    """Return the budgets of the organization, of its projects and of its keys, with what is used of
    them in this month. An inference key sees its own budget."""
    query, budgets = context.query, context.services.budgets

    def read(connection: sa.Connection) -> BudgetPage:
        limits = [
            limit
            for limit in budgets.list(
                connection, context.organization_id, among=context.principal.projects
            )
            if query.scope in (None, limit.scope) and context.own_key_id in (None, limit.scope_id)
        ]
        page = limits[query.offset : query.offset + query.limit]
        states = budgets.read_states(connection, page)
        return BudgetPage(
            [to_budget_response(state) for state in states], **query.position(len(limits))
        )

    return await context.read(read)


@OPERATIONS.get(
    "/api/budgets/organization",
    access=READ,
    summary="Read the budget of the organization",
    errors=(404,),
)
async def get_organization_budget(context: RequestContext[Empty, Empty]) -> BudgetResponse:
    """Return the budget of the organization, with what is used of it in this month. 404 if it has
    none."""
    return await read_budget(context, ORGANIZATION)


@OPERATIONS.put(
    "/api/budgets/organization",
    access=WRITE,
    summary="Set the budget of the organization",
    example=EXAMPLE,
)
async def set_organization_budget(context: RequestContext[Empty, BudgetSet]) -> BudgetResponse:
    """Set the budget of the organization. It takes effect in every process within a second."""

    def put(connection: sa.Connection) -> BudgetResponse:
        context.check_version(find_replaced(context, connection, ORGANIZATION))
        return put_budget(context, connection, ORGANIZATION)

    return await context.write(put)


@OPERATIONS.delete(
    "/api/budgets/organization",
    access=WRITE,
    status=204,
    summary="Remove the budget of the organization",
    errors=(404,),
)
async def remove_organization_budget(context: RequestContext[Empty, Empty]) -> None:
    """Let the organization spend without a limit of its own. What was used stays counted."""

    def remove(connection: sa.Connection) -> None:
        limit = context.check_version(find(context, connection, ORGANIZATION))
        context.services.budgets.remove(connection, limit, by=context.actor)

    await context.write(remove)


@OPERATIONS.get(
    "/api/budgets/projects/{project_id}", access=READ, summary="Read the budget of a project"
)
async def get_project_budget(context: RequestContext[Empty, Empty]) -> BudgetResponse:
    """Return the budget of a project, with what is used of it in this month. 404 if it has none."""
    return await read_budget(context, PROJECT)


@OPERATIONS.put(
    "/api/budgets/projects/{project_id}",
    access=WRITE,
    summary="Set the budget of a project",
    example=EXAMPLE,
)
async def set_project_budget(context: RequestContext[Empty, BudgetSet]) -> BudgetResponse:
    """Set the budget of a project. It takes effect in every process within a second."""

    def put(connection: sa.Connection) -> BudgetResponse:
        context.check_version(find_replaced(context, connection, PROJECT))
        return put_budget(context, connection, PROJECT)

    return await context.write(put)


@OPERATIONS.delete(
    "/api/budgets/projects/{project_id}",
    access=WRITE,
    status=204,
    summary="Remove the budget of a project",
)
async def remove_project_budget(context: RequestContext[Empty, Empty]) -> None:
    """Let the project spend without a limit of its own. What was used stays counted."""

    def remove(connection: sa.Connection) -> None:
        limit = context.check_version(find(context, connection, PROJECT))
        context.services.budgets.remove(connection, limit, by=context.actor)

    await context.write(remove)


@OPERATIONS.get("/api/budgets/keys/{key_id}", access=READ, summary="Read the budget of a key")
async def get_key_budget(context: RequestContext[Empty, Empty]) -> BudgetResponse:
    """Return the budget of an API key, with what is used of it in this month. 404 if it has none.
    Its version is that of the key."""
    return await read_budget(context, KEY)


@OPERATIONS.put(
    "/api/budgets/keys/{key_id}",
    access=WRITE,
    summary="Set the budget of a key",
    errors=(409,),
    example=EXAMPLE,
)
async def set_key_budget(context: RequestContext[Empty, BudgetSet]) -> BudgetResponse:
    """Set the budget of an API key. It takes effect in every process within a second. A management
    key with a budget cannot set a higher one."""

    def put(connection: sa.Connection) -> BudgetResponse:
        context.check_version(find_key(context, connection))
        return put_budget(context, connection, KEY)

    return await context.write(put)


@OPERATIONS.delete(
    "/api/budgets/keys/{key_id}",
    access=WRITE,
    status=204,
    summary="Remove the budget of a key",
    errors=(409,),
)
async def remove_key_budget(context: RequestContext[Empty, Empty]) -> None:
    """Let the API key spend without a limit of its own. A management key with a budget cannot do
    this."""

    def remove(connection: sa.Connection) -> None:
        limit = context.check_version(find(context, connection, KEY))
        authority = find_authority(context, connection)
        context.services.budgets.remove(connection, limit, by=context.actor, authority=authority)

    await context.write(remove)


def find_scope_id(context: RequestContext[Any, Any], connection: sa.Connection, scope: str) -> str:
    """Return the id of the object of the path, if the principal may see it."""
    if scope == KEY:
        return find_key(context, connection).id
    if scope == PROJECT:
        return find_project(context, connection).id
    context.principal.check_organization_wide()
    return context.organization_id


def find(context: RequestContext[Any, Any], connection: sa.Connection, scope: str) -> BudgetLimit:
    """Return the budget of the path. Raise `BudgetNotFoundError`."""
    scope_id = find_scope_id(context, connection, scope)
    return context.services.budgets.get(
        connection, context.organization_id, scope=scope, scope_id=scope_id
    )


async def read_budget(context: RequestContext[Any, Any], scope: str) -> BudgetResponse:
    def read(connection: sa.Connection) -> BudgetResponse:
        limit = find(context, connection, scope)
        [state] = context.services.budgets.read_states(connection, [limit])
        return to_budget_response(state)

    return await context.read(read)


def find_replaced(
    context: RequestContext[Any, BudgetSet], connection: sa.Connection, scope: str
) -> BudgetLimit:
    """Return the budget that a new one replaces; one of version 0 if there is none."""
    scope_id = find_scope_id(context, connection, scope)
    try:
        return find(context, connection, scope)
    except BudgetNotFoundError:
        return BudgetLimit(
            scope=scope, scope_id=scope_id, organization_id=context.organization_id, limit_nano=0
        )


def put_budget(
    context: RequestContext[Any, BudgetSet], connection: sa.Connection, scope: str
) -> BudgetResponse:
    """Set the budget of the body. Raise `InvalidBudgetError`."""
    body, budgets = context.body, context.services.budgets
    limit = budgets.set(
        connection,
        BudgetLimit(
            scope=scope,
            scope_id=find_scope_id(context, connection, scope),
            organization_id=context.organization_id,
            limit_nano=nano_from_dollars(body.limit),
            managed_only=body.managed_only,
            thresholds=body.thresholds,
        ),
        by=context.actor,
        authority=find_authority(context, connection) if scope == KEY else None,
    )
    [state] = budgets.read_states(connection, [limit])
    return to_budget_response(state)
