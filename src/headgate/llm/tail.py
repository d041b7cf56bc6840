"""Watches a body that has no events: files, sound, anything binary."""

from __future__ import annotations


class TailTap:
    """Withholds the last byte of a body until the call is settled. See `tap.StreamTap`."""

    has_events = False
    in_event = False
    held_bytes = 0

    def __init__(self) -> None:
        self.finished = False
        self._last = b""

    @property
    def withheld_bytes(self) -> int:
        """How many bytes wait for `release`."""
        return len(self._last)

    def feed(self, chunk: bytes) -> bytes:
        """The byte that waited, and all but the last of these."""
        ready = self._last + chunk[:-1]
        self._last = chunk[-1:]
        return ready

    def close(self) -> bytes:
        """The body is complete; its last byte waits."""
        self.finished = True
        return b""

    def release(self) -> bytes:
        """The last byte."""
        last, self._last = self._last, b""
        return last
