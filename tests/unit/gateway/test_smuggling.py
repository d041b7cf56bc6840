"""The edge alone refuses every request that two readers could understand in two ways."""

from __future__ import annotations

import pytest

from headgate.gateway.hosts import HostAllowlist
from tests.e2e.smuggling_vectors import MARKER_PATH, build, build_marker
from tests.fakes.edge_connection import EchoHandler, EdgeConnection

pytestmark = pytest.mark.anyio
KEY = "hg_live_any"
VECTORS = build(KEY)
FIRST = build_marker(KEY).replace(MARKER_PATH.encode(), b"/v1/first")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def converse(raw: bytes) -> tuple[EchoHandler, EdgeConnection]:
    handler = EchoHandler()
    connection = EdgeConnection(handler, hosts=HostAllowlist())
    await connection.send(raw)
    await connection.send(FIRST)
    await connection.settle()
    return handler, connection


@pytest.mark.parametrize("name", VECTORS)
async def test_smuggling_vector_is_refused_and_ends_the_connection(name: str) -> None:
    vector = VECTORS[name]
    handler, connection = await converse(vector.raw)
    if vector.status == 408:
        connection.wait(1000)
    assert connection.statuses == [vector.status]
    assert b"connection: close\r\n" in connection.transport.written
    assert handler.seen == []
    connection.wait(1000)
    assert connection.transport.closed
    await connection.close()


@pytest.mark.parametrize("name", VECTORS)
async def test_request_before_a_smuggling_vector_is_served_and_none_after_it(name: str) -> None:
    handler, connection = await converse(FIRST + VECTORS[name].raw)
    assert [target for _, target, _ in handler.seen] == [b"/v1/first"]
    assert connection.statuses[0] == 200
    connection.wait(1000)
    connection.wait(1000)
    assert connection.transport.closed
    await connection.close()
