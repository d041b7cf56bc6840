"""Answer `/v1/models` in Anthropic's format, for clients that send `anthropic-version`."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from headgate.gateway import errors
from headgate.gateway.encoder import OpenAiEncoder
from headgate.gateway.model_metadata import FIELD
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers
from headgate.llm.convert.fields import (
    UnreadableResponseError,
    decode_answer,
    list_objects,
    read_count,
    read_object,
)
from headgate.llm.convert.messages_to_responses.validation import fail
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.upstream import InvalidProviderResponseError, UpstreamResponse

PAGE_SIZE, PAGE_SIZE_MAX = 20, 1_000
LIFECYCLES = ("active", "deprecated")
"""Retired models are never listed."""
OWN_PARAMETERS = frozenset({"limit", "before_id", "after_id", "lifecycle", "lifecycle[]", "beta"})
Row = Mapping[str, Any]


class ModelsPage(msgspec.Struct, frozen=True):
    """Say which rows a client asks for."""

    limit: int = PAGE_SIZE
    before_id: str = ""
    after_id: str = ""
    lifecycles: tuple[str, ...] = LIFECYCLES


def wants_anthropic(headers: Headers) -> bool:
    """Return whether a client expects Anthropic's format."""
    return any(name == errors.VERSION_HEADER for name, _ in headers)


def take_page(call: Call) -> ModelsPage:
    """Take what Anthropic's clients may ask for out of the query and the headers of a call, so that
    no provider sees it. Raise `InvalidMessagesRequestError`."""
    query = call.query[1:].decode("latin-1")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    call.query = b""
    if rest := [pair for pair in pairs if pair[0] not in OWN_PARAMETERS]:
        call.query = b"?" + urllib.parse.urlencode(rest).encode()
    call.headers = [each for each in call.headers if not each[0].startswith(b"anthropic-")]
    asked = dict(pairs)
    lifecycles = tuple(value for name, value in pairs if name.startswith("lifecycle"))
    return ModelsPage(
        parse_limit(asked.get("limit", "")),
        asked.get("before_id", ""),
        asked.get("after_id", ""),
        lifecycles or LIFECYCLES,
    )


def parse_limit(text: str) -> int:
    if not text:
        return PAGE_SIZE
    if not (text.isascii() and text.isdecimal() and len(text) <= 4):
        fail("limit", "Input should be a valid integer")
    if not 1 <= int(text) <= PAGE_SIZE_MAX:
        fail("limit", f"Input should be between 1 and {PAGE_SIZE_MAX}")
    return int(text)


class AnthropicModelsEncoder:
    """Encode an answer of the models' pipeline for a client of Anthropic's API
    (`ResponseEncoder`)."""

    def __init__(self, encoder: OpenAiEncoder, page: ModelsPage) -> None:
        self.trailer_names = encoder.trailer_names
        self._encoder = encoder
        self._page = page

    def encode_head(
        self, state: CallState, answer: UpstreamResponse, receipt: Receipt | None
    ) -> bytes:
        head = self._encoder.encode_head(state, answer, receipt)
        return b"%brequest-id: %b\r\n" % (head, state.call.request_id.encode())

    def encode_trailers(self, receipt: Receipt) -> bytes:
        return self._encoder.encode_trailers(receipt)

    def encode_error(self, state: CallState, answer: UpstreamResponse, body: bytes) -> bytes:
        body = self._encoder.encode_error(state, answer, body)
        return errors.convert_for_anthropic(body, answer.status, state.call.request_id)

    def encode_body(self, state: CallState, body: bytes) -> bytes:
        body = self._encoder.encode_body(state, body)
        if state.call.method != "GET":
            return body
        fields = read_answer(body)
        rows = fields.get("data")
        if isinstance(rows, list):
            return msgspec.json.encode(convert_list(list_objects(rows), self._page))
        return msgspec.json.encode(convert_model(fields))

    def encode_error_frame(self, state: CallState, error: HeadgateError) -> bytes:
        return self._encoder.encode_error_frame(state, error)


