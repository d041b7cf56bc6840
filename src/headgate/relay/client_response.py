"""Respond to the client: whole, or piece by piece, with the last bytes after the settlement."""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

from headgate.kit.clock import Clock
from headgate.kit.decoding import Decoder, DecodingError, UnknownEncodingError
from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http import errors as egress
from headgate.kit.http.exchange import UNHELD_BYTES
from headgate.llm.endpoint import Body, Pricing
from headgate.llm.provider_errors import classify, find_recorded_code
from headgate.llm.redaction import StreamRedactor, redact, redact_error, redact_text
from headgate.llm.request import JsonRequest
from headgate.llm.tail import TailTap
from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage
from headgate.relay.call import Caller
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.upstream import (
    ERROR_BODY_BYTES_MAX,
    InvalidProviderResponseError,
    UpstreamResponse,
    describe_egress_error,
)

UNEXPECTED_TYPES = frozenset((b"", b"text/html"))
"""Types that no whole answer to a decoded request has."""
BODILESS_STATUS = frozenset({204, 205, 304})
NOT_MODIFIED = 304
BAD_GATEWAY = 502
STREAM_RATIO_MAX = 20
"""The most that a compressed stream may expand: the output of one read is passed on at once."""
LINGER_SECONDS = 2.0
"""How long a stream may take to close after its terminal event."""


BLANK_LINE = b"\n\n"
"""Ends an event of which a part was sent already."""


class ResponseEncoder(Protocol):
    """Encode answers and errors in the wire format of one API."""

    trailer_names: bytes
    """The value of the `Trailer` header: the fields that `encode_trailers` may return."""

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        """Return the header lines for the client; `receipt` is None until the call is settled."""
        ...

    def encode_trailers(self, receipt: Receipt) -> bytes: ...

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes: ...

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """Return a whole answer as the client may see it. Raise a `HeadgateError` if it may
        not."""
        ...

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        """Return the frame for an error in a stream that has started; empty if the wire has
        none."""
        ...


class ClientResponse(Protocol):
    """Send one answer to the client, at the speed that the client reads."""

    has_started: bool
    """Whether anything was sent to the client, so that an error can only end the answer early."""

    async def transfer(self) -> None:
        """Transfer all but the last bytes. Raise the `HeadgateError` that ended the answer
        early."""
        ...

    async def complete(self, receipt: Receipt) -> None: ...

    def preview(self, receipt: Receipt) -> tuple[bytes, bytes]:
        """Return what `complete` will send: the head, empty where it was sent, and the rest of the
        body."""
        ...

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        """End the answer with the wire's error frame; `receipt` is that of a settled call."""
        ...

    def pause(self) -> None:
        """Stop reading from the provider: the client reads slowly."""
        ...

    def resume(self) -> None: ...


