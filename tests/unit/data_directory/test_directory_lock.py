"""The lock on a data folder, held by this process as if by two."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.cli.data_directory import open_data_directory
from headgate.data_directory import directory_lock
from headgate.data_directory.directory_lock import DataDirectoryInUseError
from headgate.kit.db.engine import Database
from headgate.main.application import open_application_for_command
from headgate.settings import Settings

GOLDEN_CATALOG = Path(__file__).parents[2] / "golden/catalog"


@pytest.fixture
def served(tmp_path: Path) -> Generator[Settings]:
    """Return the settings of a data directory that a server used."""
    settings = Settings(data=tmp_path)
    open_application_for_command(settings, "headgate migrate").close()
    with directory_lock.hold(settings, directory_lock.SERVE):
        yield settings


def test_command_opens_the_data_beside_a_server(served: Settings) -> None:
    open_application_for_command(served, "headgate init").close()


def test_schema_is_not_changed_beside_a_server(served: Settings) -> None:
    database = Database(served.data / directory_lock.DATABASE_FILE)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    with pytest.raises(DataDirectoryInUseError, match="in use by `headgate serve`"):
        open_application_for_command(served, "headgate migrate")


def test_lock_file_holds_no_secret_and_is_private(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path,
        openai_base_url="https://user:hunter2@example.com/v1",
        openai_api_key="sk-hunter2",
        master_key="hunter2",
    )
    with directory_lock.hold(settings, directory_lock.SERVE) as lock:
        assert b'"https://example.com/v1"' in lock.path.read_bytes()
        assert b"hunter2" not in lock.path.read_bytes()
        assert lock.path.stat().st_mode & 0o077 == 0


def test_lock_is_beside_the_database_wherever_links_lead(served: Settings, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / directory_lock.DATABASE_FILE).symlink_to(served.data / directory_lock.DATABASE_FILE)
    assert directory_lock.find_server(Settings(data=linked)) is not None


def test_lock_whose_file_was_deleted_is_told(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    with directory_lock.hold(settings, directory_lock.SERVE) as lock:
        assert lock.is_in_place
        lock.path.unlink()
        assert not lock.is_in_place


def test_database_whose_lock_file_was_deleted_is_still_in_use(served: Settings) -> None:
    directory_lock.create_lock(served).path.unlink()
    with pytest.raises(DataDirectoryInUseError), directory_lock.hold(served, directory_lock.SERVE):
        pass
    with pytest.raises(DataDirectoryInUseError), directory_lock.hold(served, "headgate restore"):
        pass


def test_servers_of_a_postgresql_hold_the_lock_together(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url="postgresql://localhost/headgate")
    with (
        directory_lock.hold(settings, directory_lock.SERVE),
        directory_lock.hold(settings, directory_lock.SERVE),
    ):
        assert directory_lock.find_server(settings) is not None
    assert directory_lock.find_server(settings) is None


def test_command_beside_a_server_on_postgresql_leaves_what_the_lock_says(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, database_url="postgresql://127.0.0.1:9/none")
    with directory_lock.hold(settings, directory_lock.SERVE):
        with directory_lock.hold(settings, "headgate migrate"):
            assert directory_lock.find_server(settings) is not None
        assert directory_lock.find_server(settings) is not None


def test_command_beside_a_server_reaches_providers_by_its_settings(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path,
        simulator=True,
        simulator_port=41_000,
        openai_base_url="https://llm.example.com/v1",
        egress_allow=("10.0.0.0/8",),
        egress_ca_file="/etc/ca.pem",
    )
    open_application_for_command(settings, "headgate migrate").close()
    given = {"HEADGATE_EGRESS_ALLOW": "192.0.2.0/24"}
    with (
        directory_lock.hold(settings, directory_lock.SERVE),
        open_data_directory(tmp_path, given) as application,
    ):
        assert application.settings.simulator_port == 41_000
        assert application.settings.openai_base_url == "https://llm.example.com/v1"
        assert application.settings.egress_allow == ("192.0.2.0/24", "10.0.0.0/8")
        assert application.settings.egress_ca_file == "/etc/ca.pem"
    with open_data_directory(tmp_path, given) as application:
        assert application.settings.egress_allow == ("192.0.2.0/24",), "a dead server says nothing"


def test_command_beside_a_server_knows_the_integrations_of_its_catalog(tmp_path: Path) -> None:
    relative = Path(os.path.relpath(GOLDEN_CATALOG))
    settings = Settings(data=tmp_path, catalog_dir=relative)
    open_application_for_command(settings, "headgate migrate").close()
    with (
        directory_lock.hold(settings, directory_lock.SERVE),
        open_data_directory(tmp_path, {}) as application,
    ):
        assert "acme" in application.catalog.integrations
        assert application.settings.catalog_dir == GOLDEN_CATALOG, "wherever the command runs"
    with open_data_directory(tmp_path, {}) as application:
        assert "acme" not in application.catalog.integrations, "a dead server says nothing"
