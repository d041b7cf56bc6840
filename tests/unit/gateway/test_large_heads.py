"""Only so many unfinished large heads are kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.gateway.edge import LARGE_HEADS_MAX
from tests.fakes.in_process import InProcessGateway, running_in_process
from tests.unit.relay.test_memory_release import until

pytestmark = pytest.mark.anyio

BODY = b'{"model":"gpt-5.4-mini","messages":[]}'
SURPLUS = 3


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[InProcessGateway]:
    async with running_in_process(tmp_path) as running:
        yield running


@pytest.mark.parametrize("more", [["x-a: " + "a" * 3000], [f"x-{n}: a" for n in range(30)]])
async def test_oldest_of_too_many_unfinished_large_heads_is_refused(
    gateway: InProcessGateway, more: list[str]
) -> None:
    head = gateway.head(len(BODY), *more)
    clients = [await gateway.connect() for _ in range(LARGE_HEADS_MAX + SURPLUS)]
    for number, client in enumerate(clients):
        client.transport.write(head[:-2])
        begun = min(number + 1, LARGE_HEADS_MAX)
        await until(lambda n=begun: sum(map(is_begun, gateway.state.connections)) >= n)
    given_up, kept = clients[:SURPLUS], clients[SURPLUS:]
    await until(lambda: all(client.status == 503 for client in given_up))
    assert all(b'"code":"too_many_unfinished_heads"' in client.start for client in given_up)
    for client in kept:
        client.transport.write(head[-2:] + BODY)
    await until(lambda: all(client.status == 200 for client in kept))


async def test_finished_head_does_not_count_as_unfinished(gateway: InProcessGateway) -> None:
    head = gateway.head(len(BODY), "x-a: " + "a" * 3000)
    first = await gateway.connect()
    first.transport.write(head[:-2])
    await until(lambda: any(map(is_begun, gateway.state.connections)))
    for _ in range(LARGE_HEADS_MAX):
        client = await gateway.connect()
        client.transport.write(head[:-2])
        await until(lambda: sum(map(is_begun, gateway.state.connections)) > 1)
        client.transport.write(head[-2:] + BODY)
        await client.heard.wait()
        assert client.status == 200
        client.transport.abort()
        await until(lambda: len(gateway.state.connections) == 1)
    assert not first.received


async def test_finished_large_head_with_an_upgrade_offer_does_not_count(
    gateway: InProcessGateway,
) -> None:
    more = ["x-a: " + "a" * 3000, "connection: upgrade", "upgrade: h2c"]
    head = gateway.head(len(BODY), *more)
    first = await gateway.connect()
    first.transport.write(head[:-2])
    await until(lambda: any(map(is_begun, gateway.state.connections)))
    first.transport.write(head[-2:] + BODY)
    await first.heard.wait()
    for number in range(LARGE_HEADS_MAX):
        client = await gateway.connect()
        client.transport.write(head[:-2])
        await until(lambda n=number: sum(map(is_begun, gateway.state.connections)) > n + 1)
    first.start = b""
    first.transport.write(gateway.head(len(BODY)) + BODY)
    await until(lambda: first.status == 200 or first.closed.is_set())
    assert first.status == 200


def is_begun(connection: object) -> bool:
    """Return whether a head has begun on a connection."""
    return bool(getattr(connection, "headers", None))
