"""The SQL of what projects keep of their requests."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision
from headgate.request_log.model.settings import RequestLogSettings

TOPIC = "request_log"

SETTINGS = sa.Table(
    "request_log_settings",
    METADATA,
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("retention_days", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)
_S = SETTINGS.c


def find(connection: sa.Connection, project_id: str) -> RequestLogSettings | None:
    query = sa.select(_S.mode, _S.retention_days, _S.version).where(_S.project_id == project_id)
    row = connection.execute(query).first()
    return None if row is None else RequestLogSettings(*row)


def select_all(connection: sa.Connection) -> dict[str, RequestLogSettings]:
    """Return what every project keeps that has said so, by project."""
    query = sa.select(_S.project_id, _S.mode, _S.retention_days, _S.version)
    return {row[0]: RequestLogSettings(*row[1:]) for row in connection.execute(query)}


def save(
    connection: sa.Connection,
    project_id: str,
    organization_id: str,
    settings: RequestLogSettings,
    *,
    now: float,
) -> None:
    """Store the settings of a project, and tell every process."""
    bump_revision(connection, TOPIC)
    values = {
        "mode": settings.mode,
        "retention_days": settings.retention_days,
        "version": settings.version,
        "updated_at": now,
    }
    update = sa.update(SETTINGS).where(_S.project_id == project_id).values(**values)
    if not connection.execute(update).rowcount:
        owner = {"project_id": project_id, "organization_id": organization_id}
        connection.execute(sa.insert(SETTINGS).values(**owner, **values))
