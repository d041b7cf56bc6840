"""Backups of an SQLite database: taken beside a running server, checked, and restored.

A backup is a folder with a whole copy of the database, a manifest with its checksum, and the files
of assets, unless these are in a bucket. The master
key is not in it: whoever has both can open every secret (docs/backup.md).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

import headgate
from headgate.assets.model.asset import StoredObject
from headgate.billing.service import ledger as billing
from headgate.data_directory import asset_copies, directory_lock
from headgate.data_directory.asset_copies import CopiedAssets
from headgate.data_directory.assets import build_storage_config
from headgate.data_directory.database import open_database
from headgate.data_directory.directory_lock import DATABASE_FILE
from headgate.data_directory.leftovers import MASTER_KEY_FILE
from headgate.kit.db import migration, sqlite
from headgate.kit.disk import flush
from headgate.kit.errors import HeadgateError, Kind
from headgate.settings import Settings
from headgate.vault.service import LocalSource, MasterKeySource
from headgate.vault.service.master_key import read_master_key, write_master_key

MANIFEST_FILE = "manifest.json"
FORMAT = 1
RESTORE = "headgate restore"
COUNTED = ("organizations", "keys", "credentials", "receipts", "entries", "holds")
CHUNK_BYTES = 1 << 20


class BackupNotAllowedError(HeadgateError):
    """The backup cannot be made there, or cannot be restored as it is. Nothing was changed.

    Do what the message says; see `docs/backup.md`.
    """

    kind = Kind.INVALID
    code = "backup_refused"


class DamagedBackupError(HeadgateError):
    """The copy of the database is incomplete, or its ledger does not balance.

    Use another backup.
    """

    kind = Kind.UNAVAILABLE
    code = "backup_damaged"


class CopiedFile(msgspec.Struct, frozen=True):
    name: str
    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what a backup holds.

    `database` is `sqlite` or `postgresql`, `schema` the schema's version, `created_at` in UTC,
    `rows` the number of rows of some tables. `assets` is None where their files are not in it.
    """

    format: int
    headgate: str
    database: str
    created_at: datetime.datetime
    schema: str
    file: CopiedFile
    rows: Mapping[str, int]
    assets: CopiedAssets | None = None


