"""What a backup and a restore refuse, and what a restore leaves of what was there."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from headgate.data_directory import backup, directory_lock
from headgate.data_directory.backup import BackupNotAllowedError, DamagedBackupError
from headgate.data_directory.directory_lock import (
    DATABASE_FILE,
    DataDirectoryInUseError,
    UnusableDataDirectoryError,
)
from headgate.kit.db.engine import Database
from headgate.main.application import open_application
from headgate.main.first_start import prepare_first_start
from headgate.main.master_keys import build_source
from headgate.settings import Settings
from headgate.vault.model.keys import InvalidMasterKeyError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `data`, its backup and its key."""
    folder = tmp_path_factory.mktemp("made")
    settings = Settings(data=folder / "data")
    application = open_application(settings)
    prepare_first_start(application)
    application.close()
    backup.back_up(
        settings,
        build_source(settings),
        folder / "backup",
        key_file=folder / "key",
    )
    return folder


@pytest.fixture
def fresh(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "fresh")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the backup that the test may change."""
    shutil.copytree(made / "backup", tmp_path / "backup")
    return tmp_path / "backup"


def count_organizations(settings: Settings) -> int:
    database = Database(settings.data / DATABASE_FILE)
    with database.reading() as connection:
        query = "SELECT count(*) FROM organizations"
        count = connection.exec_driver_sql(query).scalar_one()
    database.close()
    return count


def test_backup_is_brought_back_with_its_key(made: Path, fresh: Settings) -> None:
    done = backup.restore(
        fresh,
        build_source(fresh),
        made / "backup",
        replace=False,
        key_file=made / "key",
    )
    assert (done.replaced, done.needs_key) == (None, False)
    assert done.manifest.rows["organizations"] == count_organizations(fresh) == 1
    assert (fresh.data / "master.key").read_bytes() == (made / "data/master.key").read_bytes()
    open_application(fresh).close()


def test_key_is_in_no_backup_and_its_lack_is_told(made: Path, fresh: Settings) -> None:
    key = (made / "data/master.key").read_bytes().strip()
    assert not any(key in path.read_bytes() for path in (made / "backup").iterdir())
    assert backup.restore(fresh, build_source(fresh), made / "backup", replace=False).needs_key
    with pytest.raises(InvalidMasterKeyError, match="The master key is missing"):
        open_application(fresh)


def test_backup_goes_to_a_new_folder_and_its_key_elsewhere(made: Path, tmp_path: Path) -> None:
    settings = Settings(data=made / "data")
    with pytest.raises(BackupNotAllowedError, match="exists already"):
        backup.back_up(settings, build_source(settings), made / "backup")
    with pytest.raises(BackupNotAllowedError, match="exists already"):
        backup.back_up(
            settings,
            build_source(settings),
            tmp_path / "other",
            key_file=made / "key",
        )
    with pytest.raises(BackupNotAllowedError, match="Keep the key elsewhere"):
        backup.back_up(
            settings,
            build_source(settings),
            tmp_path / "other",
            key_file=tmp_path / "other" / "key",
        )
    assert list(tmp_path.iterdir()) == []


def test_backup_that_finds_no_room_says_so_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    settings = Settings(data=made / "data")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(BackupNotAllowedError, match=r"(?i)cannot (be written|write)"):
            backup.back_up(
                settings,
                build_source(settings),
                tmp_path / "backup",
                key_file=tmp_path / "key",
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_key_file_that_cannot_be_written_is_told(made: Path, tmp_path: Path) -> None:
    settings = Settings(data=made / "data")
    (tmp_path / "file").touch()
    with pytest.raises(BackupNotAllowedError, match=r"(?i)cannot (be written|write)"):
        backup.back_up(
            settings,
            build_source(settings),
            tmp_path / "backup",
            key_file=tmp_path / "file" / "key",
        )
    assert not (tmp_path / "backup").exists()


def test_database_that_is_there_is_kept_unless_it_is_to_be_replaced(
    made: Path, fresh: Settings
) -> None:
    open_application(fresh).close()
    (fresh.data / "master.key").unlink()
    before = (fresh.data / DATABASE_FILE).read_bytes()
    with pytest.raises(BackupNotAllowedError, match="Add --replace to move it aside"):
        backup.restore(
            fresh,
            build_source(fresh),
            made / "backup",
            replace=False,
            key_file=made / "key",
        )
    assert (fresh.data / DATABASE_FILE).read_bytes() == before
    done = backup.restore(
        fresh,
        build_source(fresh),
        made / "backup",
        replace=True,
        key_file=made / "key",
    )
    assert done.replaced is not None
    assert (done.replaced / DATABASE_FILE).read_bytes() == before
    assert count_organizations(fresh) == 1


def test_other_master_key_is_refused_before_anything_is_replaced(
    made: Path, fresh: Settings
) -> None:
    open_application(fresh).close()
    before = (fresh.data / DATABASE_FILE).read_bytes()
    with pytest.raises(InvalidMasterKeyError, match="not the one that sealed"):
        backup.restore(fresh, build_source(fresh), made / "backup", replace=True)
    with pytest.raises(BackupNotAllowedError, match="is another master key"):
        backup.restore(
            fresh,
            build_source(fresh),
            made / "backup",
            replace=True,
            key_file=made / "key",
        )
    other = fresh.data.parent / "other.key"
    (fresh.data / "master.key").rename(other)
    with pytest.raises(InvalidMasterKeyError, match=f"key in {other} is not the one that sealed"):
        backup.restore(
            fresh,
            build_source(fresh),
            made / "backup",
            replace=True,
            key_file=other,
        )
    assert (fresh.data / DATABASE_FILE).read_bytes() == before


def test_nothing_is_restored_beside_a_server(made: Path, fresh: Settings) -> None:
    with (
        directory_lock.hold(fresh, directory_lock.SERVE),
        pytest.raises(DataDirectoryInUseError, match="headgate serve"),
    ):
        backup.restore(fresh, build_source(fresh), made / "backup", replace=True)


def test_damaged_backup_is_refused(folder: Path, fresh: Settings) -> None:
    path = folder / DATABASE_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedBackupError, match="its checksum differs"):
        backup.restore(fresh, build_source(fresh), folder, replace=False)
    path.unlink()
    with pytest.raises(DamagedBackupError):
        backup.restore(fresh, build_source(fresh), folder, replace=False)
    (folder / "manifest.json").unlink()
    with pytest.raises(BackupNotAllowedError, match="is not a backup"):
        backup.restore(fresh, build_source(fresh), folder, replace=False)
    assert not (fresh.data / DATABASE_FILE).exists()


@pytest.mark.parametrize("name", ["../made.db", "/etc/hostname", "..", "", "a" * 5_000, "a\\u0000"])
def test_backup_whose_manifest_names_a_file_elsewhere_is_refused(
    folder: Path, fresh: Settings, name: str
) -> None:
    path = folder / "manifest.json"
    shutil.copy(folder / DATABASE_FILE, folder.parent / "made.db")
    path.write_text(path.read_text().replace(f'"{DATABASE_FILE}"', f'"{name}"'))
    with pytest.raises(DamagedBackupError):
        backup.restore(fresh, build_source(fresh), folder, replace=False)


@pytest.mark.parametrize("change", ["DROP TABLE receipts", "DELETE FROM keys"])
def test_backup_that_lacks_what_its_manifest_tells_is_refused(
    folder: Path, fresh: Settings, change: str
) -> None:
    path = folder / DATABASE_FILE
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(change)
    database.close()
    manifest = backup.read_manifest(folder, "sqlite")
    file = backup.describe_file(path)
    backup.write_manifest(folder, msgspec.structs.replace(manifest, file=file))
    with pytest.raises(DamagedBackupError, match="other tables or rows than its manifest"):
        backup.restore(fresh, build_source(fresh), folder, replace=False)


def test_books_that_do_not_balance_are_neither_backed_up_nor_restored(
    made: Path, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path / "data")
    shutil.copytree(made / "data", settings.data)
    database = Database(settings.data / DATABASE_FILE)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO ledger_accounts VALUES ('wallet:x', 'org_x', 'wallet', 1)"
        )
    database.close()
    with pytest.raises(DamagedBackupError, match="The ledger does not balance"):
        backup.back_up(settings, build_source(settings), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_backup_of_a_newer_headgate_is_refused(folder: Path, fresh: Settings) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"schema": "', '"schema": "9'))
    with pytest.raises(BackupNotAllowedError, match="is newer than this one"):
        backup.restore(fresh, build_source(fresh), folder, replace=False)


@pytest.mark.parametrize("left", ["master.key", "first-keys.json", "headgate.db-wal"])
def test_start_without_its_database_is_refused_with_the_ways_on(
    made: Path, fresh: Settings, left: str
) -> None:
    fresh.data.mkdir()
    (fresh.data / left).write_bytes(b"left")
    for size in (None, 0):
        if size is not None:
            (fresh.data / DATABASE_FILE).touch()
        with pytest.raises(UnusableDataDirectoryError) as raised:
            open_application(fresh)
        told = raised.value.message
        assert str(fresh.data / left) in told
        assert f"headgate restore BACKUP --data {fresh.data}" in told
        assert "To start with an empty database, move these files away first." in told
    assert (fresh.data / left).read_bytes() == b"left"
    (fresh.data / left).unlink()
    backup.restore(
        fresh,
        build_source(fresh),
        made / "backup",
        replace=False,
        key_file=made / "key",
    )
    open_application(fresh).close()


def test_start_on_a_database_without_tables_keeps_the_keys_that_are_there(
    made: Path, fresh: Settings
) -> None:
    fresh.data.mkdir()
    shutil.copy(made / "data/first-keys.json", fresh.data)
    database = Database(fresh.data / DATABASE_FILE)
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE other (name TEXT)")
    database.close()
    with pytest.raises(UnusableDataDirectoryError, match=r"first-keys\.json"):
        open_application(fresh)
