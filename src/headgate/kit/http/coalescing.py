"""Writes of one turn of the event loop leave together at its end, in one send per connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

JOINED_BYTES_MAX = 16 * 1024
"""Once so much waits, the next write sends it: pieces are joined by copying, and the transport must
be able to say that it is too much (`pause_writing`)."""


class LostTransport(asyncio.Transport):
    """What is behind a connection that is lost: everything that is still written goes nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop it."""

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Drop them."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def write_eof(self) -> None:
        """Nothing to shut."""

    def close(self) -> None:
        """Closed already."""

    def abort(self) -> None:
        """Closed already."""


LOST = LostTransport()


class CoalescingTransport:
    """A transport in front of another one. Whatever ends the connection sends first what waits."""

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
        """Send at the end of this turn, in one piece with all that the turn writes."""
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
        """Send now, without copying, in one piece with what waits."""
        waiting, self._waiting = self._waiting, b""
        self._inner.writelines((waiting, *pieces) if waiting else pieces)

    def flush(self) -> None:
        """Send now what waits."""
        waiting = self._waiting
        if waiting:
            self._waiting = b""
            self._inner.write(waiting)

    @property
    def waiting_bytes(self) -> int:
        """What waits for the end of this turn: nobody can have read a byte of it."""
        return len(self._waiting)

    def get_write_buffer_size(self) -> int:
        """How many bytes the system has not taken yet, those that wait included."""
        return len(self._waiting) + self._inner.get_write_buffer_size()

    def write_eof(self) -> None:
        """Shut our side down, after what waits."""
        self.flush()
        self._inner.write_eof()

    def close(self) -> None:
        """Close once everything is sent, also what waits."""
        self.flush()
        self._inner.close()

    def abort(self) -> None:
        """Close now; what waits is never sent."""
        self._waiting = b""
        self._inner.abort()

    def lose(self) -> None:
        """Forget what waits, and all that will still be written: the connection is lost.

        A closed transport of uvloop takes a write for an error; the end of a turn may come after
        the loss of the connection that the turn wrote to.
        """
        self._waiting = b""
        self._inner = LOST
