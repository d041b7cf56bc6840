"""The revision by which other processes learn that keys, secrets or credentials changed."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.kit.db.schema import bump_revision

TOPIC = "credentials"


def note_change(connection: sa.Connection) -> None:
    """Bump the revision, so that every process reloads after the commit."""
    bump_revision(connection, TOPIC)
