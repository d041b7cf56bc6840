"""A conversion is freed by reference counting when nobody needs it, without the collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Protocol

import pytest

from headgate.kit.errors import HeadgateError
from headgate.llm.convert.chat_to_responses import request as completions
from headgate.llm.convert.chat_to_responses.stream import CompletionStream
from headgate.llm.convert.messages_to_responses import request as messages
from headgate.llm.convert.messages_to_responses.stream import MessageStream
from headgate.llm.convert.responses_to_chat import request as responses
from headgate.llm.convert.responses_to_chat.stream import ResponseStream

TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object"}}
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"type": "object"}}
USER = {"role": "user", "content": "Hello"}
MESSAGES = {"model": "m", "max_tokens": 50, "messages": [USER], "tools": [TOOL]}
COMPLETIONS = {
    "model": "m",
    "messages": [USER],
    "tools": [{"type": "function", "function": FUNCTION}],
}
RESPONSES = {
    "model": "m",
    "store": False,
    "input": [USER],
    "tools": [{"type": "function", "strict": False, **FUNCTION}],
}
CONVERTERS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], dict[str, Any]]] = {
    "messages": (lambda fields: messages.convert_request(fields, reasons=None), MESSAGES),
    "chat completions": (completions.convert_request, COMPLETIONS),
    "responses": (responses.convert_request, RESPONSES),
}

ITEM: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": ""}
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_1", "model": "m"}},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hello",
    },
    {"type": "response.output_item.added", "output_index": 1, "item": CALL},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
]
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "Hello"},
    {"reasoning_content": "So"},
    {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]},
]
CHUNKS = [
    {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
    for delta in DELTAS
]


class Stream(Protocol):
    def feed(self, event: Mapping[str, Any]) -> Iterable[Any]: ...


def make_message_stream() -> Stream:
    return MessageStream(messages.convert_request(MESSAGES, reasons=None), lambda count: count)


def make_completion_stream() -> Stream:
    return CompletionStream(completions.convert_request(COMPLETIONS), lambda count: count)


def make_response_stream() -> Stream:
    return ResponseStream(responses.convert_request(RESPONSES))


STREAMS: dict[str, tuple[Callable[[], Stream], list[dict[str, Any]]]] = {
    "messages": (make_message_stream, EVENTS),
    "chat completions": (make_completion_stream, EVENTS),
    "responses": (make_response_stream, CHUNKS),
}


@contextlib.contextmanager
def nothing_left() -> Generator[None]:
    """Check that what runs inside leaves nothing to the collector."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("name", CONVERTERS)
def test_request_that_is_converted_is_freed(name: str) -> None:
    convert, fields = CONVERTERS[name]
    with nothing_left():
        convert(fields)


@pytest.mark.parametrize("name", CONVERTERS)
def test_request_that_is_refused_is_freed_with_its_error(name: str) -> None:
    convert, fields = CONVERTERS[name]
    with nothing_left(), contextlib.suppress(HeadgateError):
        convert({**fields, "tools": [{"type": 1}]})
        pytest.fail("It is malformed.")


@pytest.mark.parametrize("name", STREAMS)
def test_stream_is_freed_wherever_it_is_left(name: str) -> None:
    make, events = STREAMS[name]
    for count in range(len(events) + 1):
        with nothing_left():
            stream = make()
            for event in events[:count]:
                list(stream.feed(event))
            del stream
