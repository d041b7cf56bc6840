"""Every request that two readers could understand in two ways, at the edge alone (11.2)."""

from __future__ import annotations

import pytest

from headgate.gateway.hosts import HostAllowlist
from tests.e2e.smuggling_vectors import MARKER_PATH, build, build_marker
from tests.fakes.wire import EchoHandler, Line

pytestmark = pytest.mark.anyio
KEY = "hg_live_any"
VECTORS = build(KEY)
FIRST = build_marker(KEY).replace(MARKER_PATH.encode(), b"/v1/first")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def converse(raw: bytes) -> tuple[EchoHandler, Line]:
    handler = EchoHandler()
    line = Line(handler, hosts=HostAllowlist())
    await line.send(raw)
    await line.send(FIRST)
    await line.settle()
    return handler, line


@pytest.mark.parametrize("name", VECTORS)
async def test_vector_is_refused_and_nothing_after_it_is_heard(name: str) -> None:
    vector = VECTORS[name]
    handler, line = await converse(vector.raw)
    if vector.status == 408:
        line.wait(1000)
    assert line.statuses == [vector.status]
    assert b"connection: close\r\n" in line.wire.written
    assert handler.seen == []
    line.wait(1000)
    assert line.wire.closed
    await line.close()


@pytest.mark.parametrize("name", VECTORS)
async def test_request_before_a_vector_is_served_and_none_after_it(name: str) -> None:
    handler, line = await converse(FIRST + VECTORS[name].raw)
    assert [target for _, target, _ in handler.seen] == [b"/v1/first"]
    assert line.statuses[0] == 200
    line.wait(1000)
    line.wait(1000)
    assert line.wire.closed
    await line.close()
