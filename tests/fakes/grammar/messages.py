"""The grammar of a Messages stream: what every client may rely on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Event = dict[str, Any]
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
}


def check_stream(events: Iterable[Event]) -> None:
    """Assert that events are one whole message stream, or one that ends with an error."""
    machine = MessagesMachine()
    for event in events:
        machine.feed(event)
    machine.finish()


class MessagesMachine:
    """Follow one stream, event by event."""

    def __init__(self) -> None:
        self._begun = False
        self._closing = False
        self._ended = False
        self._index = -1
        self._open = ""
        """The type of the open block; empty for none."""

    def feed(self, event: Event) -> None:
        kind = event["type"]
        assert not self._ended, f"{kind} comes after the end"
        if kind == "ping":
            return
        if kind == "error":
            assert event["error"]["message"]
            self._ended = True
        elif kind == "message_start":
            assert not self._begun, "the message begins twice"
            self._begun = True
            assert event["message"]["content"] == []
        else:
            assert self._begun, f"{kind} comes before message_start"
            self._feed_begun(kind, event)

    def finish(self) -> None:
        assert self._ended, "the stream has no end"

    def _feed_begun(self, kind: str, event: Event) -> None:
        if kind == "message_stop":
            assert self._closing, "message_stop comes before message_delta"
            self._ended = True
            return
        assert not self._closing, f"{kind} comes after message_delta"
        if kind == "message_delta":
            assert not self._open, "the message ends within a block"
            assert event["delta"]["stop_reason"]
            self._closing = True
        elif kind == "content_block_start":
            assert not self._open, "a block begins while another is open"
            self._index, self._open = self._index + 1, event["content_block"]["type"]
            assert event["index"] == self._index
        else:
            assert self._open, f"{kind} comes outside of a block"
            assert event["index"] == self._index
            if kind == "content_block_delta":
                allowed: set[str] = DELTAS.get(self._open, set())
                assert event["delta"]["type"] in allowed, (self._open, event)
            else:
                assert kind == "content_block_stop"
                self._open = ""
