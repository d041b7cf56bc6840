from __future__ import annotations

from pathlib import Path

import pytest

from headgate.accounts.model import AccountNotFoundError, InvalidNameError
from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator


@pytest.fixture
def database(tmp_path: Path):
    database = Database(tmp_path / "headgate.db")
    METADATA.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def accounts() -> AccountService:
    return AccountService(SystemClock(), IdGenerator(), AuditLog(SystemClock()))


def test_project_is_found_by_id_by_name_and_by_being_the_first(
    database: Database, accounts: AccountService
) -> None:
    with database.transaction() as connection:
        organization = accounts.create_organization(connection, " Acme ", by=SYSTEM)
        first = accounts.create_project(
            connection, "one", organization_id=organization.id, by=SYSTEM
        )
        second = accounts.create_project(
            connection, "two", organization_id=organization.id, by=SYSTEM
        )
    assert organization.name == "Acme"
    with database.reading() as connection:
        assert accounts.find_project(connection, None) == first
        assert accounts.find_project(connection, "two") == second
        assert accounts.find_project(connection, second.id) == second
        assert accounts.list_organizations(connection) == [organization]


def test_errors_distinguish_unknown_and_ambiguous_projects(
    database: Database, accounts: AccountService
) -> None:
    with database.transaction() as connection:
        with pytest.raises(AccountNotFoundError, match="no project yet"):
            accounts.find_project(connection, None)
        organization = accounts.create_organization(connection, "Acme", by=SYSTEM)
        for _ in range(2):
            accounts.create_project(connection, "same", organization_id=organization.id, by=SYSTEM)
        with pytest.raises(AccountNotFoundError, match="2 projects are named 'same'"):
            accounts.find_project(connection, "same")
        with pytest.raises(AccountNotFoundError, match="no project with the id or name 'x'"):
            accounts.find_project(connection, "x")


def test_project_of_an_unknown_organization_is_refused(
    database: Database, accounts: AccountService
) -> None:
    with database.transaction() as connection, pytest.raises(AccountNotFoundError):
        accounts.create_project(connection, "one", organization_id="org_none", by=SYSTEM)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_name_of_several_lines_is_rejected(
    database: Database, accounts: AccountService, name: str
) -> None:
    with database.transaction() as connection, pytest.raises(InvalidNameError):
        accounts.create_organization(connection, name, by=SYSTEM)


def test_ambiguous_organization_is_reported_with_how_to_name_it(
    database: Database, accounts: AccountService
) -> None:
    with database.transaction() as connection:
        with pytest.raises(AccountNotFoundError, match="no organization yet"):
            accounts.find_organization(connection, None)
        first = accounts.create_organization(connection, "Acme", by=SYSTEM)
        assert accounts.find_organization(connection, None) == first
        accounts.create_organization(connection, "Acme", by=SYSTEM)
        with pytest.raises(
            AccountNotFoundError, match=r"There are 2 organizations; .* --organization"
        ):
            accounts.find_organization(connection, None)
        with pytest.raises(
            AccountNotFoundError, match=r"2 organizations named 'Acme'; .* by its id"
        ):
            accounts.find_organization(connection, "Acme")
        with pytest.raises(
            AccountNotFoundError, match="id or name 'Acne'; see `headgate organizations list`"
        ):
            accounts.find_organization(connection, "Acne")
        assert accounts.find_organization(connection, first.id) == first
