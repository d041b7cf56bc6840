"""Tap a body that has no events: files, sound, anything binary."""

from __future__ import annotations


class TailTap:
    """Withhold the last byte of a body until the call is settled; the interface of `StreamTap`."""

    has_events = False
    in_event = False
    held_bytes = 0

    def __init__(self) -> None:
        self.finished = False
        self._last = b""

    @property
    def withheld_bytes(self) -> int:
        return len(self._last)

    def feed(self, chunk: bytes) -> bytes:
        """Return the withheld byte and all but the last byte of the chunk."""
        ready = self._last + chunk[:-1]
        self._last = chunk[-1:]
        return ready

    def close(self) -> bytes:
        """Mark the body as complete; its last byte stays until `release`."""
        self.finished = True
        return b""

    def preview(self) -> bytes:
        """Return what `release` will return, and keep it withheld."""
        return self._last

    def release(self) -> bytes:
        last, self._last = self._last, b""
        return last
