"""Check what the plan of an organization allows before something is created in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from headgate.api.operation import RequestContext
from headgate.api.services import Services


def count_seats(services: Services, connection: sa.Connection, organization_id: str) -> int:
    """Return the members and the open invitations."""
    _, members = services.members.list(connection, organization_id, limit=1)
    _, invited = services.invitations.list(connection, organization_id, limit=1)
    return members + invited


def count_projects(services: Services, connection: sa.Connection, organization_id: str) -> int:
    """Return the projects that are not archived."""
    return services.accounts.list_projects(connection, organization_id, limit=1)[1]


def count_keys(services: Services, connection: sa.Connection, organization_id: str) -> int:
    """Return the keys that are not revoked."""
    return services.keys.count(connection, organization_id)


COUNTS: Mapping[str, Callable[[Services, sa.Connection, str], int]] = {
    "seats": count_seats,
    "projects": count_projects,
    "keys": count_keys,
}


def check_plan(context: RequestContext[Any, Any], connection: sa.Connection, name: str) -> None:
    """Raise `PlanQuotaError` if the organization has as many `seats`, `projects` or `keys` as its
    plan allows."""
    check_quota(context.services, connection, context.organization_id, name)


def check_quota(
    services: Services, connection: sa.Connection, organization_id: str, name: str
) -> None:
    """Do as `check_plan`, where no operation runs."""
    services.plans.check_quota(
        connection,
        organization_id,
        name,
        lambda: COUNTS[name](services, connection, organization_id),
    )
