"""Watches a body that has no events: files, sound, anything binary."""

from __future__ import annotations


class TailTap:
    """Withholds the last piece of a body until the call is settled. See `tap.StreamTap`."""

    truncated = False

    def __init__(self) -> None:
        self.finished = False
        self._last = b""

    def feed(self, chunk: bytes) -> bytes:
        """The piece before this one."""
        ready, self._last = self._last, chunk
        return ready

    def close(self) -> bytes:
        """The body is complete; its last piece waits."""
        self.finished = True
        return b""

    def release(self) -> bytes:
        """The last piece."""
        last, self._last = self._last, b""
        return last