def read_answer(body: bytes) -> Row:
    """Return a provider's list of models, or one of them. Raise `InvalidProviderResponseError`."""
    try:
        fields = decode_answer(body)
    except UnreadableResponseError as error:
        raise InvalidProviderResponseError(str(error), should_retry=False) from None
    if not isinstance(fields, dict):
        message = "The provider's list of models is no JSON object."
        raise InvalidProviderResponseError(message, should_retry=False)
    return cast("Row", fields)


def convert_list(rows: Sequence[Row], page: ModelsPage) -> dict[str, Any]:
    """Return one page of the models that Messages may name, the newest first."""
    models = [convert_model(row) for row in rows if writes_text(row)]
    models = [model for model in models if model["lifecycle"] in page.lifecycles]
    models.sort(key=lambda model: model["created_at"], reverse=True)
    ids = [model["id"] for model in models]
    if page.after_id:
        start = find_cursor(ids, "after_id", page.after_id) + 1
        listed, has_more = models[start : start + page.limit], len(ids) > start + page.limit
    elif page.before_id:
        end = find_cursor(ids, "before_id", page.before_id)
        listed, has_more = models[max(0, end - page.limit) : end], end > page.limit
    else:
        listed, has_more = models[: page.limit], len(ids) > page.limit
    return {
        "data": listed,
        "has_more": has_more,
        "first_id": listed[0]["id"] if listed else None,
        "last_id": listed[-1]["id"] if listed else None,
    }


def find_cursor(ids: Sequence[str], name: str, wanted: str) -> int:
    if wanted not in ids:
        fail(name, f"There is no model '{wanted}' in this list")
    return ids.index(wanted)


def writes_text(row: Row) -> bool:
    """Return whether Messages may name a model, as far as the catalog knows."""
    capabilities = read_object(read_object(row, FIELD), "capabilities")
    return not capabilities or "text" in capabilities


def convert_model(row: Row) -> dict[str, Any]:
    """Return a model of OpenAI's list, with its metadata, as one of Anthropic's."""
    metadata = read_object(row, FIELD)
    context = read_object(metadata, "context")
    capabilities = read_object(metadata, "capabilities")
    is_deprecated = bool(read_object(metadata, "deprecation").get("deprecated"))
    model_id = str(row.get("id") or "")
    return {
        "type": "model",
        "id": model_id,
        "display_name": str(metadata.get("display_name") or model_id),
        "created_at": format_time(read_count(row, "created")),
        "lifecycle": "deprecated" if is_deprecated else "active",
        "max_input_tokens": context.get("input_tokens_max"),
        "max_tokens": context.get("output_tokens_max"),
        "capabilities": describe_capabilities(capabilities) if capabilities else None,
        "line": None,
        "deprecated_at": None,
        "retires_at": None,
    }


def format_time(seconds: int) -> str:
    """Return RFC 3339 of unix seconds; the epoch where they are unknown or impossible."""
    try:
        return errors.format_time(seconds)
    except (ValueError, OverflowError, OSError):
        return errors.format_time(0)


def describe_capabilities(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Messages can do with a model, in Anthropic's words."""
    reasons, tools, sees = "reasoning" in known, "tools" in known, "vision" in known
    return {
        "batch": tell(False),
        "citations": tell(False),
        "code_execution": tell(False),
        "context_management": tell(False),
        "effort": tell(
            reasons,
            low=tell(reasons),
            medium=tell(reasons),
            high=tell(reasons),
            xhigh=tell(False),
            max=tell(False),
        ),
        "image_input": tell(sees),
        "pdf_input": tell(sees),
        "server_tools": tell(tools, web_search=tell(tools), code_execution=tell(tools)),
        "structured_outputs": tell("json" in known),
        "thinking": tell(
            reasons,
            types={
                "adaptive": tell(reasons),
                "between_tools": tell(True),
                "disabled": tell(True),
                "enabled": tell(reasons),
            },
        ),
    }


def tell(supported: bool, **parts: Any) -> dict[str, Any]:
    return {"supported": supported, **parts}
