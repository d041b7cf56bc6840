"""Define the priority pools of projects, and find them in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.capacity.model.pools import (
    PoolsNotFoundError,
    PriorityPool,
    PriorityPools,
    check_pools,
)
from headgate.capacity.store import pools as store
from headgate.capacity.store.pools import TOPIC
from headgate.kit.clock import Clock


class PoolService:
    """Define, show and remove the priority pools of projects. The caller commits."""

    def __init__(self, clock: Clock, audit: AuditLog) -> None:
        self._clock = clock
        self._audit = audit

    def get(self, connection: sa.Connection, project_id: str) -> PriorityPools:
        """Return the pools of a project. Raise `PoolsNotFoundError`."""
        found = store.select_pools(connection, project_id)
        if found is None:
            raise PoolsNotFoundError("The project has no priority pools.")
        return found

    def set(
        self,
        connection: sa.Connection,
        *,
        organization_id: str,
        project_id: str,
        pools: Sequence[PriorityPool],
        by: Actor,
    ) -> PriorityPools:
        """Replace the pools of a project. Raise `InvalidPoolsError`."""
        check_pools(pools)
        now = self._clock.now()
        before = store.select_pools(connection, project_id)
        after = PriorityPools(
            project_id=project_id,
            organization_id=organization_id,
            pools=tuple(pools),
            created_at=now,
            updated_at=now,
        )
        if before is None:
            store.insert(connection, after)
        else:
            after = replace(after, version=before.version + 1, created_at=before.created_at)
            store.update(connection, after)
        self._record(connection, by, "priority_pools.set", after)
        return after

    def remove(self, connection: sa.Connection, pools: PriorityPools, *, by: Actor) -> None:
        """Remove the pools of a project: its calls share their credentials freely."""
        store.delete(connection, pools.project_id)
        self._record(connection, by, "priority_pools.removed", pools)

    def _record(
        self, connection: sa.Connection, by: Actor, action: str, pools: PriorityPools
    ) -> None:
        fields: dict[str, Any] = {"pools": msgspec.to_builtins(pools.pools)}
        event = AuditEvent(action, pools.organization_id, pools.project_id, fields)
        self._audit.record(connection, by, event)


class PoolIndex:
    """Find the pools of projects, in memory."""

    def __init__(self) -> None:
        self.projects: Mapping[str, PriorityPools] = {}

    def load(self, connection: sa.Connection) -> None:
        self.projects = {
            pools.project_id: pools for pools in store.select_all(connection) if pools.pools
        }


__all__ = ["TOPIC", "PoolIndex", "PoolService"]
