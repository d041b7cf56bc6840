"""Serve Anthropic's Messages: as Responses to the provider, and back to the client."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headgate.gateway.converted import CallLater, ConvertedCaller, ConvertedEncoder, StreamFormat
from headgate.gateway.errors import convert_for_anthropic
from headgate.kit.json_limits import JsonLimits
from headgate.llm import request
from headgate.llm.convert.messages_to_responses import errors
from headgate.llm.convert.messages_to_responses.reply import convert_reply
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest, convert_request
from headgate.llm.convert.messages_to_responses.stream import MessageStream, encode_event
from headgate.llm.estimate import estimate_text_tokens
from headgate.relay.call import Call, Caller
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ResponseEncoder
from headgate.relay.losses import check_losses
from headgate.relay.ports import ModelCatalog, Receipt
from headgate.relay.upstream import UpstreamResponse

TARGET = b"/responses"
"""Where a converted call goes, below `/v1`."""
FORMAT = StreamFormat(encode_event, errors.make_error, encode_event({"type": "ping"}))


def convert_call(call: Call, models: ModelCatalog, limits: JsonLimits) -> ConvertedRequest:
    """Turn a call of Messages into one of Responses, and return what its answer is converted with.

    Raise `InvalidMessagesRequestError`, `UnsupportedServerToolError` and `ConversionLossyError`.
    """
    body = call.body
    assert isinstance(body, request.JsonRequest), "its endpoint reads JSON"
    fields = cast("dict[str, Any]", msgspec.json.decode(body.with_envelopes_removed().body))
    model = models.match(body.model).model if body.model else None
    converted = convert_request(fields, reasons=None if model is None else model.reasons)
    check_losses(call, converted.losses)
    call.native_body = body
    call.body = request.decode(msgspec.json.encode(converted.body), limits)
    call.path, call.query = TARGET, b""
    call.headers = [each for each in call.headers if not is_for_anthropic(each[0])]
    return converted


def is_for_anthropic(name: bytes) -> bool:
    """Return whether a header of a request is of no use to another provider."""
    return name.startswith(b"anthropic-")


class MessagesEncoder(ConvertedEncoder):
    """Encode the answer to one converted call, as far as it comes whole (`ResponseEncoder`)."""

    def __init__(self, encoder: ResponseEncoder, converted: ConvertedRequest) -> None:
        def convert(answer: Any) -> dict[str, Any]:
            return convert_reply(answer, converted)

        super().__init__(encoder, converted.losses, convert)

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        head = super().encode_head(state, answer, receipt)
        return b"%brequest-id: %b\r\n" % (head, state.call.request_id.encode())

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        """Return the provider's error in Anthropic's shape."""
        body = super().encode_error(state, answer, body)
        return convert_for_anthropic(body, answer.status, state.call.request_id)


class MessagesCaller(ConvertedCaller):
    """Stand before the client of a converted call: a stream of Responses goes in, a stream of
    Messages comes out."""

    def __init__(
        self, caller: Caller, converted: ConvertedRequest, call_later: CallLater | None = None
    ) -> None:
        stream = MessageStream(converted, estimate_text_tokens)
        super().__init__(caller, stream, FORMAT, call_later, stream.feed_piece)
