from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fakes.postgres import Postgres, Wire, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres]:
    """One server for all tests of this process that ask for one."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Generator[str]:
    """An empty database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def prepared_url(postgres: Postgres) -> Generator[str]:
    """A database with Headgate's schema."""
    url = postgres.create_database(prepared=True)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def wire(postgres: Postgres) -> Generator[Wire]:
    wire = Wire(postgres)
    yield wire
    wire.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty database is, of each kind."""
    if request.param == "sqlite":
        return tmp_path / "test.db"
    return request.getfixturevalue("postgres_url")
