"""What is written during one turn of the loop leaves in one send, and nothing is lost by an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from headgate.kit.http.coalescing import JOINED_BYTES_MAX, CoalescingTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Socket(asyncio.Transport):
    """Notes each send, and what ended it. What it was given stays in its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.sends: list[bytes] = []
        self.end = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        self.sends.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._check_open()
        self.sends.append(b"".join(list_of_data))

    def _check_open(self) -> None:
        """As uvloop's, once `connection_lost` was called."""
        if self.end == "lost":
            raise RuntimeError("the handler is closed")

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.sends))

    def write_eof(self) -> None:
        self.end = "eof"

    def close(self) -> None:
        self.end = "close"

    def abort(self) -> None:
        self.end = "abort"


def open_transport() -> tuple[Socket, CoalescingTransport]:
    socket = Socket()
    return socket, CoalescingTransport(socket, asyncio.get_running_loop())


async def test_writes_of_one_turn_are_one_send_in_their_order() -> None:
    socket, transport = open_transport()
    for piece in (b"a", b"b", b"c"):
        transport.write(piece)
    assert socket.sends == []
    await asyncio.sleep(0)
    assert socket.sends == [b"abc"]
    transport.write(b"d")
    await asyncio.sleep(0)
    assert socket.sends == [b"abc", b"d"]


async def test_buffered_bytes_count_as_unsent() -> None:
    socket, transport = open_transport()
    transport.write(b"abc")
    assert (transport.waiting_bytes, transport.get_write_buffer_size()) == (3, 3)
    await asyncio.sleep(0)
    transport.write(b"de")
    assert (transport.waiting_bytes, transport.get_write_buffer_size()) == (2, 5)
    assert socket.sends == [b"abc"]


async def test_large_buffer_is_sent_before_the_turn_ends() -> None:
    socket, transport = open_transport()
    big = bytes(JOINED_BYTES_MAX)
    transport.write(big)
    assert socket.sends == []
    transport.write(b"a")
    assert socket.sends == [big]
    transport.write(b"b")
    await asyncio.sleep(0)
    assert socket.sends == [big, b"ab"]


async def test_large_pieces_are_sent_at_once_after_the_buffer() -> None:
    socket, transport = open_transport()
    transport.write(b"a")
    transport.writelines([b"b", b"c"])
    assert socket.sends == [b"abc"]
    transport.writelines([b"d", b"e"])
    await asyncio.sleep(0)
    assert socket.sends == [b"abc", b"de"]


@pytest.mark.parametrize("end", ["close", "eof"])
async def test_end_sends_the_buffer_first(end: str) -> None:
    socket, transport = open_transport()
    transport.write(b"last")
    (transport.close if end == "close" else transport.write_eof)()
    assert (socket.sends, socket.end) == ([b"last"], end)
    await asyncio.sleep(0)
    assert socket.sends == [b"last"]


async def test_abort_sends_nothing_more() -> None:
    socket, transport = open_transport()
    transport.write(b"last")
    transport.abort()
    await asyncio.sleep(0)
    assert (socket.sends, socket.end) == ([], "abort")


async def test_write_during_a_send_follows_it() -> None:
    """A transport that is full tells its protocol in the middle of a write."""
    socket, transport = open_transport()

    class Echoing(Socket):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            if data == b"a":
                transport.write(b"b")

    socket = Echoing()
    transport = CoalescingTransport(socket, asyncio.get_running_loop())
    transport.write(b"a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert socket.sends == [b"a", b"b"]


async def test_lost_connection_ignores_writes() -> None:
    """The turn that wrote may end after the loop has told of the loss."""
    socket, transport = open_transport()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    transport.write(b"before")
    socket.end = "lost"
    transport.lose()
    await asyncio.sleep(0)
    transport.write(b"after")
    await asyncio.sleep(0)
    transport.writelines([b"after", b"that"])
    for finish in (transport.flush, transport.write_eof, transport.close, transport.abort):
        transport.write(b"after")
        finish()
    await asyncio.sleep(0)
    assert (socket.sends, socket.end, faults) == ([], "lost", [])
    assert transport.get_write_buffer_size() == 0
