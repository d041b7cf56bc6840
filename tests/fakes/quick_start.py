"""Open an application in a new data directory without what every first start does anew: reading
the manifests, composing their prices, and creating the tables."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from headgate.catalog.service.catalog import Catalog
from headgate.data_directory.directory_lock import DATABASE_FILE, make_directory
from headgate.kit.clock import Clock
from headgate.kit.db import migration, schema
from headgate.kit.db.engine import Database
from headgate.main.application import Application, open_application
from headgate.settings import Settings

CATALOG = Path(__file__).parents[1] / "golden" / "catalog"
"""An operator's own integrations, one of each type."""


def open_quickly(settings: Settings, *, clock: Clock | None = None) -> Application:
    """Open the application as `open_application` does; the schema and the catalog are copies."""
    place = settings.data / DATABASE_FILE
    if settings.database_url is None and not place.exists():
        make_directory(settings.data)
        place.write_bytes(make_empty_database())
    known = (None, CATALOG)
    catalog = read_catalog(settings.catalog_dir) if settings.catalog_dir in known else None
    return open_application(settings, clock=clock, catalog=catalog and catalog.copy())


@functools.cache
def make_empty_database() -> bytes:
    """Return an SQLite file that has the tables and no rows."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / DATABASE_FILE
        database = Database(place)
        migration.prepare(database, schema.METADATA)
        database.close()
        return place.read_bytes()


@functools.cache
def read_catalog(folder: Path | None) -> Catalog:
    return Catalog.load(folder)
