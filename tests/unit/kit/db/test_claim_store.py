"""Claims of idempotency keys, on both databases."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest

from headgate.kit.claims import ClaimEnding, ClaimRequest, ClaimState, ClaimVerdict
from headgate.kit.db.claim_store import KEPT_SECONDS, ClaimsFullError, ClaimStore
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from tests.fakes.ledger import SetClock

pytestmark = pytest.mark.anyio
LEASE_SECONDS = 60.0


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
    yield database
    database.close()


@contextlib.asynccontextmanager
async def opened(
    database: Database, clock: SetClock, **limits: Any
) -> AsyncGenerator[tuple[ClaimStore, Writer]]:
    writer = Writer(database)
    writer.start()
    try:
        yield ClaimStore(writer, clock, lease_seconds=LEASE_SECONDS, **limits), writer
    finally:
        await writer.stop()


def ask(owner: str, *, name: str = "a", digest: bytes | None = b"d" * 32) -> ClaimRequest:
    return ClaimRequest(name.encode() * 32, digest, owner, "org_1")


async def end(
    store: ClaimStore, writer: Writer, request: ClaimRequest, ending: ClaimEnding, **more: Any
) -> None:
    verdict = ClaimVerdict(request.id, request.owner, ending, **more)
    await writer.call(lambda connection: store.end(connection, verdict))


async def test_two_processes_share_claims_and_one_of_them_runs(database: Database) -> None:
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock) as (one, writer), opened(database, clock) as (other, _):
        assert (await one.acquire(ask("req_1"))).state is ClaimState.ACQUIRED
        found = await other.acquire(ask("req_2"))
        assert (found.state, found.owner) == (ClaimState.RUNNING, "req_1")
        assert (await other.acquire(ask("req_2", digest=b"x" * 32))).state is ClaimState.REUSED
        await end(one, writer, ask("req_1"), ClaimEnding.ANSWERED, answer=b"box")
        found = await other.acquire(ask("req_2"))
        assert (found.state, found.owner, found.answer) == (ClaimState.ANSWERED, "req_1", b"box")


async def test_claim_is_forgotten_after_a_day(database: Database) -> None:
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock) as (store, writer):
        await store.acquire(ask("req_1"))
        await end(store, writer, ask("req_1"), ClaimEnding.ANSWERED, answer=b"box")
        clock.time += KEPT_SECONDS - 1
        assert (await store.acquire(ask("req_2"))).state is ClaimState.ANSWERED
        assert await store.prune() == 0
        assert (store.keys, store.stored_bytes) == (1, 3)
        clock.time += 1
        assert (await store.acquire(ask("req_3"))).state is ClaimState.ACQUIRED
        clock.time += KEPT_SECONDS
        assert await store.prune() == 1
        assert (store.keys, store.stored_bytes) == (0, 0)


async def test_lease_is_extended_while_its_process_lives(database: Database) -> None:
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock) as (store, _):
        await store.acquire(ask("req_1"))
        store.track(ask("req_1"))
        clock.time += LEASE_SECONDS - 1
        await store.extend()
        clock.time += LEASE_SECONDS - 1
        assert (await store.acquire(ask("req_2"))).state is ClaimState.RUNNING
        store.forget(ask("req_1").id)
        await store.extend()
        clock.time += 1
        found = await store.acquire(ask("req_2"))
        assert (found.state, found.previous) == (ClaimState.ACQUIRED, "req_1")


async def test_claims_of_a_dead_server_are_unknown_at_the_next_start(tmp_path: Path) -> None:
    database = Database(tmp_path / "test.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
    async with opened(database, SetClock(1_800_000_000.0)) as (store, _):
        await store.acquire(ask("req_1"))
    async with opened(database, SetClock(1_800_000_000.0)) as (store, _):
        assert await store.resolve_abandoned() == 1
        assert (await store.acquire(ask("req_2"))).previous == "req_1"
    database.close()


async def test_full_store_takes_no_key_and_keeps_no_answer(database: Database) -> None:
    async with opened(database, SetClock(1_800_000_000.0), keys_max=1, bytes_max=2) as (
        store,
        writer,
    ):
        await store.acquire(ask("req_1"))
        with pytest.raises(ClaimsFullError):
            await store.acquire(ask("req_2", name="b"))
        await end(store, writer, ask("req_1"), ClaimEnding.ANSWERED, answer=b"box")
        assert (await store.acquire(ask("req_3"))).state is ClaimState.UNSTORED
