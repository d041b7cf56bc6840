"""Serve Anthropic's Messages: as Responses to the provider, and back to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

import msgspec

from headgate.gateway.encoder import OpenAiEncoder
from headgate.gateway.losses import render_losses
from headgate.kit.errors import HeadgateError
from headgate.kit.json_limits import JsonLimits
from headgate.llm import request, sse
from headgate.llm.answers import DECODE_ERRORS, DONE
from headgate.llm.convert.messages_to_responses import errors
from headgate.llm.convert.messages_to_responses.reply import (
    UnreadableResponseError,
    convert_reply,
    read_object,
)
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest, convert_request
from headgate.llm.convert.messages_to_responses.stream import MessageStream, encode_event
from headgate.llm.estimate import BYTES_PER_TOKEN
from headgate.relay.call import Call, Caller, CallerListener
from headgate.relay.call_state import CallState
from headgate.relay.losses import check_losses
from headgate.relay.ports import ModelCatalog, Receipt
from headgate.relay.upstream import InvalidProviderResponseError, UpstreamResponse

TARGET = b"/responses"
"""Where a converted call goes, below `/v1`."""
PING_SECONDS = 10.0
PING = encode_event({"type": "ping"})


class Timer(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


def convert_call(call: Call, models: ModelCatalog, limits: JsonLimits) -> ConvertedRequest:
    """Turn a call of Messages into one of Responses, and return what its answer is converted with.

    Raise `InvalidMessagesRequestError`, `UnsupportedServerToolError` and `ConversionLossyError`.
    """
    body = call.body
    assert isinstance(body, request.JsonRequest), "its endpoint reads JSON"
    fields = cast("dict[str, Any]", msgspec.json.decode(body.body))
    model = models.match(body.model).model if body.model else None
    converted = convert_request(fields, reasons=None if model is None else model.reasons)
    check_losses(call, converted.losses)
    call.body = request.decode(msgspec.json.encode(converted.body), limits)
    call.path, call.query = TARGET, b""
    call.headers = [each for each in call.headers if not is_for_anthropic(each[0])]
    return converted


def is_for_anthropic(name: bytes) -> bool:
    """Return whether a header of a request is of no use to another provider."""
    return name.startswith(b"anthropic-")


class MessagesEncoder:
    """Encode the answer to one converted call, as far as it comes whole (`ResponseEncoder`)."""

    def __init__(self, encoder: OpenAiEncoder, converted: ConvertedRequest) -> None:
        self.trailer_names = encoder.trailer_names
        self._encoder = encoder
        self._converted = converted

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        head = self._encoder.encode_head(state, answer, receipt)
        return b"%brequest-id: %b\r\n%b" % (
            head,
            state.call.request_id.encode(),
            render_losses(self._converted.losses),
        )

    def encode_trailers(self, receipt: Receipt) -> bytes:
        return self._encoder.encode_trailers(receipt)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        """Return the provider's error in Anthropic's shape."""
        body = self._encoder.encode_error(state, answer, body)
        message = read_object(msgspec.json.decode(body), "error").get("message")
        text = str(message or f"The provider answered {answer.status}.")
        return msgspec.json.encode(errors.make_error(answer.status, text, state.call.request_id))

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        """Return a whole response as a message."""
        try:
            message = convert_reply(msgspec.json.decode(body), self._converted)
        except UnreadableResponseError as error:
            raise InvalidProviderResponseError(str(error), should_retry=False) from None
        return msgspec.json.encode(message)

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        """Return the error as an event of Responses, which `MessagesCaller` converts."""
        return self._encoder.encode_error_frame(state, error)


class MessagesCaller:
    """Stand before the client of a converted call: the provider's stream goes in, a stream of
    Messages comes out (`relay.call.Caller`).

    The end of a message that a stop sequence cuts comes with the provider's last event, or with
    `finish`: both come after the settlement (law 1). `has_enough` asks the pipeline to read no
    further.
    """

    def __init__(
        self, caller: Caller, converted: ConvertedRequest, call_later: CallLater | None = None
    ) -> None:
        self._call_later = call_later or asyncio.get_running_loop().call_later
        self.has_enough = False
        self.takes_trailers = caller.takes_trailers
        self._caller = caller
        self._stream = MessageStream(converted, estimate_tokens)
        self._buffer = bytearray()
        self._searched = 0
        self._timer: Timer | None = None

    @property
    def gone(self) -> bool:
        return self._caller.gone

    @property
    def sent_bytes(self) -> int:
        return self._caller.sent_bytes

    @property
    def client_address(self) -> str:
        return self._caller.client_address

    def reserve_memory(self, size: int) -> None:
        self._caller.reserve_memory(size)

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        self._caller.answer(status, head, body)

    def start(self, status: int, head: bytes, trailer_names: bytes = b"") -> None:
        self._caller.start(status, head, trailer_names)
        self.takes_trailers = self._caller.takes_trailers
        self._set_timer()

    def write(self, data: bytes) -> None:
        """Convert a piece of the provider's stream, and send what follows from it."""
        self._buffer += data
        ends = sse.find_ends(self._buffer, self._searched)
        if ends:
            whole = bytes(self._buffer[: ends[-1]])
            del self._buffer[: ends[-1]]
            self._convert(whole, ends)
        self._searched = sse.next_search_offset(self._buffer)

    def finish(self, *, complete: bool = True, trailers: bytes = b"") -> None:
        """End the stream: with the end of a message that was cut, or with an error if there is
        none."""
        if self._buffer:
            whole, self._buffer = bytes(self._buffer), bytearray()
            self._convert(whole, [len(whole)])
        self._send(self._stream.close())
        if not self._stream.ended:
            message = "The provider's stream ended before its answer was complete."
            self._send(self._stream.fail(errors.make_error(502, message)))
        if self._timer is not None:
            self._timer.cancel()
        self._caller.finish(trailers=trailers)

    def set_listener(self, listener: CallerListener | None) -> None:
        self._caller.set_listener(listener)

    def abandon(self) -> None:
        self._caller.abandon()

    def _convert(self, whole: bytes, ends: list[int]) -> None:
        start = 0
        for end in ends:
            data = sse.parse_event(whole[start:end]).data
            start = end
            if data:
                self._feed(data)

    def _feed(self, data: bytes) -> None:
        if data.strip() == DONE:
            return
        try:
            event = msgspec.json.decode(data)
        except DECODE_ERRORS:
            event = None
        if not isinstance(event, dict):
            message = "The provider sent an event that is no JSON object."
            self._send(self._stream.fail(errors.make_error(502, message)))
        else:
            self._send(self._stream.feed(cast("Mapping[str, Any]", event), len(data)))

    def _send(self, events: Iterable[dict[str, Any]]) -> None:
        frames = [encode_event(event) for event in events]
        self.has_enough = self._stream.stopped
        if frames:
            self._caller.write(b"".join(frames))
            self._set_timer()

    def _set_timer(self) -> None:
        """Ping the client when nothing was sent for a while."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._call_later(PING_SECONDS, self._ping)

    def _ping(self) -> None:
        if not self._caller.gone and not self._stream.ended:
            self._caller.write(PING)
            self._set_timer()


def estimate_tokens(characters: int) -> int:
    return -(-characters // BYTES_PER_TOKEN)
