"""Join the writes of one turn of the event loop into one send per connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

JOINED_BYTES_MAX = 16 * 1024
"""Above this the buffer is sent at once: joining copies, and the transport must be able to signal
backpressure (`pause_writing`)."""


class LostTransport(asyncio.Transport):
    """Stand in for the transport of a lost connection: whatever is written is dropped."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write_eof(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


LOST = LostTransport()


class CoalescingTransport:
    """Wrap a transport and join the writes of one turn of the loop. Whatever ends the connection
    sends first what is buffered."""

    __slots__ = (
        "_call_soon",
        "_inner",
        "_waiting",
        "can_write_eof",
        "get_extra_info",
        "get_protocol",
        "is_closing",
        "is_reading",
        "pause_reading",
        "resume_reading",
        "set_protocol",
        "set_write_buffer_limits",
    )

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._call_soon: Callable[[Callable[[], None]], Any] = loop.call_soon
        self._waiting = b""
        # Bound once: a method of this class would be one more call each time.
        self.can_write_eof = inner.can_write_eof
        self.get_extra_info = inner.get_extra_info
        self.get_protocol = inner.get_protocol
        self.is_closing = inner.is_closing
        self.is_reading = inner.is_reading
        self.pause_reading = inner.pause_reading
        self.resume_reading = inner.resume_reading
        self.set_protocol = inner.set_protocol
        self.set_write_buffer_limits = inner.set_write_buffer_limits

    def write(self, data: bytes) -> None:
        """Buffer `data` until the end of this turn of the loop."""
        waiting = self._waiting
        if not waiting:
            self._waiting = data
            self._call_soon(self.flush)
        elif len(waiting) < JOINED_BYTES_MAX:
            self._waiting = waiting + data
        else:
            self._waiting = data
            self._inner.write(waiting)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        """Send now, without copying, together with what is buffered."""
        waiting, self._waiting = self._waiting, b""
        self._inner.writelines((waiting, *pieces) if waiting else pieces)

    def flush(self) -> None:
        waiting = self._waiting
        if waiting:
            self._waiting = b""
            self._inner.write(waiting)

    @property
    def waiting_bytes(self) -> int:
        """Return the bytes buffered in this turn: nobody can have read any of them."""
        return len(self._waiting)

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the system has not taken yet, buffered ones included."""
        return len(self._waiting) + self._inner.get_write_buffer_size()

    def write_eof(self) -> None:
        """Send what is buffered, then shut our side down."""
        self.flush()
        self._inner.write_eof()

    def close(self) -> None:
        """Close once everything is sent, also what is buffered."""
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        """Close now; what is buffered is never sent."""
        self._waiting = b""
        self._inner.abort()

    def lose(self) -> None:
        """Drop what is buffered and all later writes: the connection is lost.

        A closed transport of uvloop treats a write as an error, and the end of a turn may come
        after the loss of the connection that the turn wrote to.
        """
        self._waiting = b""
        self._inner = LOST
