"""Backups of a PostgreSQL database, by the server's own pg_dump and pg_restore."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from headgate.assets.model.asset import StoredObject
from headgate.data_directory import asset_copies, backup
from headgate.data_directory.assets import build_storage_config
from headgate.data_directory.backup import BackupManifest, BackupNotAllowedError
from headgate.data_directory.database import open_database
from headgate.kit.db import migration, postgresql
from headgate.settings import Settings

DUMP_FILE = "headgate.dump"
SERVICE = "headgate"
DUMP = ("pg_dump", "--format=custom", "--no-owner", "--no-privileges")
RESTORE = ("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
ERROR_CHARACTERS_MAX = 2_000


def back_up(settings: Settings, folder: Path) -> BackupManifest:
    """Dump the database to a new folder while servers run; rows are counted just before.

    Raise `BackupNotAllowedError`, which says what to run where pg_dump is missing, and
    `DamagedBackupError`.
    """
    database = open_database(settings)
    try:
        with database.reading() as connection:
            schema, rows = backup.check_ledger(connection)
    finally:
        database.close()
    before = find_assets(settings)
    with backup.create_folder(folder) as made:
        path = made / DUMP_FILE
        _run(settings, [*DUMP, f"--file={path}", f"--dbname=service={SERVICE}"])
        path.chmod(0o600)
        _run(settings, ["pg_restore", f"--file={os.devnull}", str(path)])
        file = backup.describe_file(path)
        # Whatever the dump names was there before it or is there now.
        objects = list(dict.fromkeys((*before, *find_assets(settings))))
        assets = asset_copies.back_up(objects, build_storage_config(settings).folder, made)
        manifest = backup.describe("postgresql", schema=schema, file=file, rows=rows, assets=assets)
        backup.write_manifest(made, manifest)
    return manifest


def restore(settings: Settings, folder: Path) -> BackupManifest:
    """Restore a dump into an empty database, all of it or nothing. Raise as `back_up`."""
    manifest = backup.read_manifest(folder, "postgresql")
    path = backup.check_file(folder, manifest)
    database = open_database(settings)
    try:
        if migration.has_schema(database):
            raise BackupNotAllowedError(
                f"{database.name} holds a Headgate already, and is left as it is. Create an empty "
                "database, and name it by HEADGATE_DATABASE_URL."
            )
        _run(settings, [*RESTORE, f"--dbname=service={SERVICE}", str(path)])
        with database.reading() as connection:
            backup.check_ledger(connection)
    finally:
        database.close()
    backup.restore_assets(settings, manifest, lambda: find_assets(settings), folder)
    return manifest


def find_assets(settings: Settings) -> list[StoredObject]:
    """Return the files of assets that the database names."""
    database = open_database(settings)
    try:
        with database.reading() as connection:
            return asset_copies.find_objects(connection)
    finally:
        database.close()


def _run(settings: Settings, command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise BackupNotAllowedError(
            f"{command[0]} is not installed here. Install PostgreSQL's client programs, or run "
            'where they are: pg_dump --format=custom --file=headgate.dump "$HEADGATE_DATABASE_URL" '
            "(and pg_restore --single-transaction --no-owner --dbname=URL headgate.dump into an "
            "empty database); see docs/backup.md."
        )
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        # The address may hold a password, which no list of processes should show.
        file = Path(folder) / "service.conf"
        file.write_text(_render_service(settings))
        file.chmod(0o600)
        done = subprocess.run(
            command,
            env={**os.environ, "PGSERVICEFILE": str(file)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        output = done.stderr.strip()[-ERROR_CHARACTERS_MAX:]
        raise BackupNotAllowedError(f"{command[0]} failed: {output}")


def _render_service(settings: Settings) -> str:
    assert settings.database_url is not None, "a database of a server has a URL"
    fields = postgresql.parse_url(settings.database_url)
    lines = [f"{name}={value}" for name, value in fields.items()]
    return "\n".join([f"[{SERVICE}]", *lines, ""])
