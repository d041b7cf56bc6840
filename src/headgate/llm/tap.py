"""Tap a stream of events: read usage from the bytes that pass, without rewriting them."""

from __future__ import annotations

from headgate.llm import asked_usage, sse
from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage

NAME_BYTES = 128
"""How much of the start of an event is searched for its name."""
NO_DATA = b"{}"
DRAINED_BYTES = 1 << 20
"""How much of the buffer of a too large event is passed on at once, to bound the copy."""


class StreamTap:
    """Fill a `ParsedUsage` from the chunks of a stream, and return the bytes that may be passed on.

    The bytes are passed on unchanged, with two exceptions: from the first byte of the event that
    finishes the answer everything is withheld until `release`, and `drop_usage` removes what is
    there only because the gateway asked for usage (`asked_usage`).

    An incomplete event is held until its blank line comes. No shorter rule is safe: in a chat chunk
    the key that makes it last (`error`) or droppable (`usage`) may be at its very end, and no
    client can act on part of an event. The exceptions are events that begin like one of
    `Meter.bulk_prefixes`, and those over `event_bytes_max`: their bytes pass as they come, and
    nothing is read from them but the name of the event.

    The result does not depend on how the bytes were cut into chunks: neither the bytes that leave,
    nor the parsed usage, nor `finished`. Raise EventTooLargeError if more than twice
    `event_bytes_max` is withheld.
    """

    has_events = True

    def __init__(
        self,
        meter: Meter,
        parsed: ParsedUsage,
        *,
        drop_usage: bool,
        event_bytes_max: int = sse.EVENT_BYTES_MAX,
    ) -> None:
        self.finished = False
        self.truncated = False
        self._meter = meter
        self._bulk_prefixes = meter.bulk_prefixes
        self._parsed = parsed
        self._drop_usage = drop_usage
        self._event_bytes_max = event_bytes_max
        self._between = True
        """Whether no part of an event is buffered, and the answer is not finished."""
        self._released = False
        self._in_bulk = False
        self._in_large = False
        """Part of an event over the limit has left, or may leave."""
        self._large_name = b""
        self._last = b""
        self._buffer = bytearray()
        self._sent = 0
        """How many bytes at the start of the buffer were passed on already (of a bulk event)."""
        self._searched = 0

    @property
    def held_bytes(self) -> int:
        return len(self._buffer)

    @property
    def in_event(self) -> bool:
        """Return whether part of an event has left, and its end has not."""
        return self._sent > 0 or self._in_large

    @property
    def withheld_bytes(self) -> int:
        """Count the bytes that wait for `release`."""
        return len(self._buffer) if self.finished else 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream, and return the bytes that may leave now."""
        if self._between:
            fields = sse.parse_plain(chunk)
            if fields is not None and len(chunk) <= self._event_bytes_max:
                # Almost every chunk is exactly one event: it needs no buffer.
                if self._bulk_prefixes and chunk.startswith(self._bulk_prefixes):
                    return chunk
                must_withhold = self._must_withhold(*fields)
                if self._drop_usage and asked_usage.USAGE_KEY in chunk:
                    chunk = asked_usage.cut_null(chunk)
                if not must_withhold:
                    return chunk
                if self.finished:
                    self._withhold(chunk)
                return b""
        elif self._released:
            return chunk
        self._buffer += chunk
        if self.finished:
            sse.check_size(len(self._buffer), 2 * self._event_bytes_max)
            return b""
        return self._advance(final=False)

    def preview(self) -> bytes:
        """Return what `release` will return, and keep it withheld."""
        return bytes(self._buffer)

    def release(self) -> bytes:
        """Return the bytes withheld since the answer finished. Later chunks pass through `feed`
        unread."""
        self._released = True
        withheld = bytes(self._buffer)
        self._buffer.clear()
        return withheld

    def close(self) -> bytes:
        """End the stream, and return the bytes that waited for the end of their event.

        A trailing event is read nevertheless. If it is the last of the answer, `finished` is set
        and its bytes wait for `release`; otherwise `truncated` tells that the stream broke off
        inside an event, of which nothing leaves: no client could act on it, and no error frame
        could follow it.
        """
        if self.finished:
            return b""
        ready = self._advance(final=True)
        rest = bytes(self._buffer)
        if self.finished or not rest:
            return ready
        self._buffer.clear()
        if not (self._in_bulk or self._in_large) and self._parse_and_check(rest):
            if self.finished:
                self._withhold(rest)
            return ready
        self.truncated = bool(rest.strip(b"\r\n"))
        if self.truncated and not (self._in_bulk or self._in_large):
            return ready
        return ready + rest[self._sent :]

    def _advance(self, *, final: bool) -> bytes:
        ends = sse.find_ends(self._buffer, self._searched, final=final)
        if not ends:
            return self._wait()
        whole = bytes(self._buffer)
        ready: list[bytes] = [b""]
        start = self._sent
        for end in ends:
            if self._in_bulk or whole.startswith(self._bulk_prefixes, start):
                self._in_bulk = False
                ready.append(whole[start:end])
            else:
                ready.append(self._filter_event(whole[start:end]))
            start = end
            if self.finished:
                self._withhold(self._last + whole[start:])
                return b"".join(ready)
        del self._buffer[:start]
        self._sent = 0
        ready.append(self._wait())
        return b"".join(ready)

    def _filter_event(self, event: bytes) -> bytes:
        """Return what may leave of an event whose end is here. Withheld bytes are in `_last` if
        the event finishes the answer; a dropped event is discarded."""
        if self._in_large or len(event) > self._event_bytes_max:
            return self._end_large(event)
        must_withhold = self._parse_and_check(event)
        if self._drop_usage and asked_usage.USAGE_KEY in event:
            event = asked_usage.cut_null(event)
        if not must_withhold:
            return event
        self._last = event
        return b""

    def _wait(self) -> bytes:
        """Keep the part of an event that the buffer holds, or pass it on if it is bulk or large."""
        buffer = self._buffer
        ready = b""
        self._between = not buffer
        self._in_bulk = self._in_bulk or (bool(buffer) and buffer.startswith(self._bulk_prefixes))
        if self._in_bulk:
            ready = bytes(buffer[self._sent :])
            del buffer[: sse.next_search_offset(buffer)]
            self._sent = len(buffer)
        elif self._in_large or len(buffer) > self._event_bytes_max:
            if not self._in_large:
                self._in_large = True
                self._large_name = sse.read_name(bytes(buffer[:NAME_BYTES]))
            count = min(max(0, len(buffer) - asked_usage.TAIL_BYTES), DRAINED_BYTES)
            ready = bytes(memoryview(buffer)[:count])
            del buffer[:count]
        self._searched = sse.next_search_offset(buffer)
        return ready

    def _end_large(self, event: bytes) -> bytes:
        """Return the end of an event over the limit. If its name says that it is the last of the
        answer, its last byte is withheld until `release`."""
        name = self._large_name if self._in_large else sse.read_name(event[:NAME_BYTES])
        self._in_large = False
        if self._drop_usage:
            event = asked_usage.cut_null_at_end(event)
        if name and self._meter.read_event(name, NO_DATA, self._parsed):
            self.finished = True
            self._last = event[-1:]
            return event[:-1]
        return event

    def _parse_and_check(self, raw: bytes) -> bool:
        """Parse an event, and return whether it must be withheld: it is the last one, or to be
        dropped."""
        event = sse.parse_event(raw)
        return bool(event.data) and self._must_withhold(event.name, event.data)

    def _must_withhold(self, name: bytes, data: bytes) -> bool:
        parsed = self._parsed
        usage_before = parsed.usage
        if self._meter.read_event(name, data, parsed):
            self.finished = True
            return True
        return (
            self._drop_usage
            and parsed.usage is not usage_before
            and self._meter.is_usage_only(data)
        )

    def _withhold(self, rest: bytes | bytearray) -> None:
        sse.check_size(len(rest), 2 * self._event_bytes_max)
        self._between = False
        self._buffer = bytearray(rest)
