"""Find the project that an address names, from memory: by ids, or by the names of its owner."""

from __future__ import annotations

import re
from collections.abc import Iterable

import sqlalchemy as sa

from headgate.accounts.store import tenants as store
from headgate.relay.ports import Grant

_SEPARATORS = re.compile(r"[^a-z0-9]+")


class WorkspaceIndex:
    """Know the names of all organizations and projects (`gateway.vmx.Workspaces`).

    A name also matches in its form for addresses: "My Team" is `my-team`.
    """

    def __init__(self) -> None:
        self.is_loaded = False
        self._organizations: dict[str, str] = {}
        self._projects: dict[str, str] = {}

    def load(self, connection: sa.Connection) -> None:
        self._organizations = store.select_organization_names(connection)
        self._projects = store.select_project_names(connection)
        self.is_loaded = True

    def find_organization(self, organization_ids: Iterable[str], workspace: str) -> str | None:
        """Return the one of these organizations that a workspace names; None for any other."""
        for organization_id in organization_ids:
            if matches(workspace, organization_id, self._organizations.get(organization_id)):
                return organization_id
        return None

    def find(self, grant: Grant, workspace: str, environment: str) -> str | None:
        """Return the project that a workspace and an environment name, among those that the key may
        use; None for any other."""
        if self.find_organization((grant.organization_id,), workspace) is None:
            return None
        projects = (grant.project_id, *grant.projects)
        if environment in projects:
            return environment
        named = [each for each in projects if matches(environment, each, self._projects.get(each))]
        return named[0] if named else None


def matches(reference: str, own_id: str, name: str | None) -> bool:
    """Return whether a reference is an id, a name, or the name's form for addresses."""
    return reference == own_id or (
        name is not None and reference in (name, make_slug(name)) and bool(reference)
    )


def make_slug(name: str) -> str:
    """Return the form of a name for addresses; empty for a name without letters and digits."""
    return _SEPARATORS.sub("-", name.lower()).strip("-")
