"""Wait for the first bytes of a stream, while another target could still answer in its place."""

from __future__ import annotations

import asyncio
import re

from headgate.kit.errors import HeadgateError, drop_trace
from headgate.kit.http.message import Headers, HoldBytes, Response, Sink
from headgate.llm.provider_errors import classify
from headgate.llm.redaction import redact_error
from headgate.relay.call_state import CallState
from headgate.relay.upstream import (
    InvalidProviderResponseError,
    UpstreamResponse,
    describe_egress_error,
)

EVENT_STREAM = b"text/event-stream"
ERROR_FIRST = re.compile(
    rb'\A(?:event: ?error\r?\n)?data: ?(\{"(?:error": ?[{"]|type": ?"error")[^\r\n]*)'
)
"""A stream that begins with an error instead of an answer."""


class StreamStart:
    """Hold a response whose first bytes have arrived, and hand them on (`Response`)."""

    def __init__(self, response: Response, secret: bytes) -> None:
        self.status = response.status
        self.headers: Headers = response.headers
        self._response = response
        self._secret = secret
        self._sink: Sink | None = None
        self._pieces: list[bytes] = []
        self.began_with_error = False
        """Whether the provider reported an error in the place of an answer."""
        self._ended = False
        self._failure: Exception | None = None
        self._arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Return when something of the body is there. Raise the `HeadgateError` of a stream that
        breaks off, or ends, or begins with an error before that."""
        try:
            self._response.stream(self)
            await self._arrived
        except BaseException:
            self._response.abort()
            raise
        first = b"".join(self._pieces)
        if self._failure is not None and not first:
            failure = drop_trace(self._failure)
            if isinstance(failure, HeadgateError):
                raise failure
            raise describe_egress_error(failure)
        found = ERROR_FIRST.match(first)
        self.began_with_error = found is not None
        if not first or found is not None:
            self._response.abort()
            said = (
                "" if found is None else classify(500, redact_error(found[1], self._secret)).message
            )
            raise InvalidProviderResponseError(
                f"The provider began its stream with an error: {said}"
                if found is not None
                else "The provider's stream ended before it began.",
                should_retry=False,
            )

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        raise AssertionError("its body is streamed already")

    def stream(self, sink: Sink) -> None:
        """Deliver what has arrived, and what follows."""
        pieces, self._pieces = self._pieces, []
        self._sink = sink
        for piece in pieces:
            sink.on_data(piece)
        if self._failure is not None:
            sink.on_failure(self._failure)
        elif self._ended:
            sink.on_end()
        else:
            self._response.resume()

    def pause(self) -> None:
        self._response.pause()

    def resume(self) -> None:
        self._response.resume()

    def abort(self) -> None:
        self._response.abort()

    def on_data(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.on_data(data)
            return
        self._pieces.append(data)
        self._response.pause()
        self._wake()

    def on_end(self) -> None:
        self._ended = True
        if self._sink is not None:
            self._sink.on_end()
        self._wake()

    def on_failure(self, error: Exception) -> None:
        self._failure = error
        if self._sink is not None:
            self._sink.on_failure(error)
        self._wake()

    def _wake(self) -> None:
        if not self._arrived.done():
            self._arrived.set_result(None)


async def wait_for_start(state: CallState, answer: UpstreamResponse, secret: bytes) -> None:
    """Wait until a stream has begun; return at once for any other answer. Raise as
    `StreamStart.wait`. An error in the place of an answer costs nothing. `secret` is the provider's
    key, which no message may have."""
    is_stream = answer.content_type.startswith(EVENT_STREAM) and not answer.coding
    if answer.status >= 400 or not is_stream or answer.body is not None:
        return
    start = StreamStart(answer.response, secret)
    answer.response = start
    try:
        await start.wait()
    except HeadgateError:
        if start.began_with_error:
            state.was_sent = False
        raise
