"""All SQL of the catalog settings of organizations."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.catalog.model.settings import LlmChoice, OrganizationSettings
from headgate.catalog.store.prices import TOPIC
from headgate.kit.db.schema import METADATA, bump_revision

CATALOG_SETTINGS = sa.Table(
    "catalog_settings",
    METADATA,
    sa.Column("organization_id", sa.Text, primary_key=True),
    sa.Column("llm_model_visibility", sa.Text, nullable=False),
    sa.Column("composer_llm", sa.Text),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)


def select_settings(connection: sa.Connection, organization_id: str) -> OrganizationSettings | None:
    statement = sa.select(CATALOG_SETTINGS).where(
        CATALOG_SETTINGS.c.organization_id == organization_id
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    chosen = row.composer_llm
    return OrganizationSettings(
        msgspec.json.decode(row.llm_model_visibility, type=dict[str, bool]),
        None if chosen is None else msgspec.json.decode(chosen, type=LlmChoice),
        row.version,
    )


def select_visibility(connection: sa.Connection) -> dict[str, dict[str, bool]]:
    columns = CATALOG_SETTINGS.c.organization_id, CATALOG_SETTINGS.c.llm_model_visibility
    return {
        row.organization_id: msgspec.json.decode(row.llm_model_visibility, type=dict[str, bool])
        for row in connection.execute(sa.select(*columns))
    }


def save_settings(
    connection: sa.Connection, organization_id: str, settings: OrganizationSettings, *, now: float
) -> None:
    """Replace the settings of an organization, and bump the revision of the catalog."""
    bump_revision(connection, TOPIC)
    chosen = settings.composer_llm
    values = {
        "llm_model_visibility": msgspec.json.encode(
            settings.llm_model_visibility, order="sorted"
        ).decode(),
        "composer_llm": None if chosen is None else msgspec.json.encode(chosen).decode(),
        "version": settings.version,
        "updated_at": now,
    }
    mine = CATALOG_SETTINGS.c.organization_id == organization_id
    updated = connection.execute(sa.update(CATALOG_SETTINGS).where(mine).values(**values))
    if not updated.rowcount:
        connection.execute(
            sa.insert(CATALOG_SETTINGS).values(organization_id=organization_id, **values)
        )
