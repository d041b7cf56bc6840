"""List the resources of a project among the models that its keys can call."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol

import msgspec

from headgate.gateway import listing
from headgate.relay.admission import is_in_scope
from headgate.relay.ports import Grant
from headgate.relay.targets import CallRoute


class ListedResources(Protocol):
    """Find resources, from memory."""

    @property
    def projects(self) -> Container[str]:
        """Return the projects that have any."""
        ...

    def list_routes(self, project_id: str) -> Sequence[tuple[str, float, CallRoute]]:
        """Return name, time of creation and route of the resources of a project, by name."""
        ...


class NoListedResources:
    """Have no resource for anybody (`ListedResources`)."""

    projects: Container[str] = frozenset[str]()

    def list_routes(self, project_id: str) -> Sequence[tuple[str, float, CallRoute]]:
        return ()


class ResourceModels:
    """Write the resources that a key may use as rows of a list of models."""

    def __init__(self, resources: ListedResources) -> None:
        self._resources = resources

    def list(self, grant: Grant) -> list[tuple[str, bytes]]:
        """Return name and row of each resource that a key may use, by name."""
        if grant.project_id not in self._resources.projects:
            return []
        return [
            (name, write_row(name, created_at, route))
            for name, created_at, route in self._resources.list_routes(grant.project_id)
            if (not grant.resources or name in grant.resources) and is_in_scope(name, grant.models)
        ]

    def find(self, grant: Grant, wanted: str) -> bytes | None:
        """Return the row of one resource; None where the key has none of that name."""
        return next((row for name, row in self.list(grant) if name == wanted), None)


def write_row(name: str, created_at: float, route: CallRoute) -> bytes:
    """Write a resource in the shape of a model."""
    metadata = {
        "display_name": name,
        "kind": "resource",
        "provider": route.targets[0].integration,
        "models": [target.model for target in route.targets],
    }
    return listing.write_owned(name, created_at, msgspec.json.encode(metadata))