class RestoreResult(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what a restore did.

    `replaced` is where the former database went, if there was one; `needs_key` says that the master
    key is still missing; `assets` counts the files of assets, None where none were restored.
    """

    manifest: BackupManifest
    replaced: Path | None
    needs_key: bool
    assets: CopiedAssets | None = None


def back_up(
    settings: Settings, source: MasterKeySource, folder: Path, *, key_file: Path | None = None
) -> BackupManifest:
    """Back up the database to a new folder, and the master key to a new file if asked.

    Raise `BackupNotAllowedError`, `DamagedBackupError`, `StorageUnavailableError` and, for the key,
    `InvalidMasterKeyError`.
    """
    if key_file is not None:
        check_key_place(folder, key_file)
    database = open_database(settings)
    try:
        with database.reading() as connection, contextlib.ExitStack() as undo:
            if key_file is not None:
                _write_key(source, connection, key_file)
                # Without its backup it would be in the way of the next try.
                undo.callback(key_file.unlink)
            connection.rollback()
            files = build_storage_config(settings).folder
            manifest = copy_database(connection, folder, files)
            undo.pop_all()
    finally:
        database.close()
    return manifest


def copy_database(
    connection: sa.Connection, folder: Path, files: Path | None = None
) -> BackupManifest:
    """Copy a database that may be in use to a new folder, and check the copy. The files of its
    assets are copied from the folder `files`.

    The connection must be outside of a transaction. Raise `BackupNotAllowedError` and
    `DamagedBackupError`.
    """
    with create_folder(folder) as made:
        path = made / DATABASE_FILE
        try:
            sqlite.copy_into(connection, path)
        except sqlite.DRIVER.OperationalError as error:
            raise BackupNotAllowedError(
                f"Cannot write {folder}, or cannot read the database: {error}."
            ) from error
        path.chmod(0o600)
        schema, rows = check_copy(path)
        assets = asset_copies.back_up(asset_copies.find_in_copy(path), files, made)
        file = describe_file(path)
        manifest = describe("sqlite", schema=schema, file=file, rows=rows, assets=assets)
        write_manifest(made, manifest)
    return manifest


@contextlib.contextmanager
def create_folder(folder: Path) -> Generator[Path]:
    """Create a folder under a temporary name; rename it at the end, remove it on an error. Raise
    `BackupNotAllowedError`."""
    if folder.exists():
        raise BackupNotAllowedError(f"{folder} exists already; name a new folder for the backup.")
    made = folder.with_name(f"{folder.name}.part")
    try:
        if made.exists():
            shutil.rmtree(made)
        made.mkdir(mode=0o700, parents=True)
        yield made
        made.rename(folder)
        flush(folder.parent)
    except OSError as error:
        raise BackupNotAllowedError(f"{folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def describe(
    database: str,
    *,
    schema: str,
    file: CopiedFile,
    rows: Mapping[str, int],
    assets: CopiedAssets | None = None,
) -> BackupManifest:
    return BackupManifest(
        format=FORMAT,
        headgate=headgate.__version__,
        database=database,
        created_at=datetime.datetime.now(datetime.UTC),
        schema=schema,
        file=file,
        rows=rows,
        assets=assets,
    )


def write_manifest(folder: Path, manifest: BackupManifest) -> None:
    """Write the manifest, which is the last file of a backup."""
    path = folder / MANIFEST_FILE
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    path.chmod(0o600)
    flush(path)
    flush(folder)


def read_manifest(folder: Path, database: str) -> BackupManifest:
    """Read the manifest of a backup of that kind of database. Raise `BackupNotAllowedError`."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes(), type=BackupManifest)
    except FileNotFoundError as error:
        message = f"{folder} is not a backup: it has no {MANIFEST_FILE}."
        raise BackupNotAllowedError(message) from error
    except (OSError, msgspec.DecodeError) as error:
        raise BackupNotAllowedError(f"{folder / MANIFEST_FILE} cannot be read: {error}.") from error
    if manifest.format != FORMAT or manifest.schema not in migration.list_versions():
        raise BackupNotAllowedError(
            f"{folder} was made by Headgate {manifest.headgate} (schema {manifest.schema}), which "
            "is newer than this one; restore it with that version."
        )
    if manifest.database != database:
        raise BackupNotAllowedError(
            f"{folder} is a backup of {manifest.database}, and this installation is on {database}: "
            "HEADGATE_DATABASE_URL decides which."
        )
    return manifest


def check_copy(path: Path) -> tuple[str, dict[str, int]]:
    """Return the schema and row counts of a sound copy. Raise `DamagedBackupError`."""
    engine = sqlite.open_copy(path)
    try:
        with engine.connect() as connection:
            damage = sqlite.find_damage(connection)
            if damage is not None:
                raise DamagedBackupError(f"The copy {path} is damaged: {damage}. Use another one.")
            return check_ledger(connection)
    except exc.DatabaseError as error:
        raise DamagedBackupError(f"The copy {path} cannot be read: {error.orig}.") from error
    finally:
        engine.dispose()


def check_ledger(connection: sa.Connection) -> tuple[str, dict[str, int]]:
    """Return the schema's version and row counts if the ledger balances. Raise
    `DamagedBackupError`."""
    schema = migration.read_version(connection)
    if schema is None:
        raise DamagedBackupError("The database was never set up by Headgate.")
    # A ledger of an older schema is checked by the start that upgrades it, and by the doctor.
    faults = billing.find_inconsistencies(connection) if schema == migration.HEAD else []
    if faults:
        message = f"The ledger does not balance: {' '.join(faults)} Run `headgate doctor`."
        raise DamagedBackupError(message)
    known = set(sa.inspect(connection).get_table_names())
    rows = {
        name: connection.execute(
            sa.select(sa.func.count()).select_from(sa.table(name))
        ).scalar_one()
        for name in COUNTED
        if name in known
    }
    return schema, rows


def describe_file(path: Path) -> CopiedFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
    return CopiedFile(path.name, path.stat().st_size, digest.hexdigest())


def check_file(folder: Path, manifest: BackupManifest) -> Path:
    """Return the database file of a backup if it is unchanged. Raise `DamagedBackupError`."""
    path = folder / manifest.file.name
    if path.parent != folder or not is_file(path) or describe_file(path) != manifest.file:
        raise DamagedBackupError(
            f"{path} is not the file that the manifest names: its checksum differs."
        )
    return path


def is_file(path: Path) -> bool:
    """Return whether the file exists; False also for impossible names."""
    try:
        return path.is_file()
    except OSError:
        return False


def restore(
    settings: Settings,
    source: MasterKeySource,
    folder: Path,
    *,
    replace: bool,
    key_file: Path | None = None,
) -> RestoreResult:
    """Restore the database of a backup into the data directory, with its master key if given.

    The former database is moved aside, never deleted. Raise `BackupNotAllowedError`,
    `DamagedBackupError`, `DataDirectoryInUseError` beside a running server, and
    `InvalidMasterKeyError` where the present master key is not the backup's.
    """
    with directory_lock.hold(settings, RESTORE):
        manifest = read_manifest(folder, "sqlite")
        path = check_file(folder, manifest)
        if check_copy(path) != (manifest.schema, manifest.rows):
            message = f"{path} has other tables or rows than its manifest says. Use another backup."
            raise DamagedBackupError(message)
        target = (settings.data / DATABASE_FILE).resolve()
        is_taken = any(each.exists() and each.stat().st_size > 0 for each in _list_files(target))
        if is_taken and not replace:
            raise BackupNotAllowedError(
                f"There is a database {target} already. Add --replace to move it aside, or "
                "choose another directory with --data."
            )
        material, needs_key = _choose_key(settings, source, path, key_file)
        fresh = target.with_name(f"{target.name}.restoring")
        try:
            _copy_file(path, fresh, manifest)
            assets = restore_assets(
                settings, manifest, lambda: asset_copies.find_in_copy(path), folder
            )
            replaced = _move_aside(target)
            fresh.rename(target)
            flush(target.parent)
        finally:
            fresh.unlink(missing_ok=True)
        if material is not None:
            write_master_key(settings.data / MASTER_KEY_FILE, material)
    return RestoreResult(manifest=manifest, replaced=replaced, needs_key=needs_key, assets=assets)


def restore_assets(
    settings: Settings,
    manifest: BackupManifest,
    find: Callable[[], Sequence[StoredObject]],
    folder: Path,
) -> CopiedAssets | None:
    """Copy the files of assets that are in a backup to where the settings keep them; `find` returns
    those that its database names. None where there are none in it, or assets are in a bucket. Raise
    `BackupNotAllowedError`."""
    target = build_storage_config(settings).folder
    if manifest.assets is None or target is None:
        return None
    try:
        return asset_copies.copy_objects(find(), folder / asset_copies.FOLDER, target)
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror}. Assets belong there."
        raise BackupNotAllowedError(message) from error