class ResponseFactory:
    def __init__(self, clock: Clock, *, body_bytes_max: int, event_bytes_max: int) -> None:
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._event_bytes_max = event_bytes_max

    def create(
        self, state: CallState, answer: UpstreamResponse, caller: Caller, encoder: ResponseEncoder
    ) -> ClientResponse:
        """Create the response for what the answer's head announces.

        Raise `InvalidProviderResponseError` for an answer that cannot be passed on.
        """
        if state.conversion is not None:
            caller, encoder = state.conversion.wrap(caller, encoder)
        if answer.request_id is not None:
            answer.request_id = redact_text(answer.request_id, find_secret(state))
        state.record_head(answer.status, answer.request_id, self._clock.monotonic())
        # 304 answers a conditional request and leads nowhere.
        if 300 <= answer.status < 400 and answer.status != NOT_MODIFIED:
            raise make_redirect_error(state, answer)
        tap = None if answer.body is not None else self._choose_tap(state, answer)
        # Trailers need a body without a length.
        answer.keeps_length = state.call.method == "HEAD" or (
            isinstance(tap, TailTap) and not caller.takes_trailers
        )
        if tap is None:
            return BufferedResponse(self, state, answer, caller, encoder)
        if answer.coding and tap.has_events:
            self._open_decoder(answer)
        return StreamedResponse(self, state, answer, caller, encoder, tap)

    def _open_decoder(self, answer: UpstreamResponse) -> None:
        try:
            answer.decoder = Decoder(
                answer.coding.decode("latin-1"),
                output_bytes_max=sys.maxsize,
                ratio_max=STREAM_RATIO_MAX,
            )
        except UnknownEncodingError as error:
            answer.response.abort()
            raise make_coding_error(str(error)) from error
        answer.drop_coding()

    def _choose_tap(self, state: CallState, answer: UpstreamResponse) -> StreamTap | TailTap | None:
        """Return what reads the usage from a streamed body; None for a body that is read whole."""
        kind = answer.content_type
        call, conversion = state.call, state.conversion
        endpoint = call.endpoint if conversion is None else conversion.endpoint
        if answer.status >= 400 or answer.status in BODILESS_STATUS or call.method == "HEAD":
            return None
        if endpoint.lists_models:
            return None
        if kind.startswith(b"text/event-stream") or (not kind and state.streams):
            return StreamTap(
                endpoint.meter,
                state.parsed_usage,
                drop_usage=state.requested_usage and conversion is None,
                event_bytes_max=self._body_bytes_max
                if endpoint.large_events
                else self._event_bytes_max,
            )
        # What is no stream of events can be converted only as a whole.
        if conversion is not None:
            return None
        if endpoint.downloads:
            return TailTap()
        if kind == b"application/json" or answer.claims_json:
            return None
        if endpoint.body is not Body.RAW and answer.media_type in UNEXPECTED_TYPES:
            return None
        return TailTap()

    async def read(self, state: CallState, answer: UpstreamResponse) -> bytes:
        """Read the whole body of an answer, decoded and without the provider's key.

        Raise `InvalidProviderResponseError` for an invalid one.
        """
        body = answer.body
        if body is None:
            try:
                body = await answer.response.read(self._body_bytes_max, state.reserve_answer)
            except egress.EgressError as error:
                raise describe_egress_error(error) from error
        state.answered_at = self._clock.monotonic()
        if answer.coding:
            bytes_max = self._body_bytes_max if answer.status < 400 else ERROR_BODY_BYTES_MAX
            body = answer.decode(body, bytes_max)
            # The decoded body is held beside the compressed one, so it is counted as well.
            if len(body) > UNHELD_BYTES:
                state.reserve_answer(len(body))
            if answer.coding_error and answer.status < 400:
                raise make_coding_error(answer.coding_error)
        secret = find_secret(state)
        return redact(body, secret) if answer.status < 400 else redact_error(body, secret)

    def mark_answered(self, state: CallState) -> None:
        state.answered_at = self._clock.monotonic()


class BufferedResponse:
    """Read an answer whole, and send it at once when it is settled."""

    has_started = False

    def __init__(
        self,
        responses: ResponseFactory,
        state: CallState,
        answer: UpstreamResponse,
        caller: Caller,
        encoder: ResponseEncoder,
    ) -> None:
        self._factory = responses
        self._state = state
        self._answer = answer
        self._caller = caller
        self._encoder = encoder
        self._body = b""

    async def transfer(self) -> None:
        state, answer = self._state, self._answer
        body = await self._factory.read(state, answer)
        if answer.status >= 400:
            self._fail(body)
            return
        endpoint = state.call.endpoint if state.conversion is None else state.conversion.endpoint
        if body or endpoint.body is Body.JSON:
            readable = endpoint.meter.read_body(body, state.parsed_usage)
            if not readable and (endpoint.body is Body.JSON or answer.claims_json):
                raise InvalidProviderResponseError(
                    "The provider answered with something that is not JSON.", should_retry=False
                )
        if is_only_error(state.parsed_usage):
            answer.status = state.status = BAD_GATEWAY
            answer.final = True
            self._fail(body)
            return
        self._body = self._encoder.encode_body(state, body)
        has_failed = state.parsed_usage.error_code is not None
        # Reading a stored response again succeeds, even if that response had failed.
        if has_failed and endpoint.pricing is Pricing.FREE:
            has_failed, state.parsed_usage.error_code = False, None
        state.outcome = "upstream_error" if has_failed else "completed"
        state.response_bytes = len(self._body)

    def _fail(self, body: bytes) -> None:
        state, answer = self._state, self._answer
        state.outcome = "upstream_error"
        state.error_code = find_recorded_code(answer.status, body)
        if state.routed_target is not None:
            state.error_message = classify(answer.status, body).message
        self._body = self._encoder.encode_error(state, answer, body)
        state.response_bytes = len(self._body)

    async def complete(self, receipt: Receipt) -> None:
        head = self._encoder.encode_head(self._state, self._answer, receipt)
        self._caller.answer(self._answer.status, redact(head, find_secret(self._state)), self._body)

    def preview(self, receipt: Receipt) -> tuple[bytes, bytes]:
        head = self._encoder.encode_head(self._state, self._answer, receipt)
        return redact(head, find_secret(self._state)), self._body

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        """Raise the error: nothing was sent, so the edge can still answer with it."""
        raise error

    def pause(self) -> None:
        """Do nothing: a whole answer is written once."""

    def resume(self) -> None:
        """Do nothing: a whole answer is written once."""


