from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.accounts import store as accounts_store
from headgate.audit import store as audit_store
from headgate.billing import store as billing_store
from headgate.keys import store as keys_store
from headgate.kit import outbox
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.upgrade import migrate
from headgate.metering import store as metering_store
from headgate.vault import store as vault_store

DECLARED = (
    accounts_store.PROJECTS,
    audit_store.AUDIT,
    billing_store.ENTRIES,
    keys_store.KEYS,
    metering_store.RECEIPTS,
    outbox.OUTBOX,
    vault_store.CREDENTIALS,
)


def describe(database: Database) -> dict[str, str]:
    """Every table, index and trigger with its normalized SQL."""
    query = sa.text("SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    with database.reading() as connection:
        return {name: " ".join(sql.split()) for name, sql in connection.execute(query)}


def set_version(database: Database, version: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(migration.VERSION).values(version_num=version))


def test_migrations_from_scratch_give_the_declared_schema(tmp_path: Path) -> None:
    assert all(table.metadata is METADATA for table in DECLARED)
    created, migrated = Database(tmp_path / "created.db"), Database(tmp_path / "migrated.db")
    migration.prepare(created, METADATA)
    migrate(migrated)
    assert describe(migrated) == describe(created)
    created.close()
    migrated.close()


def test_migrations_go_back_to_an_empty_database(tmp_path: Path) -> None:
    database = Database(tmp_path / "headgate.db")
    migrate(database)
    migrate(database, "base", back=True)
    assert list(describe(database)) == ["table alembic_version"]
    database.close()


def test_a_prepared_database_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    before = describe(database)
    migration.prepare(database, METADATA)
    assert describe(database) == before
    database.close()


@pytest.mark.parametrize("version", ["9999", "another"])
def test_a_database_of_a_newer_headgate_is_refused(tmp_path: Path, version: str) -> None:
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    set_version(database, version)
    with pytest.raises(migration.SchemaUnusable, match=version):
        migration.prepare(database, METADATA)
    database.close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "other.db")
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE songs (title TEXT)")
    with pytest.raises(migration.SchemaUnusable, match=r"\(none\)"):
        migration.prepare(database, METADATA)
    assert list(describe(database)) == ["table songs"]
    database.close()


def test_the_upgrading_process_brings_a_database_to_the_head(tmp_path: Path) -> None:
    path = tmp_path / "headgate.db"
    command = [sys.executable, "-m", "headgate.kit.db.upgrade", str(path)]
    assert subprocess.run(command, check=False).returncode == 0
    database = Database(path)
    before = describe(database)
    migration.prepare(database, METADATA)
    assert describe(database) == before
    assert "table receipts" in before
    database.close()


def test_keys_of_the_first_schema_get_the_policy_of_the_setting(tmp_path: Path) -> None:
    database = Database(tmp_path / "headgate.db")
    migrate(database, "0001")
    with database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO organizations VALUES ('o', 'o', 1)")
        connection.exec_driver_sql("INSERT INTO projects VALUES ('p', 'o', 'p', 1)")
        connection.exec_driver_sql(
            "INSERT INTO keys VALUES ('k', x'00', 'live', 'k', 'o', 'p', 1, NULL, NULL, NULL, "
            "'[]', '[]', 0)"
        )
    migration.prepare(database, METADATA)
    with database.reading() as connection:
        [key] = keys_store.select_all(connection)
    assert (key.id, key.on_disconnect) == ("k", None)
    database.close()


def test_a_failed_upgrade_refuses_the_start_and_changes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    before = describe(database)
    with pytest.raises(migration.SchemaUnusable, match=r"could not be upgraded from .* to 9999"):
        migration.prepare(database, METADATA, head="9999")
    assert describe(database) == before
    database.close()


def test_the_serving_process_does_not_load_the_migration_tool() -> None:
    code = "import sys, headgate.kit.db.migration; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
