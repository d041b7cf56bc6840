"""Creates, changes and finds organizations and projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import (
    AccountNotFoundError,
    InactiveAccounts,
    Organization,
    Project,
    check_name,
)
from headgate.accounts.service.workspace_index import matches
from headgate.accounts.store import tenants as store
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator
from headgate.kit.time_zones import find_zone

TOPIC = store.TOPIC


def find_inactive_accounts(connection: sa.Connection) -> InactiveAccounts:
    """Return the projects and organizations whose keys are refused."""
    return store.select_inactive_accounts(connection)


def find_reporting_zones(
    connection: sa.Connection, organization_id: str | None = None
) -> dict[str, str]:
    """Return the IANA name of the zone in which each organization, or this one, counts its days."""
    return store.select_reporting_zones(connection, organization_id)


class AccountService:
    """Manage organizations and projects. The caller commits the transaction."""

    def __init__(self, clock: Clock, ids: IdGenerator, audit: AuditLog) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit

    def create_organization(
        self, connection: sa.Connection, name: str, *, by: Actor
    ) -> Organization:
        """Create an organization. Raise `InvalidNameError`."""
        organization = Organization(self._ids.make("org"), check_name(name), self._clock.now())
        store.insert_organization(connection, organization)
        store.note_change(connection)
        event = AuditEvent(
            "organization.created", organization.id, organization.id, {"name": organization.name}
        )
        self._audit.record(connection, by, event)
        return organization

    def create_project(
        self, connection: sa.Connection, name: str, *, organization_id: str, by: Actor
    ) -> Project:
        """Create a project. Raise `InvalidNameError` and `AccountNotFoundError`."""
        if store.select_organization(connection, organization_id) is None:
            raise AccountNotFoundError("There is no such organization.", param="organization_id")
        project = Project(
            self._ids.make("proj"), organization_id, check_name(name), self._clock.now()
        )
        store.insert_project(connection, project)
        store.note_change(connection)
        self._record(connection, by, "project.created", project)
        return project

    def list_projects(
        self,
        connection: sa.Connection,
        organization_id: str,
        *,
        archived: bool = False,
        among: Sequence[str] = (),
        limit: int,
        offset: int = 0,
    ) -> tuple[list[Project], int]:
        """Return a page of an organization's projects, oldest first, and their total number.

        `archived` includes archived projects. `among` restricts the result to these ids; empty
        restricts nothing.
        """
        page = store.select_projects_of(
            connection,
            organization_id,
            archived=archived,
            among=among,
            limit=limit,
            offset=offset,
        )
        total = store.count_projects_of(connection, organization_id, archived=archived, among=among)
        return page, total

    def get_project(
        self, connection: sa.Connection, organization_id: str, project_id: str
    ) -> Project:
        """Return a project of this organization. Raise `AccountNotFoundError`."""
        project = store.select_project(connection, organization_id, project_id)
        if project is None:
            raise AccountNotFoundError("There is no such project.", param="project_id")
        return project

    def match_project(
        self, connection: sa.Connection, organization_id: str, reference: str
    ) -> Project:
        """Return the project of this organization that has this id or name, or a name of this form
        in addresses; of several the oldest. Raise `AccountNotFoundError`."""
        found = [
            each
            for each in store.select_projects(connection)
            if each.organization_id == organization_id and matches(reference, each.id, each.name)
        ]
        if not found:
            raise AccountNotFoundError("There is no such project.", param="project_id")
        return next((each for each in found if each.id == reference), found[0])

    def rename_project(
        self, connection: sa.Connection, project: Project, name: str, *, by: Actor
    ) -> Project:
        """Rename the project and return it. Raise `InvalidNameError`."""
        values = {"name": check_name(name)}
        store.update_project(connection, project.id, values)
        store.note_change(connection)
        self._record(connection, by, "project.updated", project, values)
        return self.get_project(connection, project.organization_id, project.id)

    def archive_project(self, connection: sa.Connection, project: Project, *, by: Actor) -> None:
        """Archive the project: its keys are refused, its receipts remain readable."""
        if project.archived_at is not None:
            return
        store.update_project(connection, project.id, {"archived_at": self._clock.now()})
        store.note_change(connection)
        self._record(connection, by, "project.archived", project)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        project: Project,
        changes: dict[str, Any] | None = None,
    ) -> None:
        fields = {"name": project.name} if changes is None else changes
        self._audit.record(
            connection, by, AuditEvent(action, project.organization_id, project.id, fields)
        )

    def list_organizations(self, connection: sa.Connection) -> list[Organization]:
        """Return every organization, oldest first."""
        return store.select_organizations(connection)

    def get_organization(self, connection: sa.Connection, organization_id: str) -> Organization:
        """Return the organization. Raise `AccountNotFoundError`."""
        organization = store.select_organization(connection, organization_id)
        if organization is None:
            raise AccountNotFoundError("There is no such organization.", param="organization_id")
        return organization

    def change_organization(
        self,
        connection: sa.Connection,
        organization: Organization,
        changes: Mapping[str, str],
        *,
        by: Actor,
    ) -> Organization:
        """Change `name` or `reporting_zone` and return the organization. Raise `InvalidNameError`
        and `UnknownZoneError`."""
        values = dict(changes)
        if "name" in values:
            values["name"] = check_name(values["name"])
        if "reporting_zone" in values:
            find_zone(values["reporting_zone"], param="reporting_zone")
        if not values:
            return organization
        return self._change(connection, organization, values, by=by, action="updated")

    def suspend_organization(
        self, connection: sa.Connection, organization: Organization, *, by: Actor
    ) -> Organization:
        """Refuse the organization's keys, and its people access to it, until it is resumed."""
        if organization.suspended_at is not None:
            return organization
        values = {"suspended_at": self._clock.now()}
        return self._change(connection, organization, values, by=by, action="suspended")

    def resume_organization(
        self, connection: sa.Connection, organization: Organization, *, by: Actor
    ) -> Organization:
        if organization.suspended_at is None:
            return organization
        values = {"suspended_at": None}
        return self._change(connection, organization, values, by=by, action="resumed")

    def _change(
        self,
        connection: sa.Connection,
        organization: Organization,
        values: dict[str, Any],
        *,
        by: Actor,
        action: str,
    ) -> Organization:
        store.update_organization(connection, organization.id, values)
        store.note_change(connection)
        fields = {} if "suspended_at" in values else values
        event = AuditEvent(f"organization.{action}", organization.id, organization.id, fields)
        self._audit.record(connection, by, event)
        return self.get_organization(connection, organization.id)

    def find_organization(self, connection: sa.Connection, reference: str | None) -> Organization:
        """Return the organization of that id or unique name; for None the only one. Raise
        `AccountNotFoundError`, also for a name that several have."""
        found = [
            known
            for known in store.select_organizations(connection)
            if reference in (None, known.id, known.name)
        ]
        if len(found) == 1:
            return found[0]
        where = "see `headgate organizations list`"
        message = f"There is no organization with the id or name {reference!r}; {where}."
        if found:
            named = "" if reference is None else f" named {reference!r}"
            message = f"There are {len(found)} organizations{named}; name one by its id with "
            message += f"--organization; {where}."
        elif reference is None:
            message = "There is no organization yet; `headgate organizations create` makes one."
        raise AccountNotFoundError(message, param="organization")

    def find_project(self, connection: sa.Connection, project: str | None) -> Project:
        """Return the project of that id or unique name; for None the oldest one. Raise
        `AccountNotFoundError`, also for a name that several have."""
        projects = store.select_projects(connection)
        if project is None:
            found = projects[:1]
        else:
            found = [known for known in projects if project in (known.id, known.name)]
        if len(found) == 1:
            return found[0]
        raise AccountNotFoundError(_explain_not_found(project, len(found)), param="project")


def _explain_not_found(project: str | None, found: int) -> str:
    if project is None:
        return "There is no project yet; start `headgate serve` once to make the first."
    if found:
        return f"{found} projects are named {project!r}; give the id instead."
    return f"There is no project with the id or name {project!r}."
