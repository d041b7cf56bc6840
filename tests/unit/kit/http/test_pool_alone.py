"""The pool over connections without sockets: who gets which, and the bounds of what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from headgate.kit.http.connection import HeadLimits, UpstreamConnection
from headgate.kit.http.dial import Dialer
from headgate.kit.http.errors import (
    ConnectError,
    ConnectTimeoutError,
    DisconnectedError,
    PoolExhaustedError,
    TotalTimeoutError,
)
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.kit.http.pool import Pool, PoolLimits
from tests.fakes.upstream_connection import RecordingTransport

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

HERE, THERE, ELSEWHERE = (Origin("http", name, 80) for name in ("a.test", "b.test", "c.test"))
WITHOUT_BREAKERS = Timeouts(connect_seconds=3)


class Dials:
    """Opens at once, or as `hold`, `fault` and `stillborn` say."""

    def __init__(self) -> None:
        self.asked: list[Origin] = []
        self.deadlines: list[float] = []
        self.transports: dict[UpstreamConnection, RecordingTransport] = {}
        self.hold: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.stillborn = False

    async def dial(
        self,
        origin: Origin,
        create: Callable[[], UpstreamConnection],
        *,
        deadline: float,
        purpose: str = "",
    ) -> UpstreamConnection:
        self.asked.append(origin)
        self.deadlines.append(deadline)
        if self.hold is not None:
            await self.hold.wait()
        if self.fault is not None:
            raise self.fault
        connection = create()
        self.transports[connection] = RecordingTransport(connection)
        connection.closed = self.stillborn
        return connection


def make_pool(dials: Dials, **limits: float) -> Pool:
    settings = PoolLimits(**limits)  # type: ignore[arg-type]
    return Pool(cast("Dialer", dials), settings, HeadLimits())


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def open_waiting(pool: Pool, *origins: Origin) -> list[asyncio.Task[UpstreamConnection]]:
    tasks: list[asyncio.Task[UpstreamConnection]] = []
    for origin in origins:
        tasks.append(asyncio.create_task(pool.acquire(origin, WITHOUT_BREAKERS)))
        await turn()
    return tasks


async def finish(pool: Pool, *tasks: asyncio.Task[UpstreamConnection]) -> None:
    async with asyncio.timeout(3):
        await pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (pool.open, pool.waiting, pool.idle, pool.connections) == (0, 0, 0, set())


async def test_counts_say_what_is_open_kept_and_was_connected() -> None:
    pool = make_pool(dials := Dials())
    first = await pool.acquire(HERE, WITHOUT_BREAKERS)
    second = await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert (pool.open, pool.connects, pool.idle, pool.waiting) == (2, 2, 0, 0)
    origin_pool = pool.find_origin_pool(HERE)
    origin_pool.release(first)
    origin_pool.release(second)
    assert (pool.open, pool.idle) == (2, 2)
    assert origin_pool.take(second.seen_at) is second
    assert origin_pool.take(first.seen_at) is first
    assert origin_pool.take(first.seen_at) is None
    assert dials.asked == [HERE, HERE]
    await finish(pool)


async def test_deadline_of_dialling_is_the_shorter_of_connect_and_total() -> None:
    pool = make_pool(dials := Dials())
    now = asyncio.get_running_loop().time()
    await pool.acquire(HERE, Timeouts(connect_seconds=500, total_seconds=900))
    await pool.acquire(HERE, Timeouts(connect_seconds=900, total_seconds=200))
    assert [round(deadline - now, -2) for deadline in dials.deadlines] == [500, 200]
    await finish(pool)


async def test_kept_connection_is_good_for_its_time_and_not_a_tick_longer() -> None:
    pool = make_pool(dials := Dials(), keepalive_seconds=8)
    connection = await pool.acquire(HERE, WITHOUT_BREAKERS)
    origin_pool = pool.find_origin_pool(HERE)
    connection.seen_at = 1000.0
    origin_pool.release(connection)
    assert pool.expire_idle(1007.99) is True
    assert not connection.closed
    assert origin_pool.take(1007.99) is connection
    origin_pool.release(connection)
    assert origin_pool.take(1008.0) is None
    assert (connection.closed, dials.transports[connection].aborts) == (True, 1)
    await turn()
    assert (pool.open, pool.idle) == (0, 0)
    await finish(pool)


async def test_unused_connections_expire_each_after_its_own_time() -> None:
    pool = make_pool(Dials(), keepalive_seconds=8)
    old, young = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(2)]
    busy = await pool.acquire(THERE, WITHOUT_BREAKERS)
    old.seen_at, young.seen_at, busy.seen_at = 1000.0, 1001.0, 0.0
    for connection in (old, young):
        pool.find_origin_pool(HERE).release(connection)
    assert pool.expire_idle(1008.0) is True
    assert (old.closed, young.closed, busy.closed) == (True, False, False)
    await turn()
    assert (pool.open, pool.idle) == (2, 1)
    assert pool.find_origin_pool(HERE).take(1008.0) is young
    young.drop()
    busy.drop()
    await turn()
    assert pool.expire_idle(1008.0) is False
    await finish(pool)


async def test_connection_that_died_while_it_was_kept_is_passed_over() -> None:
    pool = make_pool(Dials())
    first, second = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(2)]
    origin_pool = pool.find_origin_pool(HERE)
    origin_pool.release(first)
    origin_pool.release(second)
    second.closed = True
    assert origin_pool.take(first.seen_at) is first
    second.closed = False
    first.drop()
    second.drop()
    await finish(pool)


async def test_as_many_unused_connections_are_kept_as_allowed() -> None:
    pool = make_pool(Dials(), idle_max=2)
    connections = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(3)]
    for connection in connections:
        pool.find_origin_pool(HERE).release(connection)
    await turn()
    assert [connection.closed for connection in connections] == [False, False, True]
    assert (pool.open, pool.idle) == (2, 2)
    await finish(pool)


async def test_each_origin_opens_as_many_as_allowed_and_then_waits_in_turn() -> None:
    pool = make_pool(dials := Dials(), connections_per_origin_max=2)
    held = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(2)]
    await pool.acquire(THERE, WITHOUT_BREAKERS)
    first, second = await open_waiting(pool, HERE, HERE)
    assert (pool.waiting, pool.open, len(dials.asked)) == (2, 3, 3)
    pool.find_origin_pool(HERE).release(held[0])
    assert await first is held[0]
    assert (pool.waiting, pool.idle) == (1, 0)
    held[1].drop()
    fresh = await second
    assert fresh not in held
    assert (pool.waiting, pool.open, pool.connects) == (0, 3, 4)
    await finish(pool)


async def test_place_that_is_free_goes_to_who_waits_longest_of_all_origins() -> None:
    pool = make_pool(dials := Dials(), connections_max=2)
    held = [await pool.acquire(HERE, WITHOUT_BREAKERS), await pool.acquire(THERE, WITHOUT_BREAKERS)]
    waiting = await open_waiting(pool, ELSEWHERE, THERE, HERE)
    assert (pool.waiting, pool.is_starved()) == (3, True)
    held[1].drop()
    await turn()
    assert dials.asked[2:] == [ELSEWHERE]
    held[0].drop()
    await turn()
    assert dials.asked[2:] == [ELSEWHERE, THERE]
    (await waiting[0]).drop()
    await turn()
    assert dials.asked[2:] == [ELSEWHERE, THERE, HERE]
    assert (pool.waiting, pool.open, pool.is_starved()) == (0, 2, False)
    await finish(pool, *waiting)


async def test_order_of_waiting_counts_and_not_the_order_in_which_origins_were_met() -> None:
    pool = make_pool(dials := Dials(), connections_max=2)
    held = [await pool.acquire(HERE, WITHOUT_BREAKERS), await pool.acquire(HERE, WITHOUT_BREAKERS)]
    waiting = await open_waiting(pool, THERE, HERE)
    held[0].drop()
    await turn()
    assert dials.asked[2:] == [THERE]
    await finish(pool, *waiting)


async def test_free_place_is_not_for_an_origin_that_is_full() -> None:
    pool = make_pool(dials := Dials(), connections_per_origin_max=1, connections_max=2)
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    held = await pool.acquire(THERE, WITHOUT_BREAKERS)
    waiting = await open_waiting(pool, HERE, ELSEWHERE)
    held.drop()
    await turn()
    assert dials.asked[2:] == [ELSEWHERE]
    assert (pool.waiting, pool.open) == (1, 2)
    await finish(pool, *waiting)


async def test_several_free_places_are_all_given_out() -> None:
    pool = make_pool(dials := Dials(), connections_max=2)
    held = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(2)]
    waiting = await open_waiting(pool, THERE, ELSEWHERE, THERE)
    for connection in held:
        connection.drop()
    await turn()
    assert dials.asked[2:] == [THERE, ELSEWHERE]
    assert (pool.waiting, pool.open) == (1, 2)
    await finish(pool, *waiting)


async def test_unused_connection_of_another_origin_gives_way() -> None:
    pool = make_pool(dials := Dials(), connections_max=2)
    kept = [await pool.acquire(HERE, WITHOUT_BREAKERS) for _ in range(2)]
    for connection in kept:
        pool.find_origin_pool(HERE).release(connection)
    (task,) = await open_waiting(pool, THERE)
    await task
    assert [connection.closed for connection in kept] == [True, False]
    assert dials.asked[2:] == [THERE]
    assert (pool.open, pool.idle, pool.waiting) == (2, 1, 0)
    await finish(pool)


async def test_connection_is_not_kept_while_another_origin_waits_for_its_place() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    (task,) = await open_waiting(pool, THERE)
    pool.find_origin_pool(HERE).release(held)
    await task
    assert held.closed
    assert dials.asked == [HERE, THERE]
    await finish(pool)


async def test_full_queue_is_told_and_takes_the_next_when_one_has_left() -> None:
    pool = make_pool(Dials(), connections_max=1, waiting_max=3)
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    waiting = await open_waiting(pool, HERE, THERE, THERE)
    with pytest.raises(PoolExhaustedError) as refused:
        await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert str(refused.value) == "3 requests wait for a connection already."
    waiting[1].cancel()
    await turn()
    assert pool.waiting == 2
    waiting += await open_waiting(pool, THERE)
    assert pool.waiting == 3
    await finish(pool, *waiting)


async def test_who_is_cancelled_with_a_connection_in_hand_gives_it_back() -> None:
    pool = make_pool(Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    origin_pool = pool.find_origin_pool(HERE)
    leaver, stayer = await open_waiting(pool, HERE, HERE)
    origin_pool.release(held)
    leaver.cancel()
    assert await stayer is held
    (leaver,) = await open_waiting(pool, HERE)
    origin_pool.release(held)
    held.drop()
    leaver.cancel()
    await turn()
    assert (pool.open, pool.idle, pool.waiting) == (0, 0, 0)
    await finish(pool)


async def test_who_is_cancelled_with_a_place_in_hand_frees_it() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    leaver, stayer = await open_waiting(pool, THERE, ELSEWHERE)
    held.connection_lost(None)
    assert (pool.open, pool.waiting) == (1, 1)
    leaver.cancel()
    await stayer
    assert dials.asked == [HERE, ELSEWHERE]
    assert (pool.open, pool.waiting) == (1, 0)
    await finish(pool)


async def test_connection_that_died_in_the_hand_over_is_replaced() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    (task,) = await open_waiting(pool, HERE)
    pool.find_origin_pool(HERE).release(held)
    held.drop()
    fresh = await task
    assert fresh is not held
    assert not fresh.closed
    assert dials.asked == [HERE, HERE]
    await finish(pool)


async def test_failed_dial_frees_its_place_for_the_next() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    dials.fault = ConnectError("refused")
    with pytest.raises(ConnectError, match="refused"):
        await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert (pool.open, pool.connects) == (0, 0)
    dials.fault = None
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert (pool.open, pool.connects) == (1, 1)
    await finish(pool)


async def test_wait_for_a_free_connection_says_nothing_of_the_origin() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    with pytest.raises(PoolExhaustedError) as late:
        await pool.acquire(THERE, Timeouts(connect_seconds=0.01, total_seconds=9))
    assert str(late.value) == f"No connection to {THERE} was free within 0.01 s."
    assert dials.asked == [HERE]
    assert pool.waiting == 0
    await finish(pool)


async def test_connection_that_closed_while_it_was_opened_is_a_failure() -> None:
    pool = make_pool(dials := Dials())
    dials.stillborn = True
    with pytest.raises(ConnectError) as failed:
        await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert str(failed.value) == "http://a.test:80 closed the connection at once."
    assert (pool.open, pool.connects, pool.connections) == (0, 0, set())


@pytest.mark.parametrize(
    ("timeouts", "kind", "told"),
    [
        (
            Timeouts(connect_seconds=0.01, total_seconds=9),
            ConnectTimeoutError,
            "No connection to http://a.test:80 within 0.01 s.",
        ),
        (
            Timeouts(connect_seconds=0.01, total_seconds=0.01),
            ConnectTimeoutError,
            "No connection to http://a.test:80 within 0.01 s.",
        ),
        (
            Timeouts(connect_seconds=9, total_seconds=0.01),
            TotalTimeoutError,
            "The exchange took 0.01 s.",
        ),
    ],
)
async def test_dial_that_takes_too_long_names_the_deadline_that_it_missed(
    timeouts: Timeouts, kind: type[ConnectTimeoutError | TotalTimeoutError], told: str
) -> None:
    pool = make_pool(dials := Dials())
    dials.hold = asyncio.Event()
    with pytest.raises(kind) as late:
        await pool.acquire(HERE, timeouts)
    assert str(late.value) == told
    assert late.value.sent is False
    assert pool.open == 0


async def test_closing_breaks_off_refuses_and_waits_for_the_sockets() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    waiting = await open_waiting(pool, HERE, THERE)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    assert held.closed
    assert not closing.done()
    await closing
    for task in waiting:
        with pytest.raises(ConnectError) as refused:
            await task
        assert str(refused.value) == "The client is closed."
    with pytest.raises(ConnectError, match=r"^The client is closed\.$"):
        await pool.acquire(ELSEWHERE, WITHOUT_BREAKERS)
    assert dials.asked == [HERE]
    assert (pool.open, pool.waiting) == (0, 0)


async def test_dial_that_ends_after_the_closing_is_closed_at_once() -> None:
    pool = make_pool(dials := Dials())
    dials.hold = asyncio.Event()
    (task,) = await open_waiting(pool, HERE)
    await pool.close()
    dials.hold.set()
    with pytest.raises(ConnectError, match=r"^The client is closed\.$"):
        await task
    (transport,) = dials.transports.values()
    assert transport.aborts == 1
    assert pool.open == 0


async def test_origin_that_has_nothing_is_forgotten_and_one_in_use_is_not() -> None:
    pool = make_pool(Dials())
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    origin_pool = pool.find_origin_pool(HERE)
    assert pool.find_origin_pool(HERE) is origin_pool
    second = await pool.acquire(HERE, WITHOUT_BREAKERS)
    held.drop()
    await turn()
    assert pool.find_origin_pool(HERE) is origin_pool
    second.drop()
    await turn()
    assert pool.find_origin_pool(HERE) is not origin_pool
    await finish(pool)


@pytest.mark.parametrize(
    ("announced", "kept_seconds"),
    [
        (b"timeout=5", 4.0),
        (b"timeout=5, max=100", 4.0),
        (b'max=9,Timeout="3"', 2.0),
        (b"timeout=1", 0.5),
        (b"timeout=0", 0.0),
        (b"timeout=75", 8.0),
        (b"timeout=soon", 8.0),
        (b"mytimeout=1", 8.0),
        (b"5", 8.0),
    ],
)
async def test_kept_connection_is_left_before_the_peer_closes_it(
    announced: bytes, kept_seconds: float
) -> None:
    pool = make_pool(Dials(), keepalive_seconds=8)
    connection = await pool.acquire(HERE, WITHOUT_BREAKERS)
    connection.start(Request(HERE, b"GET", b"/", [], b"", Timeouts()), b"HEAD", connection.seen_at)
    head = b"HTTP/1.1 200 OK\r\nkeep-alive: %b\r\ncontent-length: 0\r\n\r\n" % announced
    connection.data_received(head)
    assert pool.idle == 1
    origin_pool = pool.find_origin_pool(HERE)
    at = connection.seen_at = 1000.0
    if kept_seconds:
        assert origin_pool.take(at + kept_seconds - 0.01) is connection
        origin_pool.release(connection)
    assert origin_pool.take(at + kept_seconds) is None
    assert connection.closed
    await finish(pool)


async def test_deadlines_are_looked_at_while_any_exchange_goes_on() -> None:
    pool = make_pool(Dials())
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    assert pool.check_deadlines(0.0) is False
    now = held.seen_at
    held.start(Request(HERE, b"GET", b"/", [], b"", Timeouts(total_seconds=5)), b"HEAD", now)
    assert pool.check_deadlines(now + 4.9) is True
    assert pool.check_deadlines(now + 5.0) is False
    assert held.closed
    await finish(pool)


async def test_connection_for_a_waiter_who_has_just_left_is_kept() -> None:
    pool = make_pool(Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    (leaver,) = await open_waiting(pool, HERE)
    leaver.cancel()
    pool.find_origin_pool(HERE).release(held)
    assert (pool.idle, pool.waiting, held.closed) == (1, 0, False)
    await turn()
    assert leaver.cancelled()
    assert (pool.idle, pool.waiting, pool.open) == (1, 0, 1)
    assert pool.find_origin_pool(HERE).take(held.seen_at) is held
    await finish(pool)


async def test_origin_whose_only_waiter_has_left_is_forgotten() -> None:
    pool = make_pool(Dials(), connections_max=1)
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    (leaver,) = await open_waiting(pool, THERE)
    origin_pool = pool.find_origin_pool(THERE)
    leaver.cancel()
    await turn()
    assert leaver.cancelled()
    assert pool.find_origin_pool(THERE) is not origin_pool
    await finish(pool)


async def test_place_of_a_waiter_who_has_just_left_goes_to_the_next() -> None:
    pool = make_pool(dials := Dials(), connections_max=1)
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    leaver, stayer = await open_waiting(pool, THERE, ELSEWHERE)
    leaver.cancel()
    held.drop()
    await stayer
    assert dials.asked == [HERE, ELSEWHERE]
    assert (pool.open, pool.waiting) == (1, 0)
    await finish(pool)


async def test_free_place_that_nobody_may_have_stays_free() -> None:
    pool = make_pool(dials := Dials(), connections_per_origin_max=1, connections_max=3)
    await pool.acquire(HERE, WITHOUT_BREAKERS)
    held = await pool.acquire(THERE, WITHOUT_BREAKERS)
    waiting = await open_waiting(pool, HERE)
    held.drop()
    await turn()
    assert (dials.asked, pool.open, pool.waiting) == ([HERE, THERE], 1, 1)
    await finish(pool, *waiting)


async def test_exchange_under_way_hears_that_the_client_is_closed() -> None:
    pool = make_pool(Dials())
    held = await pool.acquire(HERE, WITHOUT_BREAKERS)
    exchange = held.start(Request(HERE, b"GET", b"/", [], b"", WITHOUT_BREAKERS), b"HEAD", 1000.0)
    await finish(pool)
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert (str(error), error.reused) == ("The client is closed.", False)
    assert exchange.arrival.done()
