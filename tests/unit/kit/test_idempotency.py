from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headgate.kit.crypto import BrokenSealError
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.idempotency import (
    REPLAY_SECONDS,
    IdempotencyClaim,
    IdempotencyMismatchError,
    delete_expired_responses,
    find_response,
    store_response,
)

CLAIM = IdempotencyClaim(
    b"hg_admin_mine", "key-1", "POST /api/api-keys org_1 key_1", b'{"name":"x"}'
)
ANSWER = b'{"key":"hg_live_shown_once"}'
NOW = 1_800_000_000.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "headgate.db")
    with opened.transaction() as connection:
        METADATA.create_all(connection)
        store_response(connection, CLAIM, ANSWER, now=NOW)
    yield opened
    opened.close()


def test_same_request_finds_its_answer_for_a_day(database: Database) -> None:
    with database.reading() as connection:
        assert find_response(connection, CLAIM, now=NOW + REPLAY_SECONDS - 1) == ANSWER
        assert find_response(connection, CLAIM, now=NOW + REPLAY_SECONDS) is None


@pytest.mark.parametrize("field", ["proof", "key", "target"])
def test_request_with_another_secret_key_or_target_finds_nothing(
    database: Database, field: str
) -> None:
    value = b"other" if field == "proof" else "other"
    other = msgspec.structs.replace(CLAIM, **{field: value})
    with database.reading() as connection:
        assert find_response(connection, other, now=NOW) is None


def test_other_body_is_a_mismatch(database: Database) -> None:
    other = msgspec.structs.replace(CLAIM, body=b"{}")
    with database.reading() as connection, pytest.raises(IdempotencyMismatchError):
        find_response(connection, other, now=NOW)


def test_stored_response_opens_only_with_the_callers_secret(database: Database) -> None:
    files = [path.read_bytes() for path in database.path.parent.iterdir()]
    assert files
    assert not any(b"shown_once" in content for content in files)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE repetitions SET answer = CAST(answer || x'00' AS BLOB)")
    with database.reading() as connection, pytest.raises(BrokenSealError):
        find_response(connection, CLAIM, now=NOW)


def test_old_responses_are_deleted(database: Database) -> None:
    with database.transaction() as connection:
        assert delete_expired_responses(connection, now=NOW + REPLAY_SECONDS - 1) == 0
        assert delete_expired_responses(connection, now=NOW + REPLAY_SECONDS) == 1
