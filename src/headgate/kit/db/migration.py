"""Brings a database to the schema that this version of Headgate expects, or refuses to start.

The serving process never loads the migration tool: a new database is created from the tables
themselves, and an older one is upgraded by a process of its own (`headgate.kit.db.upgrade`).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from headgate.kit.db.engine import Database
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint

HEAD = "0010"
SCRIPTS = Path(__file__).parents[2] / "migrations"

VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class SchemaUnusable(HeadgateError):
    """The database cannot be used by this version; it was left as it was."""

    kind = Kind.UNAVAILABLE
    code = "schema_unusable"


def prepare(database: Database, metadata: sa.MetaData, *, head: str = HEAD) -> None:
    """Create, upgrade or accept the database. Raises SchemaUnusable or StorageUnavailable."""
    with database.transaction() as connection:
        if not sa.inspect(connection).get_table_names():
            metadata.create_all(connection)
            VERSION.create(connection)
            connection.execute(sa.insert(VERSION).values(version_num=head))
            failpoint("first_start_tables")
    version = _read_version(database)
    if version == head:
        return
    if version not in _list_versions():
        raise SchemaUnusable(
            f"The database {database.path} has the schema version {version or '(none)'}, which "
            f"this Headgate does not know (it goes up to {head}). Was it written by a newer "
            "Headgate, or by another program? Start that one, or choose another database."
        )
    complaint = _upgrade(database.path)
    if _read_version(database) != head:
        raise SchemaUnusable(
            f"The database {database.path} could not be upgraded from {version} to {head}, and "
            f"was left as it was. {complaint}"
        )


def _read_version(database: Database) -> str | None:
    with database.reading() as connection:
        if not sa.inspect(connection).has_table(VERSION.name):
            return None
        return connection.execute(sa.select(VERSION.c.version_num)).scalar_one_or_none()


def _list_versions() -> frozenset[str]:
    return frozenset(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def _upgrade(path: Path) -> str:
    """What the upgrading process complained of."""
    done = subprocess.run(
        [sys.executable, "-m", "headgate.kit.db.upgrade", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()[-2000:]
