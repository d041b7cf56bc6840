from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import exc

from headgate.audit import store
from headgate.audit.model import COMMAND_LINE, Actor, ActorKind, AuditEvent, AuditFilter
from headgate.audit.service import AuditLog
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA

OWNER = Actor(ActorKind.PERSON, "person_1", "ada@example.com", "203.0.113.7", "curl/8")


class HeldClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.25

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "headgate.db")
    with opened.transaction() as connection:
        METADATA.create_all(connection)
    yield opened
    opened.close()


@pytest.fixture
def log(database: Database) -> AuditLog:
    log = AuditLog(HeldClock())
    with database.transaction() as connection:
        for number in range(5):
            event = AuditEvent(
                "key.created", f"org_{number % 2}", f"key_{number}", {"name": "ü", "n": 1}
            )
            log.record(connection, OWNER if number else COMMAND_LINE, event)
    return log


def tamper(database: Database, statement: str) -> None:
    """Change the table as somebody with write access to the file could, past its triggers."""
    with database.transaction() as connection:
        for verb in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
        connection.exec_driver_sql(statement)


def test_entries_have_actor_action_object_and_origin(database: Database, log: AuditLog) -> None:
    with database.reading() as connection:
        [newest, *_], total = log.list(connection, AuditFilter(), limit=3)
        found, of_one = log.list(connection, AuditFilter(organization_id="org_1"), limit=10)
    assert (newest.number, newest.actor, newest.at) == (5, OWNER, 1_800_000_000.25)
    assert newest.event == AuditEvent("key.created", "org_0", "key_4", {"n": 1, "name": "ü"})
    assert (total, of_one) == (5, 2)
    assert [entry.event.object_id for entry in found] == ["key_3", "key_1"]


def test_unchanged_chain_is_intact(database: Database, log: AuditLog) -> None:
    with database.reading() as connection:
        verdict = log.verify(connection)
        _, head = store.read_head(connection)
    assert (verdict.entries, verdict.head, verdict.fault) == (5, head, None)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET actor_id = 'key_9' WHERE number = 2", "entry 2 was changed"),
        ("UPDATE audit SET changes = '{}' WHERE number = 3", "entry 3 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE number = 4", "entry 4 was changed"),
        ("DELETE FROM audit WHERE number = 3", "entry 3 is missing"),
        ("DELETE FROM audit WHERE number = 5", "entries after 4 are missing: there were 5"),
        ("UPDATE audit SET hash = zeroblob(32) WHERE number = 1", "entry 1 was changed"),
        (
            "UPDATE audit SET previous_hash = zeroblob(32) WHERE number = 2",
            "entry 2 does not follow the one before it",
        ),
    ],
)
def test_every_change_of_the_chain_is_found(
    database: Database, log: AuditLog, statement: str, fault: str
) -> None:
    tamper(database, statement)
    with database.reading() as connection:
        assert log.verify(connection).fault == fault


def test_the_database_itself_refuses_to_change_an_entry(database: Database, log: AuditLog) -> None:
    for statement in ("UPDATE audit SET actor_id = 'x'", "DELETE FROM audit"):
        with (
            pytest.raises(exc.IntegrityError, match="append-only"),
            database.transaction() as connection,
        ):
            connection.exec_driver_sql(statement)


def test_an_action_that_is_rolled_back_leaves_no_entry(database: Database, log: AuditLog) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            log.record(connection, OWNER, AuditEvent("key.revoked", "org_0", "key_0"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as connection:
        assert log.verify(connection).entries == 5
