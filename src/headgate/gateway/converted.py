"""Stand between a provider and the client of a call whose API the provider does not speak."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

import msgspec

from headgate.gateway.losses import render_losses
from headgate.kit.errors import HeadgateError
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm import sse
from headgate.llm.answers import DONE
from headgate.llm.convert.fields import UnreadableResponseError, decode_answer
from headgate.llm.convert.losses import Losses
from headgate.relay.call import Caller
from headgate.relay.call_state import CallState
from headgate.relay.caller_wrapper import CallerWrapper
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.ports import Receipt
from headgate.relay.upstream import InvalidProviderResponseError, UpstreamResponse

EVENT_BYTES_MAX = 64 << 20
"""The largest event that is converted: as large as a whole answer may be by default."""
PING_SECONDS = 10.0
"""A client hears something at least this often."""
Event = dict[str, Any]


class Timer(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


class StreamConverter(Protocol):
    """Convert one stream of events; pure, without a clock."""

    @property
    def ended(self) -> bool:
        """Return whether nothing follows: the answer is whole, or an error ended it."""
        ...

    @property
    def stopped(self) -> bool:
        """Return whether the rest of the provider's stream is not wanted."""
        ...

    def feed(self, event: Mapping[str, Any], size: int = 0) -> Iterable[Event]:
        """Return what follows from the provider's next event, of so many bytes."""
        ...

    def fail(self, error: Event) -> Iterable[Event]:
        """Return the end of a stream that failed, once: with an error by `StreamFormat`."""
        ...

    def close(self) -> Iterable[Event]:
        """Return the end of a stream whose provider sends no more, if that is an end."""
        ...


class StreamFormat(msgspec.Struct, frozen=True):
    """Hold how the client's API writes its streams.

    `make_error` takes an HTTP status and a message. `ping` is sent while nothing else is; empty for
    an API without pings.
    """

    encode: Callable[[Event], bytes]
    make_error: Callable[[int, str], Event]
    ping: bytes = b""


