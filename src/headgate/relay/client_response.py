"""Brings an answer to the caller: whole, or piece by piece; its last bytes after the settlement."""

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
from headgate.llm.provider_errors import find_recorded_code
from headgate.llm.redaction import StreamRedactor, redact, redact_error, redact_text
from headgate.llm.request import JsonRequest
from headgate.llm.tail import TailTap
from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage
from headgate.relay.call import Caller
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.upstream import (
    FAULT_BODY_BYTES_MAX,
    InvalidProviderResponseError,
    UpstreamResponse,
    describe_egress_error,
)

UNEXPECTED_TYPES = frozenset((b"", b"text/html"))
"""Where an answer is made from a request that was read, no whole answer is of these types."""
BODILESS_STATUS = frozenset({204, 205, 304})
NOT_MODIFIED = 304
BAD_GATEWAY = 502
STREAM_RATIO_MAX = 20
"""A compressed stream may grow by this: what one read brings is passed on at once."""
LINGER_SECONDS = 2.0
"""How long a stream whose terminal event came may still take to close."""


BLANK_LINE = b"\n\n"
"""Ends an event of which a part has left already."""


class ResponseEncoder(Protocol):
    """Encode answers and errors in the wire format of one API."""

    trailer_names: bytes
    """Which fields `trailers` may have, as a header lists them."""

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        """The header lines for the caller; `receipt` is None while the call is not settled yet."""
        ...

    def encode_trailers(self, receipt: Receipt) -> bytes:
        """The header lines that follow the body of a stream."""
        ...

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        """A provider's error as the caller may see it."""
        ...

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """A whole answer as the caller may see it; raises a `HeadgateError` if it may not."""
        ...

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        """The wire's own frame for an error in a stream that has begun; empty if it has none."""
        ...


class ClientResponse(Protocol):
    """An answer on its way. It is also the caller's `FlowControl`."""

    has_started: bool
    """Whether anything has reached the caller, so that an error can only break the answer off."""

    async def transfer(self) -> None:
        """Everything but the last bytes; raises the `HeadgateError` that ended it early."""
        ...

    async def complete(self, receipt: Receipt) -> None:
        """The call is settled: the last bytes."""
        ...

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        """The answer ends here, with the wire's own error frame; `receipt` if it is settled."""
        ...

    def pause(self) -> None:
        """The caller reads slowly."""
        ...

    def resume(self) -> None:
        """The caller has caught up."""
        ...


