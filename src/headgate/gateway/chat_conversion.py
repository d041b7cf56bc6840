"""Serve Chat Completions by a model that answers Responses only."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headgate.gateway.converted import ConvertedCaller, ConvertedEncoder, StreamFormat
from headgate.llm import request
from headgate.llm.convert.chat_to_responses.reply import convert_reply
from headgate.llm.convert.chat_to_responses.request import ConvertedCompletion, convert_request
from headgate.llm.convert.chat_to_responses.stream import (
    CompletionStream,
    encode_chunk,
    make_error,
)
from headgate.llm.convert.losses import Losses
from headgate.llm.endpoint import Endpoint
from headgate.llm.estimate import estimate_text_tokens
from headgate.llm.providers.openai_endpoints import ENDPOINTS
from headgate.relay.call import Caller
from headgate.relay.ports import Model

ENDPOINT = next(each for each in ENDPOINTS if each.path == "/responses")
FORMAT = StreamFormat(encode_chunk, make_error)


class ChatToResponses:
    """Convert a chat completion to a call of Responses (`relay.conversion.Conversion`)."""

    def __init__(self, _model: Model | None) -> None:
        self._converted: ConvertedCompletion | None = None
        self._caller: ConvertedCaller | None = None
        self._prompt_tokens = 0

    @property
    def endpoint(self) -> Endpoint:
        return ENDPOINT

    @property
    def losses(self) -> Losses:
        return self._request.losses

    @property
    def _request(self) -> ConvertedCompletion:
        assert self._converted is not None, "the request is converted first"
        return self._converted

    def convert_request(self, body: request.JsonRequest) -> request.JsonRequest:
        self._prompt_tokens = estimate_text_tokens(len(body.body))
        self._converted = convert_request(cast("dict[str, Any]", msgspec.json.decode(body.body)))
        return request.encode(self._converted.body)

    def wrap(self, caller: Caller, encoder: Any) -> tuple[Caller, Any]:
        converted = self._request

        def convert(answer: Any) -> dict[str, Any]:
            return convert_reply(answer, converted)

        stream = CompletionStream(converted, estimate_text_tokens, self._prompt_tokens)
        self._caller = ConvertedCaller(caller, stream, FORMAT)
        return self._caller, ConvertedEncoder(encoder, converted.losses, convert)

    def preview(self, data: bytes) -> bytes:
        assert self._caller is not None, "it is wrapped first"
        return self._caller.preview(data)
