"""The SQL of priority pools: one row for each project that has some."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.capacity.model.pools import PriorityPool, PriorityPools
from headgate.kit.db.schema import METADATA, bump_revision

TOPIC = "priority_pools"

POOLS = sa.Table(
    "priority_pools",
    METADATA,
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False, index=True),
    sa.Column("pools", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)


def select_pools(connection: sa.Connection, project_id: str) -> PriorityPools | None:
    row = connection.execute(sa.select(POOLS).where(POOLS.c.project_id == project_id)).one_or_none()
    return None if row is None else _read(row)


def select_all(connection: sa.Connection) -> list[PriorityPools]:
    return [_read(row) for row in connection.execute(sa.select(POOLS))]


def insert(connection: sa.Connection, pools: PriorityPools) -> None:
    values: dict[str, Any] = msgspec.to_builtins(pools)
    connection.execute(sa.insert(POOLS).values(**values))
    bump_revision(connection, TOPIC)


def update(connection: sa.Connection, pools: PriorityPools) -> None:
    values: dict[str, Any] = msgspec.to_builtins(pools)
    connection.execute(
        sa.update(POOLS).where(POOLS.c.project_id == pools.project_id).values(**values)
    )
    bump_revision(connection, TOPIC)


def delete(connection: sa.Connection, project_id: str) -> None:
    connection.execute(sa.delete(POOLS).where(POOLS.c.project_id == project_id))
    bump_revision(connection, TOPIC)


def _read(row: Any) -> PriorityPools:
    return PriorityPools(
        project_id=row.project_id,
        organization_id=row.organization_id,
        pools=msgspec.convert(row.pools, tuple[PriorityPool, ...]),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