class ConvertedCaller(CallerWrapper):
    """Stand before the client of a converted call: the provider's stream goes in, a stream of the
    client's API comes out (`relay.call.Caller`).

    The end of an answer comes with the provider's last event, or with `finish`: both come after the
    settlement (law 1). `has_enough` asks the pipeline to read no further. Conversions can be
    chained, each of them the caller of the one before. `feed_piece` returns the frame of an event
    that only adds to what is open, None for any other: most events are such pieces.
    """

    def __init__(
        self,
        caller: Caller,
        stream: StreamConverter,
        stream_format: StreamFormat,
        call_later: CallLater | None = None,
        feed_piece: Callable[[bytes], bytes | None] | None = None,
        *,
        event_bytes_max: int = EVENT_BYTES_MAX,
    ) -> None:
        super().__init__(caller)
        self._feed_piece = feed_piece
        self._is_silent = False
        """Whether nothing was sent since the timer was set."""
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self._stream = stream
        self._format = stream_format
        self._buffer = bytearray()
        self._event_bytes_max = event_bytes_max
        self._held_bytes = UNHELD_BYTES
        """Memory that is counted for an event which waits for its end."""
        self._searched = 0
        self._timer: Timer | None = None
        self._prepared: bytes | None = None
        """The end of the stream where `preview` has converted it."""

    @property
    def has_enough(self) -> bool:
        return self._stream.stopped or self._caller.has_enough

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        super().start(status, head, trailer_names)
        self._set_timer()

    def write(self, data: bytes) -> None:
        """Convert a piece of the provider's stream, and send what follows from it."""
        if self._feed_piece is not None and not self._buffer and self._prepared is None:
            event = sse.parse_plain(data)
            frame = None if event is None else self._feed_piece(event[1])
            if frame is not None:
                self._is_silent = False
                self._caller.write(frame)
                return
        self._send(self._convert(data) if self._prepared is None else self._take_prepared())

    def preview(self, data: bytes) -> bytes:
        """Return what the last piece of the provider's stream becomes. The next `write` or `finish`
        sends it."""
        self._prepared = self._convert(data) + self._end()
        return self._prepared

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        """End the stream: with the end of an answer that was cut, or with an error if there is
        none."""
        self._send(self._end() if self._prepared is None else self._take_prepared())
        if self._timer is not None:
            self._timer.cancel()
        self._caller.finish(trailers=trailers)

    def _take_prepared(self) -> bytes:
        prepared, self._prepared = self._prepared or b"", b""
        return prepared

    def _end(self) -> bytes:
        """Convert what is left, and return the end of the stream."""
        rest = b""
        if self._buffer:
            whole, self._buffer = bytes(self._buffer), bytearray()
            rest = self._convert_events(whole, [len(whole)])
        rest += self._encode(self._stream.close())
        if not self._stream.ended and not self._caller.has_enough:
            rest += self._fail("The provider's stream ended before its answer was complete.")
        return rest

    def _convert(self, data: bytes) -> bytes:
        if self._stream.ended:
            return b""
        self._buffer += data
        ends = sse.find_ends(self._buffer, self._searched)
        converted = b""
        if ends:
            whole = bytes(self._buffer[: ends[-1]])
            del self._buffer[: ends[-1]]
            converted = self._convert_events(whole, ends)
        self._searched = sse.next_search_offset(self._buffer)
        if len(self._buffer) > self._held_bytes:
            converted += self._hold_event()
        return converted

    def _hold_event(self) -> bytes:
        """Count the memory of a large event, and end the stream where there is none for it."""
        size = max(UNHELD_BYTES, len(self._buffer))
        try:
            sse.check_size(len(self._buffer), self._event_bytes_max)
            self._caller.reserve_memory(size)
        except HeadgateError as error:
            self._buffer.clear()
            return self._fail(error.message)
        self._held_bytes += size
        return b""

    def _convert_events(self, whole: bytes, ends: list[int]) -> bytes:
        frames: list[bytes] = []
        start = 0
        for end in ends:
            data = sse.parse_event(whole[start:end]).data
            start = end
            if data:
                piece = None if self._feed_piece is None else self._feed_piece(data)
                frames.append(self._feed(data) if piece is None else piece)
        return b"".join(frames)

    def _feed(self, data: bytes) -> bytes:
        if data.strip() == DONE:
            return self._encode(self._stream.close())
        try:
            event = decode_answer(data)
        except UnreadableResponseError:
            event = None
        if not isinstance(event, dict):
            return self._fail("The provider sent an event that is no JSON object.")
        return self._encode(self._stream.feed(cast("Mapping[str, Any]", event), len(data)))

    def _fail(self, message: str) -> bytes:
        return self._encode(self._stream.fail(self._format.make_error(502, message)))

    def _encode(self, events: Iterable[Event]) -> bytes:
        return b"".join([self._format.encode(event) for event in events])

    def _send(self, frames: bytes) -> None:
        if frames:
            self._is_silent = False
            self._caller.write(frames)

    def _set_timer(self) -> None:
        """Look twice within `PING_SECONDS` whether the client has to be pinged: cheaper than a
        timer that every event sets again."""
        if self._format.ping:
            self._is_silent = True
            self._timer = self._call_later(PING_SECONDS / 2, self._ping)

    def _ping(self) -> None:
        if self._caller.gone or self._stream.ended:
            return
        if self._is_silent:
            self._caller.write(self._format.ping)
        self._set_timer()


class ConvertedEncoder:
    """Encode the answer to one converted call, as far as it comes whole (`ResponseEncoder`).

    `convert_reply` takes a decoded answer of the provider, and raises `UnreadableResponseError` for
    anything else. Errors have one shape on both sides.
    """

    def __init__(
        self, encoder: ResponseEncoder, losses: Losses, convert_reply: Callable[[Any], Event]
    ) -> None:
        self.trailer_names = encoder.trailer_names
        self._encoder = encoder
        self._losses = losses
        self._convert_reply = convert_reply

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        return self._encoder.encode_head(state, answer, receipt) + render_losses(self._losses)

    def encode_trailers(self, receipt: Receipt) -> bytes:
        return self._encoder.encode_trailers(receipt)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        return self._encoder.encode_error(state, answer, body)

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """Return a whole answer as the client's API has it."""
        return self._encoder.encode_body(state, msgspec.json.encode(self.convert(body)))

    def convert(self, body: bytes) -> Event:
        """Convert a whole answer. Raise `InvalidProviderResponseError`."""
        try:
            return self._convert_reply(decode_answer(body))
        except UnreadableResponseError as error:
            raise InvalidProviderResponseError(str(error), should_retry=False) from None

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        """Return the error as the provider would send it: `ConvertedCaller` converts it."""
        return self._encoder.encode_error_frame(state, error)
