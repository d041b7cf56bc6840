"""Several processes change credentials and secrets of one PostgreSQL at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from headgate.audit.model import SYSTEM
from headgate.vault.model.secret import SecretRequest
from headgate.vault.store import secrets as secret_store
from tests.fakes.vault import REFERENCE, SECRET, SecretsHarness

WRITERS = 8


@pytest.fixture
def harness(prepared_url: str) -> Iterator[SecretsHarness]:
    harness = SecretsHarness(prepared_url)
    yield harness
    harness.database.close()


def change_at_once(harness: SecretsHarness, works: list[Callable[[sa.Connection], object]]) -> None:
    """Run each function in a transaction of its own connection; raise what any of them raises."""

    def run(work: Callable[[sa.Connection], object]) -> None:
        with harness.database.transaction() as connection:
            work(connection)

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result()


def test_one_default_is_left_of_many_that_are_made_at_once(harness: SecretsHarness) -> None:
    records = [harness.add(name=str(number)) for number in range(WRITERS)]

    def choose(number: int) -> Callable[[sa.Connection], object]:
        return lambda connection: harness.service.make_default(
            connection, records[number], by=SYSTEM
        )

    for _ in range(3):
        change_at_once(harness, [choose(number) for number in range(WRITERS)])
        with harness.database.reading() as connection:
            [default] = [each for each in harness.service.list(connection) if each.is_default]
        harness.reload()
        assert harness.taken() == default.id


def test_one_secret_is_left_of_many_of_one_name(harness: SecretsHarness) -> None:
    request = SecretRequest(organization_id=harness.own, project_id=None, name="mine", value=SECRET)

    def put(connection: sa.Connection) -> object:
        return harness.secrets.put(connection, request, by=SYSTEM)

    change_at_once(harness, [put] * WRITERS)
    with harness.database.reading() as connection:
        [(record, _)] = secret_store.select_organization_secrets(connection)
    assert record.seal_number == WRITERS
    harness.add(REFERENCE)
    assert (
        harness.resolver.resolve(harness.own, integration="openai", name=None).secret
        == SECRET.encode()
    )


def test_both_kinds_of_database_keep_the_same(harness: SecretsHarness) -> None:
    made = harness.add(metadata={"a": "b"}, allowed_models=["gpt-5*"], capacity=[{"period": "day"}])
    with harness.database.reading() as connection:
        assert harness.service.find(connection, made.id) == made
        assert harness.service.get(connection, harness.own, made.id) == made