class StreamedResponse:
    """Pass an answer on as it arrives: the sink of the provider's body."""

    has_started = True

    def __init__(
        self,
        responses: ResponseFactory,
        state: CallState,
        answer: UpstreamResponse,
        caller: Caller,
        encoder: ResponseEncoder,
        tap: StreamTap | TailTap,
    ) -> None:
        self._factory = responses
        self._state = state
        self._answer = answer
        self._caller = caller
        self._encoder = encoder
        self._tap = tap
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self._settled = False
        self._failure: HeadgateError | None = None
        self._held_bytes = UNHELD_BYTES
        """Memory that is counted for events which wait for their end."""
        state.streamed = True
        secret = find_secret(state)
        self._decoder = answer.decoder
        self._redactor = StreamRedactor(secret)
        head = redact(encoder.encode_head(state, answer, None), secret)
        caller.start(answer.status, head, encoder.trailer_names)

    async def transfer(self) -> None:
        """Pass the stream on until its terminal event, its end, or a failure."""
        state, tap = self._state, self._tap
        try:
            self._answer.response.stream(self)
            await self._woken
        except asyncio.CancelledError:
            self._answer.response.abort()
            state.response_bytes = self._caller.sent_bytes
            raise
        state.response_bytes = self._caller.sent_bytes + tap.withheld_bytes
        self._factory.mark_answered(state)
        if self._failure is not None:
            raise self._take_failure()
        if not (tap.finished or state.was_cut or self._is_complete()):
            raise InvalidProviderResponseError(
                "The provider's stream ended before its answer was complete."
            )
        state.outcome = "completed" if state.parsed_usage.error_code is None else "upstream_error"

    def _is_complete(self) -> bool:
        """Return whether a body that ended without a terminal event was a whole answer."""
        state, tap = self._state, self._tap
        endpoint = state.call.endpoint if state.conversion is None else state.conversion.endpoint
        meter = endpoint.meter
        if meter.has_last_event and isinstance(tap, StreamTap) and tap.truncated:
            return False
        choices = state.body.choices if isinstance(state.body, JsonRequest) else 1
        return meter.is_complete(state.parsed_usage, choices)

    def preview(self, receipt: Receipt) -> tuple[bytes, bytes]:
        rest, conversion = self._tap.preview(), self._state.conversion
        return b"", rest if conversion is None else conversion.preview(rest)

    async def complete(self, receipt: Receipt) -> None:
        """Send the withheld bytes, and what may still follow them."""
        self._settled = True
        self._write(self._tap.release())
        if not self._ended and not self._state.was_cut:
            # What follows the terminal event is read only so that the connection can be reused.
            self._answer.response.resume()
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._woken, LINGER_SECONDS)
            except TimeoutError:
                self._answer.response.abort()
        caller = self._caller
        if caller.takes_trailers:
            caller.finish(trailers=self._encoder.encode_trailers(receipt))
        else:
            caller.finish()

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        """End with the wire's error frame; a body without frames ends short, so that the client
        notices."""
        frame = (
            self._encoder.encode_error_frame(self._state, error) if self._tap.has_events else b""
        )
        if frame:
            self._write(BLANK_LINE + frame if self._tap.in_event else frame)
        caller = self._caller
        trailers = b""
        if receipt is not None and caller.takes_trailers:
            trailers = self._encoder.encode_trailers(receipt)
        caller.finish(complete=bool(frame), trailers=trailers)

    def pause(self) -> None:
        self._answer.response.pause()

    def resume(self) -> None:
        self._answer.response.resume()

    def on_data(self, data: bytes) -> None:
        """Mask the provider's key in a piece of the body, and pass it on."""
        redactor = self._redactor
        if self._decoder is not None:
            self._decode(self._decoder, data)
        elif redactor.needle in data or data[-1:] > b" ":
            self._forward(redactor.feed(data))
        else:
            self._forward(data)

    def _decode(self, decoder: Decoder, data: bytes) -> None:
        """Decode piece by piece, so that a large output is never held at once."""
        try:
            for piece in decoder.feed(data):
                self._forward(self._redactor.feed(piece))
                if self._failure is not None:
                    return
        except DecodingError as error:
            self._give_up(make_coding_error(str(error)))

    def _take_failure(self) -> HeadgateError:
        """Return the error once, so that its traceback and this object make no cycle."""
        failure, self._failure = self._failure, None
        assert failure is not None
        return drop_trace(failure)

    def _give_up(self, error: HeadgateError) -> None:
        self._answer.response.abort()
        self._failure = drop_trace(error)
        self._wake()

    def _forward(self, data: bytes) -> None:
        try:
            ready = self._tap.feed(data)
        except HeadgateError as error:
            self._give_up(error)
            return
        state = self._state
        if state.on_answer_id is not None and state.parsed_usage.answer_id is not None:
            on_answer_id, state.on_answer_id = state.on_answer_id, None
            on_answer_id()
        if self._settled:
            ready += self._tap.release()
        if ready:
            self._write(ready)
            if self._caller.has_enough:
                self._stop_early()
        elif self._tap.held_bytes > self._held_bytes:
            self._hold_event()
        if self._tap.finished:
            self._wake()

    def _stop_early(self) -> None:
        """Read no further: the caller has what it asked for, and the rest would be paid for.

        A call that somebody set money aside for is read to its end, since only that says what it
        used: reasoning, files and pictures are in no byte that passed.
        """
        if self._state.hold is not None:
            return
        self._state.was_cut = True
        self._answer.response.abort()
        self._wake()

    def _hold_event(self) -> None:
        """Count the memory of a large event that waits for its end."""
        size = max(UNHELD_BYTES, self._tap.held_bytes)
        try:
            self._state.reserve_answer(size)
        except HeadgateError as error:
            self._give_up(error)
        self._held_bytes += size

    def on_end(self) -> None:
        """Pass on what is left of the body, and wake the call."""
        self._ended = True
        if rest := self._redactor.close():
            self._forward(rest)
        if self._decoder is not None and not self._tap.finished:
            try:
                self._decoder.finish()
            except DecodingError as error:
                self._give_up(make_coding_error(str(error)))
        if not self._settled and self._failure is None:
            self._write(self._tap.close())
        self._wake()

    def on_failure(self, error: Exception) -> None:
        self._ended = True
        if not self._tap.finished:
            failure = error if isinstance(error, HeadgateError) else describe_egress_error(error)
            self._failure = drop_trace(failure)
        self._wake()

    def _write(self, data: bytes) -> None:
        if data and not self._caller.gone:
            self._caller.write(data)

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


def find_secret(state: CallState) -> bytes:
    """Return the provider's key, which must not appear in anything that the client gets."""
    assert state.credential is not None, "an answer came from somewhere"
    return state.credential.secret


def make_redirect_error(state: CallState, answer: UpstreamResponse) -> InvalidProviderResponseError:
    """Return the error for a redirect, which is not followed: the key is bound to its origin."""
    answer.response.abort()
    state.was_sent = False
    return InvalidProviderResponseError(
        f"The provider answered {answer.status}, a redirect, which is not followed. "
        "Check the base URL of the credential.",
        should_retry=False,
    )


def is_only_error(parsed: ParsedUsage) -> bool:
    """Return whether an answer with status 200 contains nothing but an error."""
    return parsed.error_code is not None and parsed.usage is None and parsed.answer_id is None


def make_coding_error(reason: str) -> InvalidProviderResponseError:
    """Return the error for a compressed answer that cannot be decoded."""
    return InvalidProviderResponseError(
        f"The provider's answer cannot be decoded. {reason}", should_retry=False
    )
