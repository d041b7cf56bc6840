"""Makes and finds organizations and projects. Nothing here commits: the caller does."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts import store
from headgate.accounts.model import AccountMissing, Organization, Project, check_name
from headgate.kit.clock import Clock
from headgate.kit.ids import Ids


class Accounts:
    """The organizations and projects of one installation."""

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids

    def create_organization(self, connection: sa.Connection, name: str) -> Organization:
        """A new organization. Raises `NameRefused`."""
        organization = Organization(self._ids.make("org"), check_name(name), self._clock.now())
        store.insert_organization(connection, organization)
        return organization

    def create_project(
        self, connection: sa.Connection, name: str, *, organization_id: str
    ) -> Project:
        """A new project of an organization. Raises `NameRefused` and `AccountMissing`."""
        if all(known.id != organization_id for known in store.select_organizations(connection)):
            raise AccountMissing("No such organization.", param="organization_id")
        project = Project(
            self._ids.make("proj"), organization_id, check_name(name), self._clock.now()
        )
        store.insert_project(connection, project)
        return project

    def list_organizations(self, connection: sa.Connection) -> list[Organization]:
        """Every organization, the oldest first."""
        return store.select_organizations(connection)

    def find_organization(self, connection: sa.Connection, wanted: str | None) -> Organization:
        """The organization of that id or unambiguous name; the only one for None."""
        found = [
            known
            for known in store.select_organizations(connection)
            if wanted in (None, known.id, known.name)
        ]
        if len(found) == 1:
            return found[0]
        raise AccountMissing(
            f"{len(found)} organizations fit; name one by its id.", param="organization"
        )

    def find_project(self, connection: sa.Connection, project: str | None) -> Project:
        """The project of that id or unambiguous name; the oldest for None. `AccountMissing`."""
        projects = store.select_projects(connection)
        if project is None:
            found = projects[:1]
        else:
            found = [known for known in projects if project in (known.id, known.name)]
        if len(found) == 1:
            return found[0]
        raise AccountMissing(_why_not(project, len(found)), param="project")


def _why_not(project: str | None, found: int) -> str:
    if project is None:
        return "There is no project yet; start `headgate serve` once to make the first."
    if found:
        return f"{found} projects are named {project!r}; give the id instead."
    return f"There is no project with the id or name {project!r}."
