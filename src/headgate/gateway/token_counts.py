"""Answer `POST /v1/messages/count_tokens`, without a provider.

The request is converted as one of Messages is, and what would be sent is counted. It costs nothing
and leaves no receipt; a key's rate of requests counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec

from headgate.gateway.encoder import encode_name, render_rate_limits
from headgate.gateway.vmx_answers import render_request
from headgate.kit.tokenizer import Tokenizer
from headgate.llm import request
from headgate.llm.convert.messages_to_responses.request import convert_request
from headgate.llm.token_count import TokenCounter
from headgate.relay.admission import Admission
from headgate.relay.call import Call, Caller
from headgate.relay.content import Address, ContentFetcher
from headgate.relay.ports import ModelCatalog

OUTPUT_TOKENS = 1 << 30
"""Stands for `max_tokens`, which this request does not have."""


class TokenCounts:
    """Count the input tokens of requests, on a thread of its own."""

    def __init__(
        self,
        admission: Admission,
        models: ModelCatalog,
        fetcher: ContentFetcher,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._admission = admission
        self._models = models
        self._fetcher = fetcher
        self._tokenizer = tokenizer or Tokenizer()
        self._executor = ThreadPoolExecutor(1, "tokenizer")

    async def run(self, call: Call, caller: Caller) -> None:
        """Answer a call. Raise a `HeadgateError` if nothing has been sent."""
        self._admission.admit(call, caller)
        try:
            tokens = await self._count(call, caller)
        finally:
            self._admission.release(call)
        request_id = call.request_id.encode()
        head = (
            b"content-type: application/json\r\n"
            b"request-id: %b\r\nx-request-id: %b\r\nx-headgate-request-id: %b\r\n"
            % (request_id, request_id, request_id)
        )
        if call.correlation_id is not None:
            head += b"x-headgate-correlation-id: %b\r\n" % encode_name(call.correlation_id)
        if call.envelope is not None:
            head += render_request(call.request_id, call.envelope, call.correlation_id)
        head += render_rate_limits(call.rate_limits)
        caller.answer(200, head, msgspec.json.encode({"input_tokens": tokens}))

    async def _count(self, call: Call, caller: Caller) -> int:
        body = call.body
        assert isinstance(body, request.JsonRequest), "its endpoint reads JSON"
        loop = asyncio.get_running_loop()
        model = self._models.match(body.model).model if body.model else None
        reasons = None if model is None else model.reasons
        converted, addresses = await loop.run_in_executor(
            self._executor, convert, body.with_envelopes_removed().body, reasons
        )
        fetched = await self._fetcher.fetch_all(addresses, caller.reserve_memory)
        counter = TokenCounter(
            body.model if model is None else model.id, self._tokenizer.count, fetched
        )
        return await loop.run_in_executor(self._executor, counter.count, converted)


def convert(body: bytes, reasons: bool | None) -> tuple[dict[str, Any], list[Address]]:
    """Return a request as one of Responses, and the addresses that it names."""
    fields = cast("dict[str, Any]", msgspec.json.decode(body))
    fields["max_tokens"] = OUTPUT_TOKENS
    converted = convert_request(fields, reasons=reasons).body
    return converted, list(find_addresses(fields["messages"], "messages"))


def find_addresses(value: Any, place: str) -> Iterator[Address]:
    """Yield the addresses of pictures and documents, wherever they are nested."""
    if isinstance(value, list):
        for number, each in enumerate(cast("list[Any]", value)):
            yield from find_addresses(each, f"{place}.{number}")
    elif isinstance(value, dict):
        block = cast("dict[str, Any]", value)
        source = block.get("source")
        if block.get("type") in ("image", "document") and isinstance(source, dict):
            fields = cast("dict[str, Any]", source)
            url = fields.get("url")
            if fields.get("type") == "url" and isinstance(url, str):
                yield Address(url, f"{place}.source.url", block["type"] == "image")
        for name in ("content", "source"):
            yield from find_addresses(block.get(name), f"{place}.{name}")
