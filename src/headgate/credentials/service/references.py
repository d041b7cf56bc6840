"""Find credentials by the names that people give them, without their secrets."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.credentials.store import listing


class CredentialReference(msgspec.Struct, frozen=True):
    """Name a credential that an organization can use. One of the platform is `managed`."""

    id: str
    name: str
    integration: str
    managed: bool = False


def list_references(connection: sa.Connection, organization_id: str) -> list[CredentialReference]:
    """Return the credentials of an organization, then those of the platform."""
    return [
        CredentialReference(row.id, row.name, row.integration, row.organization_id is None)
        for row in listing.select_usable(connection, organization_id)
    ]
