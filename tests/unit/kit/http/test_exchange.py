"""An exchange between a caller and a connection that only keeps what it is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.kit.http.errors import DisconnectedError, IdleTimeoutError, ResponseTooLargeError
from headgate.kit.http.exchange import UNCLAIMED_BYTES_MAX, UNHELD_BYTES, UpstreamExchange
from headgate.kit.http.message import Headers, Timeouts

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

ABORTED = r"^The exchange was aborted\.$"


class PausableConnection:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def drop(self) -> None:
        self.told.append("drop")


def open_exchange(headers: Headers | None = None) -> tuple[PausableConnection, UpstreamExchange]:
    wire = PausableConnection()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    exchange = UpstreamExchange(wire, Timeouts(), future)
    assert (exchange.status, exchange.error) == (0, None)
    exchange.open(200, headers or [])
    return wire, exchange


async def start_reading(exchange: UpstreamExchange, bytes_max: int) -> asyncio.Task[bytes]:
    task = asyncio.create_task(exchange.read(bytes_max))
    await asyncio.sleep(0)
    return task


async def test_open_exchange_has_arrived_with_status_and_headers() -> None:
    _, exchange = open_exchange([(b"a", b"b")])
    assert exchange.arrival.done()
    assert exchange.arrival.result() is None
    assert (exchange.status, exchange.headers) == (200, [(b"a", b"b")])
    assert exchange.timeouts == Timeouts()


async def test_caller_that_left_before_the_head_is_no_fault() -> None:
    exchange = UpstreamExchange(
        PausableConnection(), Timeouts(), asyncio.get_running_loop().create_future()
    )
    exchange.arrival.cancel()
    exchange.open(200, [])
    exchange.fail(DisconnectedError("gone"))
    assert exchange.status == 200


async def test_body_that_is_there_is_read_at_once_and_once() -> None:
    wire, exchange = open_exchange()
    for piece in (b"ab", b"c", b"de"):
        assert exchange.feed(piece) is None
    exchange.end()
    assert await exchange.read(5) == b"abcde"
    assert wire.told == []
    exchange.abort()
    assert wire.told == []


async def test_body_that_comes_later_is_awaited_with_the_socket_open() -> None:
    wire, exchange = open_exchange()
    reading = await start_reading(exchange, 5)
    assert wire.told == ["resume"]
    assert exchange.feed(b"abc") is None
    assert exchange.feed(b"de") is None
    assert not reading.done()
    exchange.end()
    assert await reading == b"abcde"


async def test_body_past_the_readers_limit_is_an_error_that_names_it() -> None:
    _, exchange = open_exchange()
    reading = await start_reading(exchange, 3)
    assert exchange.feed(b"abc") is None
    error = exchange.feed(b"d")
    assert isinstance(error, ResponseTooLargeError)
    assert str(error) == "The body is larger than 3 bytes."
    exchange.fail(error)
    with pytest.raises(ResponseTooLargeError, match=r"^The body is larger than 3 bytes\.$"):
        await reading


@pytest.mark.parametrize("ended", [False, True])
async def test_body_that_is_too_large_already_is_not_read(ended: bool) -> None:
    wire, exchange = open_exchange()
    exchange.feed(b"abcd")
    if ended:
        exchange.end()
    with pytest.raises(ResponseTooLargeError, match=r"^The body is larger than 3 bytes\.$"):
        await exchange.read(3)
    assert wire.told == ([] if ended else ["drop"])


async def test_body_that_announces_too_much_is_dropped_and_one_that_fits_is_not() -> None:
    wire, exchange = open_exchange([(b"x-length", b"9"), (b"content-length", b"4")])
    with pytest.raises(ResponseTooLargeError, match=r"^The body is larger than 3 bytes\.$"):
        await exchange.read(3)
    assert wire.told == ["drop"]
    wire, exchange = open_exchange([(b"x-length", b"9"), (b"content-length", b"3")])
    reading = await start_reading(exchange, 3)
    exchange.feed(b"abc")
    exchange.end()
    assert await reading == b"abc"
    assert wire.told == ["resume"]
    _, exchange = open_exchange([(b"content-length", b"9")])
    exchange.end()
    assert await exchange.read(3) == b"", "the answer to HEAD announces what does not come"


async def test_unclaimed_body_stops_the_socket_past_its_bound_and_streaming_opens_it(
    recorder: Any,
) -> None:
    wire, exchange = open_exchange()
    assert exchange.feed(bytes(UNCLAIMED_BYTES_MAX)) is None
    assert wire.told == []
    exchange.stream(first := recorder())
    assert (wire.told, first.size) == ([], UNCLAIMED_BYTES_MAX)
    wire, exchange = open_exchange()
    exchange.feed(bytes(UNCLAIMED_BYTES_MAX - 1))
    exchange.feed(b"ab")
    assert wire.told == ["pause"]
    exchange.stream(second := recorder())
    assert wire.told == ["pause", "resume"]
    assert [len(chunk) for chunk in second.chunks] == [UNCLAIMED_BYTES_MAX - 1, 2]


async def test_sink_hears_what_was_there_what_comes_and_the_end(recorder: Any) -> None:
    wire, exchange = open_exchange()
    exchange.feed(b"a")
    exchange.stream(sink := recorder())
    exchange.feed(b"b")
    assert (sink.chunks, sink.ends) == ([b"a", b"b"], 0)
    exchange.pause()
    exchange.resume()
    assert wire.told == ["pause", "resume"]
    exchange.end()
    assert (sink.chunks, sink.ends, sink.errors) == ([b"a", b"b"], 1, [])
    exchange.pause()
    exchange.resume()
    assert wire.told == ["pause", "resume"]


async def test_sink_of_a_complete_body_hears_its_end_at_once(recorder: Any) -> None:
    _, exchange = open_exchange()
    exchange.feed(b"a")
    exchange.end()
    exchange.stream(sink := recorder())
    assert (sink.chunks, sink.ends, sink.errors) == ([b"a"], 1, [])


async def test_sink_of_a_broken_body_hears_the_error_once(recorder: Any) -> None:
    error = IdleTimeoutError("late")
    _, exchange = open_exchange()
    exchange.feed(b"a")
    exchange.fail(error)
    assert exchange.error is error
    exchange.stream(sink := recorder())
    assert (sink.chunks, sink.ends, sink.errors) == ([b"a"], 0, [error])
    assert exchange.error is None
    _, exchange = open_exchange()
    exchange.stream(sink := recorder())
    exchange.fail(error)
    exchange.fail(error)
    assert sink.errors == [error]


async def test_sink_that_aborts_hears_nothing_more_and_the_error_waits_for_others() -> None:
    class Leaver:
        def __init__(self) -> None:
            self.heard: list[bytes] = []

        def on_data(self, data: bytes) -> None:
            self.heard.append(data)
            exchange.abort()

        def on_end(self) -> None:
            self.heard.append(b"end")

        def on_failure(self, error: Exception) -> None:
            self.heard.append(b"failure")

    wire, exchange = open_exchange()
    exchange.feed(b"a")
    exchange.feed(b"b")
    exchange.stream(leaver := Leaver())
    assert leaver.heard == [b"a"]
    assert wire.told == ["drop"]
    exchange.abort()
    assert wire.told == ["drop"]


async def test_aborted_exchange_says_so_to_who_waits_for_its_head_or_reads() -> None:
    exchange = UpstreamExchange(
        PausableConnection(), Timeouts(), asyncio.get_running_loop().create_future()
    )
    exchange.abort()
    assert exchange.arrival.done()
    assert isinstance(exchange.error, DisconnectedError), "or `send` would take it for an answer"
    with pytest.raises(DisconnectedError, match=ABORTED):
        raise exchange.take_error()
    _, exchange = open_exchange()
    exchange.abort()
    with pytest.raises(DisconnectedError, match=ABORTED):
        await exchange.read(9)
    _, exchange = open_exchange()
    reading = await start_reading(exchange, 9)
    exchange.feed(b"part")
    exchange.abort()
    with pytest.raises(DisconnectedError, match=ABORTED):
        await reading


async def test_error_is_handed_out_once() -> None:
    _, exchange = open_exchange()
    exchange.fail(error := IdleTimeoutError("late"))
    assert exchange.take_error() is error
    again = exchange.take_error()
    assert isinstance(again, DisconnectedError)
    assert str(again) == "The exchange was aborted."


async def test_reader_that_leaves_drops_the_connection_and_hears_no_end() -> None:
    wire, exchange = open_exchange()
    reading = await start_reading(exchange, 9)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert wire.told == ["resume", "drop"]
    exchange.end()


async def test_body_that_is_over_is_held_as_what_it_is_and_not_as_announced() -> None:
    """The answer to HEAD announces the length of a body that it has not."""
    for body in (b"", b"x" * UNHELD_BYTES, b"x" * (UNHELD_BYTES + 1)):
        held: list[int] = []
        _, exchange = open_exchange([(b"content-length", b"1000000000")])
        if body:
            exchange.feed(body)
        exchange.end()
        assert await exchange.read(1 << 20, held.append) == body
        assert sum(held) == len(body[UNHELD_BYTES:])
