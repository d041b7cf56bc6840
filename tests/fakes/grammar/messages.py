"""The grammar of a Messages stream: what every client may rely on."""

from __future__ import annotations

from typing import Any

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
}


def check_stream(events: list[dict[str, Any]]) -> None:
    """Assert that events are one whole message stream, or one that ends with an error."""
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    if kinds[-1] == "error":
        assert kinds.count("error") == 1
        events = events[:-1]
        kinds = kinds[:-1]
        assert "message_stop" not in kinds
        _check_blocks(events, is_whole=False)
        return
    assert kinds[0] == "message_start"
    assert kinds.count("message_start") == 1
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("message_delta") == kinds.count("message_stop") == 1
    _check_blocks(events, is_whole=True)


def _check_blocks(events: list[dict[str, Any]], *, is_whole: bool) -> None:
    index, kind = -1, ""
    for event in events:
        name = event["type"]
        if name == "content_block_start":
            assert kind == "", "a block begins while another is open"
            index, kind = index + 1, event["content_block"]["type"]
            assert event["index"] == index
        elif name == "content_block_delta":
            assert event["index"] == index
            assert event["delta"]["type"] in DELTAS.get(kind, set()), (kind, event)
        elif name == "content_block_stop":
            assert kind != "", "a block ends twice"
            assert event["index"] == index
            kind = ""
        elif name in ("message_delta", "message_stop"):
            assert kind == "", "the message ends within a block"
    if is_whole:
        assert kind == ""