def check_key_place(folder: Path, key_file: Path) -> None:
    """Raise `BackupNotAllowedError` for a key file that exists or would be inside the backup."""
    if key_file.exists():
        raise BackupNotAllowedError(
            f"{key_file} exists already; name a new file for the master key."
        )
    if folder.absolute() in key_file.absolute().parents:
        raise BackupNotAllowedError(
            f"{key_file} would be inside the backup: whoever has both can open every secret. Keep "
            "the key elsewhere."
        )


def _write_key(source: MasterKeySource, connection: sa.Connection, key_file: Path) -> None:
    if not isinstance(source, LocalSource):
        raise BackupNotAllowedError(
            f"{source.provider} keeps the master key, so there is no key file to write. Keep the "
            "access to that key service, and omit --key-file."
        )
    material = source.read_material(connection)
    if material is None:
        raise BackupNotAllowedError("There is no master key yet; omit --key-file.")
    try:
        write_master_key(key_file, material)
    except OSError as error:
        raise BackupNotAllowedError(f"{key_file} cannot be written: {error.strerror}.") from error


def _choose_key(
    settings: Settings, source: MasterKeySource, path: Path, key_file: Path | None
) -> tuple[bytes | None, bool]:
    """Return the key to write, and whether one is still missing."""
    if not isinstance(source, LocalSource):
        if key_file is None:
            return None, False
        raise BackupNotAllowedError(f"{source.provider} keeps the master key; omit --key-file.")
    engine = sqlite.open_copy(path)
    try:
        with engine.connect() as connection:
            if key_file is None:
                if not source.has_key:
                    return None, True
                source.find(connection)
                return None, False
            if read_master_key(key_file) is None:
                raise BackupNotAllowedError(f"There is no key file {key_file}.")
            material = LocalSource(text=None, path=key_file).read_material(connection)
    finally:
        engine.dispose()
    present = settings.data / MASTER_KEY_FILE
    if not present.exists():
        return material, False
    if read_master_key(present) != material:
        raise BackupNotAllowedError(f"{present} is another master key; move it away first.")
    return None, False


def _list_files(target: Path) -> list[Path]:
    return [target, *(target.with_name(target.name + suffix) for suffix in ("-wal", "-shm"))]


def _move_aside(target: Path) -> Path | None:
    present = [each for each in _list_files(target) if each.exists()]
    if not present:
        return None
    now = datetime.datetime.now(datetime.UTC)
    aside = target.with_name(f"replaced-{now:%Y%m%dT%H%M%S.%fZ}")
    aside.mkdir(mode=0o700)
    for each in present:
        each.rename(aside / each.name)
    flush(aside)
    return aside


def _copy_file(path: Path, fresh: Path, manifest: BackupManifest) -> None:
    fresh.unlink(missing_ok=True)
    try:
        shutil.copyfile(path, fresh)
    except OSError as error:
        raise BackupNotAllowedError(f"{fresh} cannot be written: {error.strerror}.") from error
    fresh.chmod(0o600)
    copied = describe_file(fresh)
    if copied.sha256 != manifest.file.sha256:
        raise DamagedBackupError(f"{fresh} differs from {path} after copying; check the disk.")
