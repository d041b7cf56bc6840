"""Several processes change credentials and secrets of one PostgreSQL at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from headgate.audit.model import SYSTEM
from headgate.vault.model.secret import SecretRequest
from headgate.vault.store import secrets as secret_store
from tests.fakes.safe import REFERENCE, SECRET, Drawer

WRITERS = 8


@pytest.fixture
def drawer(prepared_url: str) -> Iterator[Drawer]:
    drawer = Drawer(prepared_url)
    yield drawer
    drawer.database.close()


def change_at_once(drawer: Drawer, works: list[Callable[[sa.Connection], object]]) -> None:
    """Each in a transaction of its own connection; raises what any of them raises."""

    def run(work: Callable[[sa.Connection], object]) -> None:
        with drawer.database.transaction() as connection:
            work(connection)

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result()


def test_one_default_is_left_of_many_that_are_made_at_once(drawer: Drawer) -> None:
    records = [drawer.add(name=str(number)) for number in range(WRITERS)]

    def choose(number: int) -> Callable[[sa.Connection], object]:
        return lambda connection: drawer.book.make_default(connection, records[number], by=SYSTEM)

    for _ in range(3):
        change_at_once(drawer, [choose(number) for number in range(WRITERS)])
        with drawer.database.reading() as connection:
            [default] = [each for each in drawer.book.list(connection) if each.is_default]
        drawer.reload()
        assert drawer.taken() == default.id


def test_one_secret_is_left_of_many_of_one_name(drawer: Drawer) -> None:
    request = SecretRequest(organization_id=drawer.own, project_id=None, name="mine", value=SECRET)

    def put(connection: sa.Connection) -> object:
        return drawer.secrets.put(connection, request, by=SYSTEM)

    change_at_once(drawer, [put] * WRITERS)
    with drawer.database.reading() as connection:
        [(record, _)] = secret_store.select_organization_secrets(connection)
    assert record.seal_number == WRITERS
    drawer.add(REFERENCE)
    assert (
        drawer.resolver.resolve(drawer.own, integration="openai", name=None).secret
        == SECRET.encode()
    )


def test_both_kinds_of_database_keep_the_same(drawer: Drawer) -> None:
    made = drawer.add(metadata={"a": "b"}, allowed_models=["gpt-5*"], capacity=[{"period": "day"}])
    with drawer.database.reading() as connection:
        assert drawer.book.find(connection, made.id) == made
        assert drawer.book.get(connection, drawer.own, made.id) == made
