from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

import headgate
from headgate.keys import store as keys_store
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.upgrade import migrate
from tests.fakes.postgres import Postgres

PACKAGE = Path(headgate.__file__).parent
STORES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(
        path
        for pattern in ("*/store.py", "*/store/*.py", "kit/*.py", "kit/db/*_store.py")
        for path in PACKAGE.glob(pattern)
    )
]
"""Wherever a table may be declared."""
for name in STORES:
    importlib.import_module(name)

DESCRIBE = {
    "sqlite": "SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL",
    "postgresql": """
        SELECT 'table ' || relname || ' ' || attnum - (
            SELECT count(*) FROM pg_attribute gone WHERE gone.attrelid = pg_class.oid
            AND gone.attnum > 0 AND gone.attisdropped AND gone.attnum < each.attnum),
            concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull::text,
            (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid
            AND adnum = attnum))
        FROM pg_class JOIN pg_attribute each ON attrelid = pg_class.oid
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0
        AND NOT attisdropped
        UNION ALL SELECT 'index ' || indexname, indexdef FROM pg_indexes
            WHERE schemaname = 'public'
        UNION ALL SELECT 'constraint ' || conname || ' ' || conrelid::regclass,
            pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
        UNION ALL SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger
            WHERE NOT tgisinternal
        UNION ALL SELECT 'function ' || proname, prosrc FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'sequence ' || sequencename, data_type::text FROM pg_sequences
    """,
}
"""Everything that a schema is made of: its name, and its definition."""


def describe(database: Database) -> dict[str, str]:
    with database.reading() as connection:
        rows = connection.execute(sa.text(DESCRIBE[connection.dialect.name]))
        return {name: " ".join(definition.split()) for name, definition in rows}


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    yield database
    database.close()


def prepare(database: Database) -> None:
    migration.prepare(database, METADATA)


def set_version(database: Database, version: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(migration.VERSION).values(version_num=version))


def test_migrations_from_scratch_give_the_declared_schema(database: Database) -> None:
    migration.prepare(database, METADATA)
    created = describe(database)
    with database.transaction() as connection:
        METADATA.drop_all(connection)
        migration.VERSION.drop(connection)
    migrate(database)
    assert describe(database) == created


def test_migrations_go_back_to_an_empty_database(database: Database) -> None:
    migrate(database)
    migrate(database, "base", back=True)
    left = {name.split()[1] for name in describe(database)}
    assert {name.removesuffix("_pkc") for name in left} == {"alembic_version"}


def test_every_downgrade_undoes_its_upgrade(database: Database) -> None:
    versions = sorted(path.name[:4] for path in (migration.SCRIPTS / "versions").glob("0*.py"))
    migrate(database, versions[0])
    for version in versions[1:]:
        before = describe(database)
        migrate(database, version)
        migrate(database, "-1", back=True)
        assert describe(database) == before, version
        migrate(database, version)


def test_prepared_database_is_left_alone(database: Database) -> None:
    migration.prepare(database, METADATA)
    before = describe(database)
    migration.prepare(database, METADATA)
    assert describe(database) == before


@pytest.mark.parametrize("version", ["9999", "another"])
def test_database_of_a_newer_headgate_is_refused(database: Database, version: str) -> None:
    migration.prepare(database, METADATA)
    set_version(database, version)
    with pytest.raises(migration.UnusableSchemaError, match=version):
        migration.prepare(database, METADATA)


def test_database_of_another_program_is_refused(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE songs (title TEXT)")
    before = describe(database)
    with pytest.raises(migration.UnusableSchemaError, match=r"\(none\)"):
        migration.prepare(database, METADATA)
    assert describe(database) == before


def test_old_database_is_upgraded_by_a_separate_process(
    database: Database,
) -> None:
    migration.prepare(database, METADATA)
    declared = describe(database)
    with database.transaction() as connection:
        METADATA.drop_all(connection)
        migration.VERSION.drop(connection)
    migrate(database, "0001")
    migration.prepare(database, METADATA)
    assert describe(database) == declared


def test_two_processes_that_find_an_empty_database_make_one_schema(postgres_url: str) -> None:
    databases = [Database(postgres_url) for _ in range(4)]
    with ThreadPoolExecutor(len(databases)) as pool:
        list(pool.map(prepare, databases))
    found = [describe(each) for each in databases]
    assert found == [found[0]] * len(databases)
    for each in databases:
        each.close()


def test_two_processes_that_find_an_old_database_upgrade_it_once(postgres_url: str) -> None:
    databases = [Database(postgres_url) for _ in range(2)]
    migrate(databases[0], "0001")
    with ThreadPoolExecutor(len(databases)) as pool:
        list(pool.map(prepare, databases))
    for each in databases:
        assert migration.has_schema(each)
        each.close()


def test_database_without_utf8_is_refused(postgres: Postgres) -> None:
    url = postgres.create_database(options="ENCODING 'LATIN1' LOCALE 'C'")
    database = Database(url)
    with pytest.raises(
        migration.UnusableSchemaError, match="LATIN1; create it with ENCODING 'UTF8'"
    ):
        migration.prepare(database, METADATA)
    assert describe(database) == {}
    database.close()
    postgres.drop_database(url)


INSERT_KEY = {
    "sqlite": "INSERT INTO keys VALUES ('k', x'00', 'live', 'k', 'o', 'p', 1, NULL, NULL, NULL, "
    "'[]', '[]', 0)",
    "postgresql": "INSERT INTO keys VALUES ('k', '\\x00', 'live', 'k', 'o', 'p', 1, NULL, NULL, "
    "NULL, '[]', '[]', 0)",
}


def test_keys_of_the_first_schema_get_the_policy_of_the_setting(database: Database) -> None:
    migrate(database, "0001")
    with database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO organizations VALUES ('o', 'o', 1)")
        connection.exec_driver_sql("INSERT INTO projects VALUES ('p', 'o', 'p', 1)")
        connection.exec_driver_sql(INSERT_KEY[connection.dialect.name])
    migration.prepare(database, METADATA)
    with database.reading() as connection:
        [key] = keys_store.select_all(connection)
    assert (key.id, key.on_disconnect) == ("k", None)


def test_failed_upgrade_refuses_the_start_and_changes_nothing(database: Database) -> None:
    migration.prepare(database, METADATA)
    before = describe(database)
    with pytest.raises(
        migration.UnusableSchemaError, match=r"could not be upgraded from .* to 9999"
    ):
        migration.prepare(database, METADATA, head="9999")
    assert describe(database) == before


@pytest.mark.parametrize("module", ["alembic", "psycopg"])
def test_serving_process_loads_no_migration_tool_and_no_unused_driver(
    module: str, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from headgate.kit.db import migration, schema\n"
        "database = migration.Database(Path(sys.argv[1]))\n"
        "migration.prepare(database, schema.METADATA); database.close()\n"
        "sys.exit(sys.argv[2] in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "test.db"), module]
    assert subprocess.run(command, check=False).returncode == 0
