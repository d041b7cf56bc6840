"""Declare what finds the route of a call: by the resource or the target that its `model` names."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from headgate.relay.call import Call
from headgate.relay.targets import CallRoute


class ResourceRouter(Protocol):
    """Find routes, from snapshots in memory."""

    @property
    def projects(self) -> Container[str]:
        """Return the projects that have any resource. A call of another one costs one look."""
        ...

    def route(self, call: Call) -> CallRoute | None:
        """Return the route of a call; None where its `model` names a model and nothing else.

        Raise a `HeadgateError`: for a resource that does not exist where one must be named, for
        options that do not fit it, and for a call that its conditions block.
        """
        ...


class NoResources:
    """Have no resource for anybody."""

    projects: Container[str] = frozenset[str]()

    def route(self, call: Call) -> CallRoute | None:
        return None


NO_RESOURCES: ResourceRouter = NoResources()
