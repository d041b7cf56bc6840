"""The SQL of assets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.assets.model.asset import Asset, AssetFilter, AssetUsage, StoredObject
from headgate.kit.db.schema import METADATA, bump_revision, count_rows

TOPIC = "assets"
PAGE_ROWS = 500

ASSETS = sa.Table(
    "assets",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("alt", sa.Text),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Index("uq_assets_slug", "project_id", "slug", unique=True),
    sa.Index("ix_assets_organization_id", "organization_id", "created_at", "id"),
    sa.Index("ix_assets_expires_at", "expires_at"),
)
_A = ASSETS.c


def lock(connection: sa.Connection) -> None:
    """Let one transaction after the other store assets, so that none exceeds a quota."""
    bump_revision(connection, TOPIC)


def select_page(
    connection: sa.Connection, filters: AssetFilter, *, now: float, limit: int, offset: int
) -> list[Asset]:
    """Return a page of assets, the newest first."""
    statement = (
        sa.select(ASSETS)
        .where(*_conditions(filters, now))
        .order_by(_A.created_at.desc(), _A.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [_read(row) for row in connection.execute(statement)]


def count(connection: sa.Connection, filters: AssetFilter, *, now: float) -> int:
    return count_rows(connection, ASSETS, *_conditions(filters, now))


def find(connection: sa.Connection, asset_id: str) -> Asset | None:
    return _find_one(connection, _A.id == asset_id)


def find_slug(connection: sa.Connection, project_id: str, slug: str) -> Asset | None:
    return _find_one(connection, _A.project_id == project_id, _A.slug == slug)


def sum_usage(
    connection: sa.Connection, organization_id: str, among: Sequence[str] = ()
) -> AssetUsage:
    """Count assets, also expired ones that are not deleted yet; of all projects without any."""
    total = sa.func.coalesce(sa.func.sum(_A.bytes), 0)
    statement = sa.select(sa.func.count(), total).where(_A.organization_id == organization_id)
    if among:
        statement = statement.where(_A.project_id.in_(among))
    found, size = connection.execute(statement).one()
    return AssetUsage(found, int(size))


def insert(connection: sa.Connection, asset: Asset) -> None:
    connection.execute(sa.insert(ASSETS).values(**msgspec.structs.asdict(asset)))


def replace(connection: sa.Connection, asset: Asset) -> None:
    values = msgspec.structs.asdict(asset)
    connection.execute(sa.update(ASSETS).where(_A.id == asset.id).values(**values))


def delete(connection: sa.Connection, asset_id: str) -> bool:
    """Return whether there was one."""
    return connection.execute(sa.delete(ASSETS).where(_A.id == asset_id)).rowcount == 1


def select_expired(connection: sa.Connection, now: float, *, limit: int) -> list[Asset]:
    statement = sa.select(ASSETS).where(_A.expires_at <= now).order_by(_A.expires_at).limit(limit)
    return [_read(row) for row in connection.execute(statement)]


def list_objects(connection: sa.Connection) -> Iterator[StoredObject]:
    """Return the objects of all assets."""
    after = ""
    columns = (_A.object_key, _A.bytes, _A.sha256)
    while True:
        statement = sa.select(_A.id, *columns).where(_A.id > after).order_by(_A.id)
        rows = connection.execute(statement.limit(PAGE_ROWS)).all()
        if not rows:
            return
        for row in rows:
            yield StoredObject(row.object_key, row.bytes, row.sha256)
        after = rows[-1].id


def _find_one(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> Asset | None:
    row = connection.execute(sa.select(ASSETS).where(*conditions)).one_or_none()
    return None if row is None else _read(row)


def _conditions(filters: AssetFilter, now: float) -> Iterator[sa.ColumnElement[bool]]:
    yield _A.organization_id == filters.organization_id
    yield sa.or_(_A.expires_at.is_(None), _A.expires_at > now)
    if filters.project_id is not None:
        yield _A.project_id == filters.project_id
    if filters.among:
        yield _A.project_id.in_(filters.among)


def _read(row: Any) -> Asset:
    return Asset(**{name: getattr(row, name) for name in Asset.__struct_fields__})
