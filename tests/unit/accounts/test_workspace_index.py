"""The project that an address names: among those of the key, by id or by name."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.accounts.service import AccountService, WorkspaceIndex
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import Grant


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(tmp_path / "headgate.db")
    METADATA.create_all(database.engine)
    yield database
    database.close()


def test_own_projects_are_found_by_id_and_name_and_nobody_elses(database: Database) -> None:
    clock = SystemClock()
    accounts = AccountService(clock, IdGenerator(), AuditLog(clock))
    with database.transaction() as connection:
        own = accounts.create_organization(connection, "My Team!", by=SYSTEM)
        other = accounts.create_organization(connection, "Other", by=SYSTEM)
        first, second, third = (
            accounts.create_project(connection, name, organization_id=own.id, by=SYSTEM).id
            for name in ("Première Étape", "Staging", "Hidden")
        )
        foreign = accounts.create_project(
            connection, "Staging", organization_id=other.id, by=SYSTEM
        ).id
    grant = Grant("key", own.id, first, projects=(second,))
    index = WorkspaceIndex()
    with database.reading() as connection:
        index.load(connection)
    for workspace in (own.id, "My Team!", "my-team"):
        assert index.find(grant, workspace, first) == first
        assert index.find(grant, workspace, "Première Étape") == first
        assert index.find(grant, workspace, "staging") == second
        for environment in (third, "hidden", foreign, "", own.id):
            assert index.find(grant, workspace, environment) is None
    for workspace in (other.id, "other", "", first):
        assert index.find(grant, workspace, "staging") is None


def test_every_change_of_a_name_makes_processes_reload(database: Database) -> None:
    clock = SystemClock()
    accounts = AccountService(clock, IdGenerator(), AuditLog(clock))
    revisions: list[int] = []

    def note() -> None:
        with database.reading() as connection:
            revisions.append(read_revisions(connection)["accounts"])

    with database.transaction() as connection:
        own = accounts.create_organization(connection, "a", by=SYSTEM)
    note()
    with database.transaction() as connection:
        project = accounts.create_project(connection, "b", organization_id=own.id, by=SYSTEM)
    note()
    with database.transaction() as connection:
        accounts.rename_project(connection, project, "c", by=SYSTEM)
    note()
    assert len(set(revisions)) == 3
