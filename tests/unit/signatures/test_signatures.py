"""The parts of a signature, and nonces on both databases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.signatures.model import (
    InvalidSignatureError,
    ReusedNonceError,
    SignedRequest,
    check_stream,
    describe_request,
    find_nonce_id,
    is_signed_with,
    make_secret,
    parse_signature,
)
from headgate.signatures.store import NONCES, NoncesFullError, NonceStore
from tests.fakes.ledger import SetClock
from tests.fakes.signing import make_signature

pytestmark = pytest.mark.anyio
NONCE = "0123456789abcdef"
DIGEST = "0" * 64
GOOD = f"t=1764489600,nonce={NONCE},sha256={DIGEST},v1={DIGEST}"


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection, tables=[NONCES, METADATA.tables["revisions"]])
    yield database
    database.close()


@contextlib.asynccontextmanager
async def opened(
    database: Database, clock: SetClock, rows_max: int = 100
) -> AsyncGenerator[NonceStore]:
    writer = Writer(database)
    writer.start()
    try:
        yield NonceStore(writer, clock, rows_max=rows_max)
    finally:
        await writer.stop()


def request(nonce: str = NONCE, until: float = 1_000.0, key_id: str = "key_1") -> SignedRequest:
    return SignedRequest(find_nonce_id(key_id, nonce.encode()), until, b"")


def test_header_is_parsed_whatever_the_order_and_with_unknown_parts() -> None:
    parts = GOOD.split(",")
    header = ", ".join([*reversed(parts), "v2=x", f"v1={'f' * 64}"]).encode()
    parsed = parse_signature(header)
    assert (parsed.at, parsed.nonce, len(parsed.macs)) == (b"1764489600", NONCE.encode(), 2)


@pytest.mark.parametrize(
    "changed",
    [
        ("t=1764489600", "t=-5"),
        ("t=1764489600", "t=" + "1" * 13),
        ("t=1764489600,", ""),
        (f"nonce={NONCE}", "nonce=short"),
        (f"nonce={NONCE}", "nonce=" + "a" * 129),
        (f"nonce={NONCE}", f"nonce={NONCE},nonce={NONCE}"),
        (f"nonce={NONCE}", "nonce=0123456789abcd\nf"),
        (f",v1={DIGEST}", ""),
        (f",v1={DIGEST}", f",v1={DIGEST}" * 5),
        (f"v1={DIGEST}", "v1=" + "F" * 64),
        (f"sha256={DIGEST}", "sha256=" + "0" * 63),
    ],
)
def test_malformed_header_is_refused(changed: tuple[str, str]) -> None:
    with pytest.raises(InvalidSignatureError):
        parse_signature(GOOD.replace(*changed).encode())


def test_signature_is_of_one_secret_and_one_request() -> None:
    secret, other = make_secret(), make_secret()
    header = make_signature(secret, "POST", "/v1/x?a=1", b"body")["x-headgate-signature"]
    signature = parse_signature(header.encode())
    message = describe_request(b"POST", b"/v1/x?a=1", signature)
    assert is_signed_with([other.encode(), secret.encode()], message, signature)
    assert not is_signed_with([other.encode()], message, signature)
    assert not is_signed_with([], message, signature)
    altered = describe_request(b"POST", b"/v1/x?a=2", signature)
    assert not is_signed_with([secret.encode()], altered, signature)


async def test_last_piece_of_an_altered_body_is_withheld() -> None:
    async def send() -> AsyncIterator[bytes]:
        for piece in (b"a", b"b", b"c"):
            yield piece

    checked = check_stream(SignedRequest(b"", 0.0, b"0" * 64), send())
    assert [await anext(checked), await anext(checked)] == [b"a", b"b"]
    with pytest.raises(InvalidSignatureError):
        await anext(checked)


async def test_nonce_is_accepted_once_by_all_processes(database: Database) -> None:
    clock = SetClock(500.0)
    async with opened(database, clock) as one, opened(database, clock) as other:
        copies = [store.claim(request()) for store in (one, other) for _ in range(20)]
        results: list[Any] = await asyncio.gather(*copies, return_exceptions=True)
        assert sum(result is None for result in results) == 1
        assert sum(isinstance(result, ReusedNonceError) for result in results) == 39
        await other.claim(request(key_id="key_2"))
        await other.claim(request(nonce=NONCE + "x"))


async def test_nonce_is_remembered_until_its_signature_cannot_be_valid(
    database: Database,
) -> None:
    clock = SetClock(500.0)
    async with opened(database, clock) as store:
        await store.claim(request(until=1_000.0))
        clock.time = 999.0
        assert await store.prune() == 0
        with pytest.raises(ReusedNonceError):
            await store.claim(request())
        clock.time = 1_000.0
        assert await store.prune() == 1


async def test_full_store_makes_room_of_expired_nonces_only(database: Database) -> None:
    clock = SetClock(500.0)
    async with opened(database, clock, rows_max=2) as store:
        await store.claim(request("a" * 16, until=600.0))
        await store.claim(request("b" * 16))
        with pytest.raises(NoncesFullError):
            await store.claim(request("c" * 16))
        clock.time = 600.0
        await store.claim(request("c" * 16))
        clock.time = 999.0
        with pytest.raises(NoncesFullError):
            await store.claim(request("d" * 16))
