"""Adds, changes and removes resources. The caller commits; each change bumps the revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys.model import KeyFilter, KeyNotFoundError
from headgate.keys.service import Authority, KeyService
from headgate.kit.clock import Clock
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import ModelCatalog
from headgate.resources.model.resource import (
    CredentialInUseError,
    InvalidResourceError,
    Resource,
    ResourceChange,
    ResourceConflictError,
    ResourceFilter,
    ResourceNotFoundError,
    ResourceRequest,
    check_name,
    uses_credential,
)
from headgate.resources.service.validation import check_config, check_description
from headgate.resources.store import resources as store

NAMED_MAX = 5
"""How many resources an error names."""
KEYS_MAX = 100_000


class ResourceService:
    def __init__(
        self,
        accounts: AccountService,
        keys: KeyService,
        models: ModelCatalog,
        *,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        resources_max: int = 1_000,
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._models = models
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._resources_max = resources_max

    def list_page(
        self, connection: sa.Connection, filters: ResourceFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[Resource], int]:
        """Return a page of an organization's resources, by name, and their total number."""
        page = store.select_page(connection, filters, limit=limit, offset=offset)
        return page, store.count(connection, filters)

    def find(self, connection: sa.Connection, filters: ResourceFilter, reference: str) -> Resource:
        """Find a resource by its id, or by a name that only one has. Raise
        `ResourceNotFoundError`."""
        found = store.select_named(connection, filters, reference)
        found = [each for each in found if each.id == reference] or found
        if len(found) == 1:
            return found[0]
        several = f"{len(found)} resources are named {reference!r}; give the id."
        none = f"There is no resource {reference!r}."
        raise ResourceNotFoundError(several if found else none, param="resource")

    def create(
        self,
        connection: sa.Connection,
        request: ResourceRequest,
        *,
        by: Actor,
        authority: Authority | None = None,
    ) -> Resource:
        """Add a resource to a project. Raise `InvalidResourceError`, `InvalidRoutingError`,
        `ResourceConflictError`, `AccountNotFoundError` and, for the keys that get it, as
        `KeyService.update`."""
        # First: concurrent writers wait here, and then read this change.
        store.note_change(connection)
        project = self._accounts.get_project(
            connection, request.organization_id, request.project_id
        )
        now = self._clock.now()
        resource = Resource(
            id=self._ids.make("res"),
            organization_id=project.organization_id,
            project_id=project.id,
            name=check_name(request.name),
            description=check_description(request.description),
            config=check_config(connection, project.organization_id, request.config, self._models),
            created_at=now,
            updated_at=now,
        )
        self._check_name_is_free(connection, resource)
        mine = ResourceFilter(organization_id=project.organization_id)
        if store.count(connection, mine) >= self._resources_max:
            message = f"The organization has {self._resources_max} resources, which is the maximum."
            raise ResourceConflictError(message)
        store.insert(connection, resource)
        self._record(connection, by, "resource.created", resource, describe(resource))
        self._assign(connection, resource, request.assign_api_keys, by=by, authority=authority)
        return resource

    def update(
        self,
        connection: sa.Connection,
        resource: Resource,
        change: ResourceChange,
        *,
        by: Actor,
        authority: Authority | None = None,
    ) -> Resource:
        """Change the given fields; write nothing if nothing differs. A key that may use the
        resource by its old name may use it by the new one. Raise as `create`, and
        `ResourceConflictError` if it was changed since it was read."""
        store.note_change(connection)
        changed = self._apply(connection, resource, change)
        if changed != resource:
            changed = replace(changed, updated_at=self._clock.now(), version=resource.version + 1)
            if changed.name != resource.name:
                self._check_name_is_free(connection, changed)
            if not store.update(connection, changed):
                raise ResourceConflictError(
                    "The resource was changed by somebody else. Read it again."
                )
            before, after = describe(resource), describe(changed)
            fields = {name: after[name] for name in after if after[name] != before[name]}
            self._record(connection, by, "resource.updated", changed, fields)
            if changed.name != resource.name:
                self._rename_in_keys(connection, resource, changed.name, by=by, authority=authority)
        self._assign(connection, changed, change.assign_api_keys, by=by, authority=authority)
        return changed

    def delete(self, connection: sa.Connection, resource: Resource, *, by: Actor) -> None:
        """Delete a resource. Keys that are limited to it keep its name, so that they do not become
        keys without a limit."""
        store.note_change(connection)
        store.delete(connection, resource.id)
        self._record(connection, by, "resource.deleted", resource, {"name": resource.name})

    def list_using(
        self, connection: sa.Connection, organization_id: str, credential_id: str
    ) -> list[Resource]:
        """Return the resources that may send calls to a credential, by name."""
        filters = ResourceFilter(organization_id=organization_id)
        found = store.select_page(connection, filters, limit=self._resources_max, offset=0)
        return [each for each in found if uses_credential(each.config, credential_id)]

    def check_unused(
        self, connection: sa.Connection, organization_id: str, credential_id: str
    ) -> None:
        """Raise `CredentialInUseError` where resources may send calls to a credential."""
        store.note_change(connection)
        found = self.list_using(connection, organization_id, credential_id)
        if found:
            named = ", ".join(each.name for each in found[:NAMED_MAX])
            more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
            raise CredentialInUseError(
                f"Resources send calls to this credential: {named}{more}. Change or delete them "
                "first."
            )

    def delete_using(
        self, connection: sa.Connection, organization_id: str, credential_id: str, *, by: Actor
    ) -> None:
        """Delete the resources that may send calls to a credential."""
        store.note_change(connection)
        for resource in self.list_using(connection, organization_id, credential_id):
            self.delete(connection, resource, by=by)

    def _apply(
        self, connection: sa.Connection, resource: Resource, change: ResourceChange
    ) -> Resource:
        if change.name is not msgspec.UNSET:
            resource = replace(resource, name=check_name(change.name))
        if change.description is not msgspec.UNSET:
            resource = replace(resource, description=check_description(change.description))
        if change.config is not msgspec.UNSET:
            config = check_config(connection, resource.organization_id, change.config, self._models)
            resource = replace(resource, config=config)
        return resource

    def _check_name_is_free(self, connection: sa.Connection, resource: Resource) -> None:
        mine = ResourceFilter(
            organization_id=resource.organization_id, project_id=resource.project_id
        )
        found = store.select_named(connection, mine, resource.name)
        if any(each.name == resource.name and each.id != resource.id for each in found):
            message = f"The project has a resource {resource.name!r} already."
            raise ResourceConflictError(message, param="name")

    def _assign(
        self,
        connection: sa.Connection,
        resource: Resource,
        key_ids: Sequence[str],
        *,
        by: Actor,
        authority: Authority | None,
    ) -> None:
        """Let keys use a resource. One without a list of resources may use all, and stays so."""
        for index, key_id in enumerate(key_ids):
            try:
                key = self._keys.get(connection, resource.organization_id, key_id)
            except KeyNotFoundError:
                key = None
            if key is None or resource.project_id not in (key.project_id, *key.projects):
                raise InvalidResourceError(
                    f"Invalid 'assign_api_keys[{index}]': the project of the resource has no key "
                    f"{key_id!r}.",
                    param=f"assign_api_keys[{index}]",
                )
            if key.resources and resource.name not in key.resources:
                names = (*key.resources, resource.name)
                changes = {"resources": names}
                self._keys.update(connection, key, changes, by=by, authority=authority)

    def _rename_in_keys(
        self,
        connection: sa.Connection,
        resource: Resource,
        name: str,
        *,
        by: Actor,
        authority: Authority | None,
    ) -> None:
        filters = KeyFilter(organization_id=resource.organization_id, include_revoked=False)
        keys, _ = self._keys.list_page(connection, filters, limit=KEYS_MAX)
        for key in keys:
            is_of_project = resource.project_id in (key.project_id, *key.projects)
            if is_of_project and resource.name in key.resources:
                names = tuple(name if each == resource.name else each for each in key.resources)
                changes = {"resources": names}
                self._keys.update(connection, key, changes, by=by, authority=authority)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        resource: Resource,
        changes: Mapping[str, Any],
    ) -> None:
        event = AuditEvent(action, resource.organization_id, resource.id, dict(changes))
        self._audit.record(connection, by, event)


def describe(resource: Resource) -> dict[str, Any]:
    """Return the fields of a resource for the audit log."""
    fields: dict[str, Any] = {
        "project_id": resource.project_id,
        "name": resource.name,
        "description": resource.description,
    }
    return {**fields, **msgspec.to_builtins(resource.config)}
