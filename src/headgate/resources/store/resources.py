"""The SQL of resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision, count_rows
from headgate.resources.model.resource import Resource, ResourceConfig, ResourceFilter

TOPIC = "resources"

RESOURCES = sa.Table(
    "resources",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("uq_resources_name", "project_id", "name", unique=True),
    sa.Index("ix_resources_organization_id", "organization_id"),
)
_COLUMNS = RESOURCES.c


def note_change(connection: sa.Connection) -> None:
    """Bump the revision, so that every process reloads after the commit."""
    bump_revision(connection, TOPIC)


def select_all(connection: sa.Connection) -> list[Resource]:
    """Return the resources of all organizations."""
    return [_read(row) for row in connection.execute(sa.select(RESOURCES))]


def select_page(
    connection: sa.Connection, filters: ResourceFilter, *, limit: int, offset: int
) -> list[Resource]:
    """Return a page of resources, by name."""
    statement = (
        sa.select(RESOURCES)
        .where(*_conditions(filters))
        .order_by(_COLUMNS.name, _COLUMNS.id)
        .limit(limit)
        .offset(offset)
    )
    return [_read(row) for row in connection.execute(statement)]


def count(connection: sa.Connection, filters: ResourceFilter) -> int:
    return count_rows(connection, RESOURCES, *_conditions(filters))


def select_named(
    connection: sa.Connection, filters: ResourceFilter, reference: str
) -> list[Resource]:
    """Return the resources of an id or name."""
    named = sa.or_(_COLUMNS.id == reference, _COLUMNS.name == reference)
    statement = sa.select(RESOURCES).where(*_conditions(filters), named)
    return [_read(row) for row in connection.execute(statement.order_by(_COLUMNS.id))]


def insert(connection: sa.Connection, resource: Resource) -> None:
    connection.execute(sa.insert(RESOURCES).values(**_write(resource)))


def update(connection: sa.Connection, resource: Resource) -> bool:
    """Store a resource. Return False if the stored version is not the one before it."""
    statement = sa.update(RESOURCES).where(
        _COLUMNS.id == resource.id, _COLUMNS.version == resource.version - 1
    )
    return connection.execute(statement.values(**_write(resource))).rowcount == 1


def delete(connection: sa.Connection, resource_id: str) -> None:
    connection.execute(sa.delete(RESOURCES).where(_COLUMNS.id == resource_id))


def _conditions(filters: ResourceFilter) -> Iterator[sa.ColumnElement[bool]]:
    yield _COLUMNS.organization_id == filters.organization_id
    if filters.project_id is not None:
        yield _COLUMNS.project_id == filters.project_id
    if filters.among:
        yield _COLUMNS.project_id.in_(filters.among)


def _write(resource: Resource) -> dict[str, Any]:
    values = msgspec.structs.asdict(resource)
    return {**values, "config": msgspec.json.encode(resource.config).decode()}


def _read(row: Any) -> Resource:
    values: dict[str, Any] = {name: getattr(row, name) for name in Resource.__struct_fields__}
    values["config"] = msgspec.json.decode(row.config, type=ResourceConfig)
    return Resource(**values)
