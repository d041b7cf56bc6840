"""Serve Responses by a provider that has Chat Completions only."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headgate.gateway.converted import ConvertedCaller, ConvertedEncoder, StreamFormat
from headgate.kit.ids import IdGenerator
from headgate.llm import request
from headgate.llm.convert.losses import Losses
from headgate.llm.convert.responses_to_chat.losses import RULES
from headgate.llm.convert.responses_to_chat.reply import convert_reply
from headgate.llm.convert.responses_to_chat.request import ChatRequest, convert_request
from headgate.llm.convert.responses_to_chat.stream import ResponseStream, encode_event, make_error
from headgate.llm.endpoint import Endpoint
from headgate.llm.providers.openai_endpoints import ENDPOINTS
from headgate.relay.call import Caller
from headgate.relay.ports import Model

ENDPOINT = next(each for each in ENDPOINTS if each.path == "/chat/completions")
OUTPUT_LIMIT = "max_tokens"
"""The limit of output tokens that servers take which the catalog does not know."""
FORMAT = StreamFormat(encode_event, make_error)
_ids = IdGenerator()


class ResponsesToChat:
    """Convert a call of Responses to one of Chat Completions (`relay.conversion.Conversion`)."""

    def __init__(self, model: Model | None) -> None:
        self._output_limit = (model and model.limit_field) or OUTPUT_LIMIT
        self._converted: ChatRequest | None = None

    @property
    def endpoint(self) -> Endpoint:
        return ENDPOINT

    @property
    def losses(self) -> Losses:
        return Losses(RULES) if self._converted is None else self._converted.losses

    def convert_request(self, body: request.JsonRequest) -> request.JsonRequest:
        fields = cast("dict[str, Any]", msgspec.json.decode(body.body))
        suffix = _ids.make("resp").removeprefix("resp_")
        self._converted = convert_request(fields, output_limit=self._output_limit, answer_id=suffix)
        return request.encode(self._converted.body)

    def wrap(self, caller: Caller, encoder: Any) -> tuple[Caller, Any]:
        converted = self._converted
        assert converted is not None, "the request is converted first"

        def convert(answer: Any) -> dict[str, Any]:
            return convert_reply(answer, converted)

        self._caller = ConvertedCaller(caller, ResponseStream(converted), FORMAT)
        return self._caller, ConvertedEncoder(encoder, converted.losses, convert)

    def preview(self, data: bytes) -> bytes:
        return self._caller.preview(data)
