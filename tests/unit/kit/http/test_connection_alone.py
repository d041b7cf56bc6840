"""A connection without a socket, its clock set by hand: its bounds to the byte and the tick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headgate.kit.http.connection import JOINED_BYTES_MAX, HeadLimits
from headgate.kit.http.errors import (
    DisconnectedError,
    EgressError,
    FirstByteTimeoutError,
    IdleTimeoutError,
    MalformedResponseError,
    ResponseHeadTooLargeError,
    ResponseTooLargeError,
    TotalTimeoutError,
)
from headgate.kit.http.exchange import UpstreamExchange
from headgate.kit.http.message import Origin, Request, Timeouts
from tests.fakes.upstream_connection import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

TIMEOUTS = Timeouts(
    connect_seconds=1.0, first_byte_seconds=8.0, idle_seconds=4.0, total_seconds=32.0
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
OPEN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"


def ask(
    rig: Rig,
    body: bytes | AsyncIterator[bytes] = b"",
    *,
    method: bytes = b"POST",
    started_at: float | None = None,
    content_length: int | None = None,
) -> UpstreamExchange:
    origin = Origin("http", "a.test", 80)
    request = Request(origin, method, b"/", [], body, TIMEOUTS, content_length)
    return rig.connection.start(
        request, b"HEAD ", rig.loop.now if started_at is None else started_at
    )


def assert_failed(
    rig: Rig, exchange: UpstreamExchange, kind: type[EgressError], message: str
) -> None:
    assert exchange.arrival.done()
    error = exchange.take_error()
    assert type(error) is kind
    assert str(error) == message
    assert rig.transport.aborts == 1
    assert rig.connection.closed


@pytest.mark.parametrize("size", [0, JOINED_BYTES_MAX, JOINED_BYTES_MAX + 1])
async def test_body_leaves_in_one_piece_with_its_head(size: int) -> None:
    rig = Rig()
    ask(rig, bytes(size))
    await asyncio.sleep(0)
    assert rig.transport.written == [b"HEAD " + bytes(size)]


async def test_request_that_is_given_up_in_the_same_turn_is_never_sent() -> None:
    rig = Rig()
    ask(rig, b"body").abort()
    await asyncio.sleep(0)
    assert (rig.transport.written, rig.transport.aborts) == ([], 1)


async def test_total_deadline_runs_from_the_start_of_the_call_to_the_tick() -> None:
    rig = Rig()
    exchange = ask(rig, started_at=rig.loop.now - 10)
    rig.connection.data_received(OPEN_HEAD)
    for _ in range(7):
        rig.loop.now += 3
        rig.connection.data_received(b"x")
        assert rig.connection.check(rig.loop.now)
    assert rig.connection.check(rig.loop.now + 0.99)
    assert not rig.connection.check(rig.loop.now + 1)
    assert_failed(rig, exchange, TotalTimeoutError, "The exchange took 32.0 s.")


async def test_first_byte_is_due_at_its_deadline_and_not_before() -> None:
    rig = Rig()
    exchange = ask(rig)
    assert rig.connection.check(rig.loop.now + 7.99)
    assert not rig.connection.check(rig.loop.now + 8)
    assert_failed(rig, exchange, FirstByteTimeoutError, "No answer within 8.0 s.")


async def test_interim_head_is_no_first_byte() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.loop.now += 5
    rig.connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert not exchange.arrival.done()
    assert not rig.connection.check(rig.loop.now + 3)
    assert_failed(rig, exchange, FirstByteTimeoutError, "No answer within 8.0 s.")


async def test_body_stalls_since_its_last_piece_to_the_tick() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.loop.now += 3
    rig.connection.data_received(OPEN_HEAD)
    rig.loop.now += 3
    rig.connection.data_received(b"x")
    assert rig.connection.check(rig.loop.now + 3.99)
    assert not rig.connection.check(rig.loop.now + 4)
    assert_failed(rig, exchange, IdleTimeoutError, "The body stalled for 4.0 s.")


async def test_body_that_nobody_takes_does_not_stall_and_starts_anew_when_it_is_taken() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(OPEN_HEAD)
    exchange.pause()
    exchange.pause()
    assert rig.connection.check(rig.loop.now + 20)
    rig.loop.now += 10
    exchange.resume()
    exchange.resume()
    assert rig.transport.reading == [False, True]
    assert rig.connection.check(rig.loop.now + 3.99)
    assert not rig.connection.check(rig.loop.now + 4)
    assert_failed(rig, exchange, IdleTimeoutError, "The body stalled for 4.0 s.")


async def test_upload_that_moves_puts_the_answer_off_and_one_that_stands_does_not() -> None:
    rig = Rig()
    exchange = ask(rig, bytes(100_000))
    rig.connection.pause_writing()
    start = rig.loop.now
    for second, buffered in ((6, 90_000), (12, 50_000)):
        rig.transport.buffered = buffered
        assert rig.connection.check(start + second)
    assert rig.connection.check(start + 19.99)
    assert not rig.connection.check(start + 20)
    assert_failed(rig, exchange, FirstByteTimeoutError, "No answer within 8.0 s.")


async def test_answer_is_awaited_since_the_request_left() -> None:
    rig = Rig()
    exchange = ask(rig, bytes(100_000))
    rig.connection.pause_writing()
    rig.loop.now += 5
    rig.connection.resume_writing()
    assert rig.connection.check(rig.loop.now + 7.99)
    assert not rig.connection.check(rig.loop.now + 8)
    assert_failed(rig, exchange, FirstByteTimeoutError, "No answer within 8.0 s.")


async def test_connection_without_a_request_is_never_overdue() -> None:
    rig = Rig()
    assert rig.connection.check(rig.loop.now + 1e9) is False
    assert not rig.connection.closed


async def test_complete_answer_releases_the_connection() -> None:
    rig = Rig()
    for number in (1, 2):
        exchange = ask(rig)
        rig.connection.data_received(HEAD + b"ok")
        assert exchange.status == 200
        assert exchange.headers == [(b"content-length", b"2")]
        assert await exchange.read(2) == b"ok"
        assert rig.owner.released == [rig.connection] * number
        assert rig.connection.check(rig.loop.now + 1e9) is False
    assert rig.transport.aborts == 0


async def test_body_past_the_readers_limit_closes_the_connection_and_says_so() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    reading = asyncio.create_task(exchange.read(3))
    await asyncio.sleep(0)
    rig.connection.data_received(b"4\r\nabcd\r\n")
    with pytest.raises(ResponseTooLargeError, match=r"^The body is larger than 3 bytes\.$"):
        await reading
    assert rig.transport.aborts == 1


async def test_answer_in_single_bytes_is_the_same_answer() -> None:
    rig = Rig()
    exchange = ask(rig)
    for byte in HEAD + b"ok":
        rig.connection.data_received(bytes([byte]))
    assert await exchange.read(2) == b"ok"
    assert exchange.headers == [(b"content-length", b"2")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"ok" + HEAD + b"no",
        HEAD + b"okjunk",
    ],
)
async def test_connection_that_may_not_be_used_again_is_closed(answer: bytes) -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(answer)
    assert await exchange.read(2) == b"ok"
    assert rig.owner.released == []
    assert rig.transport.aborts == 1
    await asyncio.sleep(0)
    assert rig.owner.forgotten == [rig.connection]


async def test_answer_before_the_request_has_left_closes_the_connection() -> None:
    rig = Rig()
    exchange = ask(rig, bytes(100_000))
    rig.connection.pause_writing()
    rig.connection.data_received(HEAD + b"ok")
    assert await exchange.read(2) == b"ok"
    assert (rig.owner.released, rig.transport.aborts) == ([], 1)


async def test_head_answer_ends_with_its_head() -> None:
    rig = Rig()
    exchange = ask(rig, method=b"HEAD")
    rig.connection.data_received(HEAD)
    assert await exchange.read(10) == b""
    assert exchange.headers == [(b"content-length", b"2")]
    assert rig.owner.released == []


@pytest.mark.parametrize("status", [200, 599])
async def test_status_at_the_edge_of_http_is_an_answer(status: int) -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
    assert exchange.arrival.done()
    assert exchange.status == status


@pytest.mark.parametrize("status", [99, 101, 600])
async def test_status_outside_of_http_is_no_answer(status: int) -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 %03d X\r\ncontent-length: 0\r\n\r\n" % status)
    assert_failed(
        rig, exchange, MalformedResponseError, f"The peer answered with the status {status}."
    )


@pytest.mark.parametrize("status", [100, 102, 199])
async def test_any_number_of_interim_heads_may_come_first(status: int) -> None:
    rig = Rig()
    exchange = ask(rig)
    for _ in range(3):
        rig.connection.data_received(b"HTTP/1.1 %d X\r\nx-early: 1\r\n\r\n" % status)
        assert (exchange.status, exchange.arrival.done()) == (0, False)
    rig.connection.data_received(HEAD + b"ok")
    assert exchange.headers == [(b"content-length", b"2")]
    assert await exchange.read(2) == b"ok"


async def test_malformed_response_error_quotes_the_parser() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"SSH-2.0-OpenSSH_9.7\r\n")
    error = exchange.take_error()
    assert type(error) is MalformedResponseError
    assert str(error).startswith("The peer does not speak HTTP: ")
    assert not str(error).endswith(": None")


async def test_as_many_headers_as_allowed_pass_and_one_more_does_not() -> None:
    for count, passes in ((3, True), (4, False)):
        rig = Rig(HeadLimits(count_max=3))
        exchange = ask(rig)
        fields = b"".join(b"x-%d: 1\r\n" % number for number in range(count - 1))
        rig.connection.data_received(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + fields + b"\r\nok"
        )
        assert (exchange.status == 200) is passes
        if not passes:
            assert_failed(
                rig, exchange, ResponseHeadTooLargeError, "The response's head is too large."
            )


async def test_head_of_fields_as_long_as_allowed_passes_and_a_byte_more_does_not() -> None:
    body = b"b" * 200
    for padding, passes in ((20, True), (21, False)):
        fields = b"content-length: 200\r\nx: " + b"p" * padding + b"\r\n"
        assert len(fields) == 26 + padding
        rig = Rig(HeadLimits(bytes_max=46))
        exchange = ask(rig)
        rig.connection.data_received(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body)
        assert (exchange.status == 200) is passes
        if not passes:
            assert_failed(
                rig, exchange, ResponseHeadTooLargeError, "The response's head is too large."
            )


async def test_head_that_never_ends_is_left_past_its_bytes() -> None:
    rig = Rig(HeadLimits(bytes_max=64))
    exchange = ask(rig)
    line = b"HTTP/1.1 200 OK\r\nx: "
    rig.connection.data_received(line)
    rig.connection.data_received(b"y" * (64 - len(line)))
    assert exchange.error is None
    rig.connection.data_received(b"y")
    assert_failed(rig, exchange, ResponseHeadTooLargeError, "A head exceeds 64 bytes.")


async def test_long_body_is_no_long_head_but_endless_trailers_are() -> None:
    rig = Rig(HeadLimits(bytes_max=64))
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        rig.connection.data_received(b"a\r\n0123456789\r\n")
    rig.connection.data_received(b"1\r\nz\r\n0\r\nx: ")
    rig.connection.data_received(b"y" * 64)
    assert exchange.error is None
    rig.connection.data_received(b"y")
    assert_failed(rig, exchange, ResponseHeadTooLargeError, "A head exceeds 64 bytes.")


async def test_second_request_counts_its_head_from_nothing() -> None:
    rig = Rig(HeadLimits(bytes_max=64))
    for _ in range(8):
        exchange = ask(rig)
        rig.connection.data_received(HEAD)
        rig.connection.data_received(b"ok")
        assert await exchange.read(2) == b"ok"


@pytest.mark.parametrize(("after_seconds", "reused"), [(0.0, True), (0.99, True), (1.0, False)])
async def test_kept_connection_that_ends_at_once_may_not_have_carried_the_request(
    after_seconds: float, reused: bool
) -> None:
    rig = Rig()
    ask(rig)
    rig.connection.data_received(HEAD + b"ok")
    rig.loop.now += 7
    exchange = ask(rig)
    rig.loop.now += after_seconds
    assert rig.connection.eof_received() is False
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert (str(error), error.reused) == ("The peer closed: EOF.", reused)


@pytest.mark.parametrize(("turns", "sent"), [(0, False), (1, True)])
async def test_connection_that_ended_before_the_request_left_is_told_apart(
    turns: int, sent: bool
) -> None:
    rig = Rig()
    ask(rig)
    rig.connection.data_received(HEAD + b"ok")
    await asyncio.sleep(0)
    exchange = ask(rig)
    for _ in range(turns):
        await asyncio.sleep(0)
    rig.connection.eof_received()
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert (error.reused, error.sent) == (True, sent)
    await asyncio.sleep(0)
    assert len(rig.transport.written) == 1 + turns


async def test_connection_that_broke_before_its_first_answer_was_not_dead() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.connection_lost(ConnectionResetError("reset by peer"))
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert (str(error), error.reused) == ("The peer closed: reset by peer.", False)
    assert rig.owner.forgotten == [rig.connection]
    assert rig.transport.aborts == 0


async def test_buffered_request_of_a_lost_connection_is_dropped() -> None:
    rig = Rig()
    exchange = ask(rig, b"body")
    rig.connection.connection_lost(ConnectionResetError("reset by peer"))
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert not error.sent
    await asyncio.sleep(0)
    assert rig.transport.written == []


@pytest.mark.parametrize("answer", [b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"])
async def test_kept_connection_that_answered_anything_was_not_dead(answer: bytes) -> None:
    rig = Rig()
    ask(rig)
    rig.connection.data_received(HEAD + b"ok")
    exchange = ask(rig)
    rig.connection.data_received(answer)
    rig.connection.eof_received()
    error = exchange.take_error()
    assert isinstance(error, DisconnectedError)
    assert not error.reused


async def test_body_of_no_length_ends_with_the_peer_but_not_with_a_reset() -> None:
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nsome")
    rig.connection.eof_received()
    assert await exchange.read(4) == b"some"
    assert (rig.owner.released, rig.transport.aborts) == ([], 1)
    rig = Rig()
    exchange = ask(rig)
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nsome")
    rig.connection.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(DisconnectedError, match=r"^The peer closed: reset\.$"):
        await exchange.read(4)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 408 Late\r\n\r\n"])
async def test_unsolicited_bytes_close_an_idle_connection(data: bytes) -> None:
    rig = Rig()
    if data:
        rig.connection.data_received(data)
    else:
        rig.connection.eof_received()
    assert rig.connection.closed
    assert rig.transport.aborts == 1
    rig.connection.drop()
    rig.connection.pause()
    rig.connection.resume()
    assert (rig.transport.aborts, rig.transport.reading) == (1, [])


async def test_upload_waits_while_the_socket_is_full() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    rig = Rig()
    exchange = ask(rig, source(), content_length=6)
    rig.connection.pause_writing()
    for _ in range(5):
        await asyncio.sleep(0)
    assert rig.transport.written == [b"HEAD one"]
    rig.connection.resume_writing()
    for _ in range(5):
        await asyncio.sleep(0)
    assert rig.transport.written == [b"HEAD one", b"two"]
    rig.connection.data_received(HEAD + b"ok")
    assert await exchange.read(2) == b"ok"
    assert rig.owner.released == [rig.connection]


async def test_slow_source_of_a_body_puts_the_answer_off_until_it_is_sent() -> None:
    more = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()

    rig = Rig()
    exchange = ask(rig, source(), content_length=3)
    await asyncio.sleep(0)
    rig.loop.now += 20
    assert rig.connection.check(rig.loop.now)
    rig.loop.now += 2
    more.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert rig.connection.check(rig.loop.now + 7.99)
    assert not rig.connection.check(rig.loop.now + 8)
    assert_failed(rig, exchange, FirstByteTimeoutError, "No answer within 8.0 s.")


@pytest.mark.parametrize(("status", "stops"), [(299, False), (300, True), (413, True)])
async def test_refusal_stops_the_upload_and_an_acceptance_does_not(
    status: int, stops: bool
) -> None:
    closed = asyncio.Event()
    more = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await more.wait()
            yield b"two"
        finally:
            closed.set()

    rig = Rig()
    exchange = ask(rig, source())
    await asyncio.sleep(0)
    rig.connection.data_received(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n" % status)
    for _ in range(5):
        await asyncio.sleep(0)
    assert closed.is_set() is stops
    more.set()
    for _ in range(5):
        await asyncio.sleep(0)
    rig.connection.data_received(b"ok")
    assert await exchange.read(2) == b"ok"
    assert rig.owner.released == ([] if stops else [rig.connection])


async def test_failed_source_breaks_the_exchange_off_with_its_own_error() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("lost")

    rig = Rig()
    exchange = ask(rig, source())
    for _ in range(5):
        await asyncio.sleep(0)
    error = exchange.take_error()
    assert isinstance(error, LookupError)
    assert rig.transport.aborts == 1
