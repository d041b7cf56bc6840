"""A simple splitter of event streams, with which the tap is compared."""

from __future__ import annotations

from headgate.llm import sse


class SseFramer:
    """Cut a stream into events whose raw bytes, joined with `pending`, are the input."""

    def __init__(self, *, event_bytes_max: int = sse.EVENT_BYTES_MAX) -> None:
        self.event_bytes_max = event_bytes_max
        self._buffer = bytearray()
        self._searched = 0

    @property
    def pending(self) -> bytes:
        """Return the bytes of an event that is not complete yet."""
        return bytes(self._buffer)

    def feed(self, chunk: bytes) -> list[sse.Event]:
        """Return the events that this chunk completes. Raises `EventTooLargeError`."""
        self._buffer += chunk
        return self._cut(final=False)

    def close(self) -> list[sse.Event]:
        """Return the event, if any, that only the end of the stream completes."""
        return self._cut(final=True)

    def _cut(self, *, final: bool) -> list[sse.Event]:
        events: list[sse.Event] = []
        start = 0
        for end in sse.find_ends(self._buffer, self._searched, final=final):
            sse.check_size(end - start, self.event_bytes_max)
            events.append(sse.parse_event(bytes(self._buffer[start:end])))
            start = end
        del self._buffer[:start]
        sse.check_size(len(self._buffer), self.event_bytes_max)
        self._searched = sse.next_search_offset(self._buffer)
        return events