class ResponseFactory:
    """Opens the right delivery for an answer."""

    def __init__(self, clock: Clock, *, body_bytes_max: int, event_bytes_max: int) -> None:
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._event_bytes_max = event_bytes_max

    def create(
        self, state: CallState, answer: UpstreamResponse, caller: Caller, encoder: ResponseEncoder
    ) -> ClientResponse:
        """A delivery for what the answer's head announces; ProviderBroken for what cannot be
        passed on."""
        if answer.request_id is not None:
            answer.request_id = redact_text(answer.request_id, find_secret(state))
        state.record_head(answer.status, answer.request_id, self._clock.monotonic())
        if 300 <= answer.status < 400 and answer.status != NOT_MODIFIED:
            raise refuse_redirect(state, answer)
        tap = None if answer.body is not None else self._choose_tap(state, answer)
        answer.keeps_length = state.call.method == "HEAD" or isinstance(tap, TailTap)
        if tap is None:
            return BufferedResponse(self, state, answer, caller, encoder)
        if answer.coding and tap.has_events:
            self._open_decoder(answer)
        return StreamedResponse(self, state, answer, caller, encoder, tap)

    def _open_decoder(self, answer: UpstreamResponse) -> None:
        """Prepare to read the events of a stream that is compressed."""
        try:
            answer.decoder = Decoder(
                answer.coding.decode("latin-1"),
                output_bytes_max=sys.maxsize,
                ratio_max=STREAM_RATIO_MAX,
            )
        except UnknownEncodingError as error:
            answer.response.abort()
            raise refuse_coding(str(error)) from error
        answer.drop_coding()

    def _choose_tap(self, state: CallState, answer: UpstreamResponse) -> StreamTap | TailTap | None:
        """How the body is watched while it streams; None for one that is read whole."""
        kind = answer.content_type
        call = state.call
        endpoint = call.endpoint
        if answer.status >= 400 or answer.status in BODILESS_STATUS or call.method == "HEAD":
            return None
        if endpoint.lists_models:
            return None
        if kind.startswith(b"text/event-stream") or (not kind and state.streams):
            return StreamTap(
                endpoint.meter,
                state.parsed_usage,
                drop_usage=state.requested_usage,
                event_bytes_max=self._body_bytes_max
                if endpoint.large_events
                else self._event_bytes_max,
            )
        if endpoint.downloads:
            return TailTap()
        if kind == b"application/json" or answer.claims_json:
            return None
        if endpoint.body is not Body.RAW and answer.media_type in UNEXPECTED_TYPES:
            return None
        return TailTap()

    async def read(self, state: CallState, answer: UpstreamResponse) -> bytes:
        """The whole body of an answer; what is no valid answer becomes an error."""
        body = answer.body
        if body is None:
            try:
                body = await answer.response.read(self._body_bytes_max, state.reserve_answer)
            except egress.EgressError as error:
                raise describe_egress_error(error) from error
        state.answered_at = self._clock.monotonic()
        if answer.coding:
            bytes_max = self._body_bytes_max if answer.status < 400 else FAULT_BODY_BYTES_MAX
            body = answer.decode(body, bytes_max)
            if len(body) > UNHELD_BYTES:
                state.reserve_answer(len(body))
            if answer.coding_fault and answer.status < 400:
                raise refuse_coding(answer.coding_fault)
        secret = find_secret(state)
        return redact(body, secret) if answer.status < 400 else redact_error(body, secret)

    def mark_answered(self, state: CallState) -> None:
        """The provider's part of the call is over."""
        state.answered_at = self._clock.monotonic()


class BufferedResponse:
    """An answer that is read whole, settled, and sent at once."""

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
        """Read the body, and learn from it what was used."""
        state, answer = self._state, self._answer
        body = await self._factory.read(state, answer)
        if answer.status >= 400:
            self._fail(body)
            return
        endpoint = state.call.endpoint
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
        # To read a response again that had failed is no failure.
        if has_failed and endpoint.pricing is Pricing.FREE:
            has_failed, state.parsed_usage.error_code = False, None
        state.outcome = "upstream_error" if has_failed else "completed"
        state.response_bytes = len(self._body)

    def _fail(self, body: bytes) -> None:
        state, answer = self._state, self._answer
        state.outcome = "upstream_error"
        state.error_code = find_recorded_code(answer.status, body)
        self._body = self._encoder.encode_error(state, answer, body)
        state.response_bytes = len(self._body)

    async def complete(self, receipt: Receipt) -> None:
        """Head and body in one piece."""
        head = self._encoder.encode_head(self._state, self._answer, receipt)
        self._caller.answer(self._answer.status, redact(head, find_secret(self._state)), self._body)

    def fail(self, error: HeadgateError, receipt: Receipt | None = None) -> None:
        """Never reached: nothing of it has begun."""
        raise error

    def pause(self) -> None:
        """A whole answer is written once."""

    def resume(self) -> None:
        """A whole answer is written once."""


