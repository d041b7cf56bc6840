"""The memory budget for bodies: how it is shared, and that every byte is returned."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.relay.body_budget import (
    REFUSAL_REMEMBERED_SECONDS,
    BodyBudget,
    BodyMemoryExhaustedError,
    BodyOverBudgetError,
)
from tests.fakes.in_process import Client, InProcessGateway, Peer, running_in_process
from tests.unit.relay.test_memory_release import chunk, until

MEBIBYTE = 1 << 20
EXPECTING = "expect: 100-continue"
BODY = b'{"model":"gpt-5.4-mini","messages":[{"role":"user","content":"%b"}]}' % (b"x" * MEBIBYTE)


class ManualTime:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_any_key_may_use_half_of_the_memory() -> None:
    budget = BodyBudget(1000)
    for _ in range(5):
        budget.take("key", 100)
    assert budget.taken == 500


def test_key_alone_gets_four_fifths_and_leaves_room_for_others() -> None:
    budget = BodyBudget(1000)
    for _ in range(8):
        budget.take("key", 100)
    with pytest.raises(BodyMemoryExhaustedError) as refused:
        budget.take("key", 100)
    assert (refused.value.retry_after_seconds, refused.value.kind.value) == (1.0, 503)
    budget.take("other", 100)
    assert (budget.taken, budget.refusals) == (900, 1)


def test_one_large_body_may_take_all_free_memory() -> None:
    budget = BodyBudget(1000)
    budget.take("key", 1000)
    assert budget.taken == 1000


def test_body_that_can_never_fit_is_too_large() -> None:
    with pytest.raises(BodyOverBudgetError) as refused:
        BodyBudget(1000).take("key", 1001)
    assert refused.value.kind.value == 413


def test_refused_bodies_are_not_counted_and_released_ones_are_freed() -> None:
    budget = BodyBudget(1000)
    budget.take("key", 800)
    with pytest.raises(BodyMemoryExhaustedError):
        budget.take("key", 100)
    budget.give("key", 800)
    assert budget.taken == 0
    budget.take("key", 800)


def test_refused_key_gets_room_before_a_key_over_its_share() -> None:
    watch = ManualTime()
    budget = BodyBudget(1000, watch)
    for _ in range(3):
        budget.take("greedy", 250)
    with pytest.raises(BodyMemoryExhaustedError):
        budget.take("modest", 250)
    budget.give("greedy", 250)
    with pytest.raises(BodyMemoryExhaustedError):
        budget.take("greedy", 250)
    budget.take("modest", 250)


def test_key_that_was_rejected_long_ago_limits_no_other() -> None:
    watch = ManualTime()
    budget = BodyBudget(1000, watch)
    for _ in range(3):
        budget.take("greedy", 250)
    with pytest.raises(BodyMemoryExhaustedError):
        budget.take("modest", 250)
    budget.give("greedy", 250)
    watch.now += REFUSAL_REMEMBERED_SECONDS + 1
    budget.take("greedy", 250)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncGenerator[InProcessGateway]:
    async with running_in_process(
        tmp_path, bodies_bytes_max=4 * MEBIBYTE, retries_max=0
    ) as running:
        yield running


async def ask(client: Client, *pieces: bytes) -> int:
    client.heard.clear()
    client.start = b""
    client.transport.writelines(pieces)
    await client.heard.wait()
    return client.status


@pytest.mark.anyio
async def test_body_without_room_is_refused_by_its_head_alone(gateway: InProcessGateway) -> None:
    holders = [await gateway.connect() for _ in range(3)]
    for each in holders:
        assert await ask(each, gateway.head(MEBIBYTE, EXPECTING)) == 100
    late = await gateway.connect()
    assert await ask(late, gateway.head(MEBIBYTE, EXPECTING)) == 503
    assert b"retry-after: 1\r\n" in late.start
    assert b'"code":"overloaded"' in late.start
    assert await ask(await gateway.connect(), gateway.head(5 * MEBIBYTE, EXPECTING)) == 413
    other = await gateway.connect()
    head = gateway.head(len(BODY) // 2, EXPECTING, key=gateway.issue())
    assert await ask(other, head) == 100
    for each in (*holders, other):
        each.transport.abort()
    await until(lambda: not gateway.traffic.bodies.taken)
    assert await ask(await gateway.connect(), gateway.head(MEBIBYTE, EXPECTING)) == 100


@pytest.mark.anyio
async def test_body_without_a_length_is_counted_as_it_arrives(gateway: InProcessGateway) -> None:
    head = gateway.head(0).replace(b"content-length: 0", b"transfer-encoding: chunked")
    client = await gateway.connect()
    assert await ask(client, head, *[chunk(b"x" * MEBIBYTE)] * 4) == 503
    await until(lambda: not gateway.traffic.bodies.taken)


@pytest.mark.anyio
async def test_answer_without_room_is_not_held(gateway: InProcessGateway) -> None:
    def answer(peer: Peer) -> None:
        peer.answer(b'{"x":"%b"}' % (b"x" * 6 * MEBIBYTE))

    def pour(peer: Peer) -> None:
        peer.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        peer.transport.write(b"transfer-encoding: chunked\r\n\r\n")
        peer.transport.writelines([chunk(b"x" * MEBIBYTE)] * 6)

    for play in (answer, pour):
        gateway.provider.play = play
        client = await gateway.connect()
        assert await ask(client, gateway.head(len(BODY)), BODY) == 503
        assert b"x-should-retry: false\r\n" in client.start
        assert gateway.receipts[-1].outcome == "broken"
        await until(lambda: not gateway.traffic.bodies.taken)


@pytest.mark.anyio
async def test_answer_is_held_until_its_client_has_taken_it(gateway: InProcessGateway) -> None:
    size = 3 * MEBIBYTE
    gateway.provider.play = lambda peer: peer.answer(b'{"x":"%b"}' % (b"x" * size))
    client = await gateway.connect()
    body = b'{"model":"gpt-5.4-mini","messages":[]}'
    client.transport.writelines([gateway.head(len(body)), body])
    held = client.transport.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.transport.pause_reading()
    await until(lambda: len(gateway.receipts) == 1 and not gateway.state.tasks)
    assert gateway.traffic.bodies.taken >= size - 65536
    client.transport.resume_reading()
    await until(lambda: client.received > size)
    await until(lambda: not gateway.traffic.bodies.taken)
    assert not client.closed.is_set()


@pytest.mark.anyio
async def test_scope_and_rate_are_checked_before_the_body_is_requested(
    gateway: InProcessGateway,
) -> None:
    gateway.provider.play = lambda peer: peer.answer(b'{"id":"x"}')
    limited = gateway.issue(requests_per_minute=2)
    for remaining in (1, 0):
        client = await gateway.connect()
        assert await ask(client, gateway.head(len(BODY), key=limited), BODY) == 200
        assert b"x-headgate-ratelimit-remaining-requests: %d\r\n" % remaining in client.start
    refused = {
        limited: 429,
        gateway.issue(endpoints=("embeddings",)): 403,
        gateway.issue(networks=("10.0.0.0/8",)): 403,
    }
    for key, status in refused.items():
        client = await gateway.connect()
        assert await ask(client, gateway.head(len(BODY), EXPECTING, key=key)) == status
    assert not gateway.traffic.bodies.taken
