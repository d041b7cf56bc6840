"""Which addresses of a request have to be fetched, and how a request is converted to be counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.gateway.token_counts import convert, find_addresses
from headgate.llm.convert.messages_to_responses.validation import InvalidMessagesRequestError
from headgate.relay.content import Address


def make_block(kind: str, url: Any) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "url", "url": url}}


def test_addresses_are_found_wherever_they_are_nested() -> None:
    result = {"type": "tool_result", "content": [make_block("image", "https://a.example/1")]}
    within = {
        "type": "document",
        "source": {"type": "content", "content": [make_block("image", "https://a.example/2")]},
    }
    foreign = {"type": "web_fetch_tool_result", "content": make_block("document", None)}
    content = [{"type": "text", "text": "x"}, result, within, foreign]
    content.append(make_block("document", "https://a.example/3"))
    assert list(find_addresses([{"role": "user", "content": content}], "messages")) == [
        Address("https://a.example/1", "messages.0.content.1.content.0.source.url", True),
        Address("https://a.example/2", "messages.0.content.2.source.content.0.source.url", True),
        Address("https://a.example/3", "messages.0.content.4.source.url", False),
    ]


def test_request_needs_no_limit_and_is_checked_as_one_of_messages() -> None:
    fields: dict[str, Any] = {
        "model": "gpt-5.4",
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "enabled", "budget_tokens": 60_000},
    }
    body, addresses = convert(msgspec.json.encode(fields), None)
    assert (body["reasoning"]["effort"], addresses) == ("high", [])
    with pytest.raises(InvalidMessagesRequestError, match="messages: Field required"):
        convert(b'{"model":"gpt-5.4"}', None)
