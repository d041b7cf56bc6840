"""Content of requests that the gateway reads itself: pictures, documents, their addresses, and
Messages before they are converted."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.answers import DECODE_ERRORS
from headgate.llm.convert.messages_to_responses.request import convert_request
from headgate.llm.documents import PAGES_MAX, measure_document
from headgate.llm.pictures import RULES, find_size
from headgate.llm.token_count import TokenCounter
from headgate.relay.content import Address, UnsafeOutboundUrlError, parse_address

DETAILS = ("low", "high", "auto", "original")


def check_picture(data: bytes) -> None:
    """Check that a size is positive, and that every model's rule counts tokens for it."""
    size = find_size(data)
    if size is None:
        return
    assert min(size) > 0
    for _, rule in RULES:
        counts = [rule.count(size, detail) for detail in DETAILS]
        assert 0 < min(counts) <= max(counts) <= 100_000
        assert counts[0] <= rule.count(None, "low")
        assert counts[3] <= rule.count(None, "original")


def check_document(data: bytes) -> None:
    """Check that a document has pages, and no more characters than its streams can have."""
    measured = measure_document(data)
    assert 1 <= measured.pages <= PAGES_MAX
    assert 0 <= measured.characters <= 1_100 * max(1, len(data))


def check_address(data: bytes) -> None:
    """Check that an address is refused with its place, or has one origin and a plain target."""
    text = data.decode("utf-8", "replace")
    refused: UnsafeOutboundUrlError | None = None
    parsed = None
    try:
        parsed = parse_address(Address(text, "messages.0", is_picture=True))
    except UnsafeOutboundUrlError as error:
        refused = error
    if refused is not None:
        assert refused.message.startswith("messages.0: ")
    if parsed is not None:
        origin, target = parsed
        assert origin.scheme in ("http", "https")
        assert origin.host
        assert not set(origin.host) & set("@/?#\\ ")
        assert target.startswith((b"/", b"?"))
        assert target.isascii()


def check_messages(data: bytes) -> None:
    """Check that a request is refused with a place, or becomes one whose tokens can be counted."""
    try:
        fields = msgspec.json.decode(data)
    except DECODE_ERRORS:
        return
    if isinstance(fields, dict):
        _check_request(cast("dict[str, Any]", fields))


def _check_request(fields: dict[str, Any]) -> None:
    refused: HeadgateError | None = None
    converted = None
    try:
        converted = convert_request(fields, reasons=None)
    except HeadgateError as error:
        refused = error
    if refused is not None:
        assert refused.kind is Kind.INVALID
        assert refused.param
    if converted is not None:
        assert TokenCounter(converted.model, len).count(converted.body) > 0
        msgspec.json.encode(converted.body)
