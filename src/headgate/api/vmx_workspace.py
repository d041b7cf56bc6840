"""Find what a path in the names of VM-X names."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import AccountNotFoundError, Project
from headgate.api.operation import RequestContext


def find_environment(context: RequestContext[Any, Any], connection: sa.Connection) -> Project:
    """Return the project that the path names. Raise `AccountNotFoundError`, also for one that the
    caller may not see."""
    project = context.services.accounts.match_project(
        connection, context.organization_id, context.path["environment"]
    )
    if not context.principal.may_see_project(project.id):
        raise AccountNotFoundError("There is no such project.")
    return project
