"""Bring a database to the schema that this version of Headgate expects, or refuse to start.

The serving process never loads the migration tool: a new database is created from the tables
themselves, and an older one is upgraded by a process of its own (`headgate.kit.db.upgrade`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import REVISIONS
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint

HEAD = "0035"
URL_VARIABLE = "HEADGATE_DATABASE_URL"
SCRIPTS = Path(__file__).parents[2] / "migrations"

VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class UnusableSchemaError(HeadgateError):
    """This version cannot use the database, which was left as it was.

    Start the version that wrote it, or restore a backup.
    """

    kind = Kind.UNAVAILABLE
    code = "schema_unusable"


def prepare(database: Database, metadata: sa.MetaData, *, head: str = HEAD) -> None:
    """Create, upgrade or accept the database. Raise `UnusableSchemaError` or
    `StorageUnavailableError`."""
    with database.transaction(exclusive=True) as connection:
        fault = database.dialect.describe_fault(connection)
        if fault is not None:
            raise UnusableSchemaError(f"The database {database.name} cannot be used: {fault}.")
        if not sa.inspect(connection).get_table_names():
            metadata.create_all(connection)
            VERSION.create(connection)
            connection.execute(sa.insert(VERSION).values(version_num=head))
            failpoint("first_start_tables")
    version = _read_version(database)
    if version == head:
        return
    if version not in list_versions():
        raise UnusableSchemaError(
            f"The database {database.name} has the schema version {version or '(none)'}, which "
            f"this Headgate does not know (it goes up to {head}). Was it written by a newer "
            "Headgate, or by another program? Start that one, or choose another database."
        )
    complaint = _upgrade(database.place)
    if _read_version(database) != head:
        raise UnusableSchemaError(
            f"The database {database.name} could not be upgraded from {version} to {head}, and "
            f"was left as it was. {complaint}"
        )


def has_schema(database: Database) -> bool:
    """Return whether the database has a schema. Raise `StorageUnavailableError`."""
    with database.reading() as connection:
        return sa.inspect(connection).has_table(REVISIONS.name)


def is_current(database: Database) -> bool:
    """Return whether the schema is this version's. Raise `StorageUnavailableError`."""
    return _read_version(database) == HEAD


def read_version(connection: sa.Connection) -> str | None:
    """Return the schema's version; None where there is no schema."""
    if not sa.inspect(connection).has_table(VERSION.name):
        return None
    return connection.execute(sa.select(VERSION.c.version_num)).scalar_one_or_none()


def _read_version(database: Database) -> str | None:
    with database.reading() as connection:
        return read_version(connection)


def list_versions() -> frozenset[str]:
    """Return the schema versions from which this Headgate can upgrade."""
    return frozenset(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*.py"))


def _upgrade(place: Path | str) -> str:
    """Upgrade in a process of its own; return what it wrote to standard error."""
    # A URL may hold a password, which no list of processes should show.
    url = {URL_VARIABLE: place} if isinstance(place, str) else {}
    done = subprocess.run(
        [sys.executable, "-m", "headgate.kit.db.upgrade", *([] if url else [str(place)])],
        env={**os.environ, **url},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip()[-2000:]