class StreamedResponse:
    """An answer that goes on as it arrives: the sink of the provider, the flow of the caller."""

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
        """Of events that wait for their end, what is counted."""
        state.streamed = True
        secret = find_secret(state)
        self._decoder = answer.decoder
        self._redactor = StreamRedactor(secret)
        head = redact(encoder.encode_head(state, answer, None), secret)
        caller.start(answer.status, head, encoder.trailer_names)

    async def transfer(self) -> None:
        """Until the terminal event, the end of the body, or a failure."""
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
        if not (tap.finished or self._is_complete()):
            raise InvalidProviderResponseError(
                "The provider's stream ended before its answer was complete."
            )
        state.outcome = "completed" if state.parsed_usage.error_code is None else "upstream_error"

    def _is_complete(self) -> bool:
        """Whether a body that is over was a whole answer, though it did not say so at its end."""
        state, tap = self._state, self._tap
        meter = state.call.endpoint.meter
        if meter.has_last_event and isinstance(tap, StreamTap) and tap.truncated:
            return False
        choices = state.body.choices if isinstance(state.body, JsonRequest) else 1
        return meter.is_complete(state.parsed_usage, choices)

    async def complete(self, receipt: Receipt) -> None:
        """The withheld bytes, and what may still follow them."""
        self._settled = True
        self._write(self._tap.release())
        if not self._ended:
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
        """End with the wire's error frame; a body without frames ends short, so that it shows."""
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
        """The caller reads slowly: stop reading from the provider."""
        self._answer.response.pause()

    def resume(self) -> None:
        """The caller has caught up."""
        self._answer.response.resume()

    def on_data(self, data: bytes) -> None:
        """See `kit.http.message.Sink`."""
        redactor = self._redactor
        if self._decoder is not None:
            self._decode(self._decoder, data)
        elif redactor.needle in data or data[-1:] > b" ":
            self._forward(redactor.feed(data))
        else:
            self._forward(data)

    def _decode(self, decoder: Decoder, data: bytes) -> None:
        """Piece by piece, so that much out of little is never held at once."""
        try:
            for piece in decoder.feed(data):
                self._forward(self._redactor.feed(piece))
                if self._failure is not None:
                    return
        except DecodingError as error:
            self._give_up(refuse_coding(str(error)))

    def _take_failure(self) -> HeadgateError:
        """The error, handed out once so that its traceback and this object make no cycle."""
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
        if self._settled:
            ready += self._tap.release()
        if ready:
            self._write(ready)
        elif self._tap.held_bytes > self._held_bytes:
            self._hold_event()
        if self._tap.finished:
            self._wake()

    def _hold_event(self) -> None:
        """Count a large event that waits for its end."""
        size = max(UNHELD_BYTES, self._tap.held_bytes)
        try:
            self._state.reserve_answer(size)
        except HeadgateError as error:
            self._give_up(error)
        self._held_bytes += size

    def on_end(self) -> None:
        """See `kit.http.message.Sink`."""
        self._ended = True
        if rest := self._redactor.close():
            self._forward(rest)
        if self._decoder is not None and not self._tap.finished:
            try:
                self._decoder.finish()
            except DecodingError as error:
                self._give_up(refuse_coding(str(error)))
        if not self._settled and self._failure is None:
            self._write(self._tap.close())
        self._wake()

    def on_failure(self, error: Exception) -> None:
        """See `kit.http.message.Sink`."""
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
    """The key that the provider was shown, and must not show to anybody else."""
    assert state.credential is not None, "an answer came from somewhere"
    return state.credential.secret


def refuse_redirect(state: CallState, answer: UpstreamResponse) -> InvalidProviderResponseError:
    """No redirect is followed: the key is bound to its origin. Nothing was done, or charged."""
    answer.response.abort()
    state.was_sent = False
    return InvalidProviderResponseError(
        f"The provider answered {answer.status}, a redirect, which is not followed. "
        "Check the base URL of the credential.",
        should_retry=False,
    )


def is_only_error(parsed: ParsedUsage) -> bool:
    """Whether an answer under status 200 is nothing but an error."""
    return parsed.error_code is not None and parsed.usage is None and parsed.answer_id is None


def refuse_coding(reason: str) -> InvalidProviderResponseError:
    """A compressed answer that is not decoded."""
    return InvalidProviderResponseError(
        f"The provider's answer cannot be decoded. {reason}", should_retry=False
    )
