"""Every event of the official SDKs' streams has a row that says what becomes of it."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from headgate.llm.convert.chat_to_responses import losses as chat_losses
from headgate.llm.convert.chat_to_responses.request import convert_request as convert_chat
from headgate.llm.convert.chat_to_responses.stream import CompletionStream
from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.messages_to_responses import losses as messages_losses
from headgate.llm.convert.messages_to_responses.request import convert_request as convert_messages
from headgate.llm.convert.messages_to_responses.stream import MessageStream
from headgate.llm.convert.responses_to_chat import losses as responses_losses
from headgate.llm.convert.responses_to_chat.request import convert_request as convert_responses
from headgate.llm.convert.responses_to_chat.stream import ResponseStream
from tests.fakes.fidelity import check_answer
from tests.fakes.schema_samples import SampleMaker

Event = dict[str, Any]
EVENT_TYPES: dict[str, Any] = {
    typing.get_args(each.model_fields["type"].annotation)[0]: each
    for each in typing.get_args(typing.get_args(ResponseStreamEvent)[0])
}
HELLO: Any = [{"role": "user", "content": "x"}]
THINKING = {"type": "adaptive"}
MESSAGES = convert_messages(
    {"model": "m", "max_tokens": 99, "messages": HELLO, "thinking": THINKING}
)
CHAT = convert_chat({"model": "m", "messages": HELLO, "logprobs": True})
RESPONSES = convert_responses(
    {"model": "m", "input": "x", "include": ["message.output_text.logprobs"]}
)


class Streams(NamedTuple):
    open: Callable[[], Any]
    rules: Mapping[str, Rule]


STREAMS = {
    "messages": Streams(
        lambda: MessageStream(MESSAGES, lambda count: count), messages_losses.EVENTS
    ),
    "chat": Streams(lambda: CompletionStream(CHAT, lambda count: count, 1), chat_losses.EVENTS),
}
FRAME = {
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.completed",
    "response.incomplete",
}
"""Events that every stream has, and that change nothing when they come again."""
TEXT: Event = {"type": "response.output_text.delta", "output_index": 0, "delta": "text"}
KINDS = ("message", "function_call", "custom_tool_call", "reasoning")


def run_with(streams: Streams, kind: str, event: Event | None) -> list[Any]:
    """Return what a short stream becomes, with an event amid its one item."""
    item: Event = {"type": kind, "id": "i", "call_id": "c", "name": "f"}
    events: list[Event] = [
        {"type": "response.created", "response": {"id": "resp_1"}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *([TEXT] if kind == "message" else []),
        *([] if event is None else [event]),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "resp_1", "output": [item]}},
    ]
    stream = streams.open()
    return [*itertools.chain.from_iterable(map(stream.feed, events)), *stream.close()]


@pytest.mark.parametrize("name", STREAMS)
def test_every_event_of_a_response_has_its_row(name: str) -> None:
    streams = STREAMS[name]
    assert streams.rules.keys() == EVENT_TYPES.keys()
    fixed: dict[str, list[Any]] = {
        "output_index": [0],
        "content_index": [0],
        "summary_index": [0],
        "item_id": ["i"],
        "response": [{"id": "resp_1"}],
    }
    for kind in EVENT_TYPES.keys() - FRAME:
        event_type = EVENT_TYPES[kind]
        named = {f"{event_type.__name__}.type": [kind]}
        samples = SampleMaker({**fixed, **named}).make_all(event_type)
        changes = [
            run_with(streams, item, sample.value) != run_with(streams, item, None)
            for sample in samples
            for item in KINDS
        ]
        assert any(changes) == (streams.rules[kind].handling is Handling.CARRIED), kind


def run_chunk(chunk: Event) -> list[Event]:
    """Return what a stream of one chunk becomes, with the end that every stream has."""
    stream = ResponseStream(RESPONSES)
    end: Event = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*stream.feed(chunk), *stream.feed(end), *stream.close()]


def test_no_field_of_a_chunk_is_dropped_without_a_row() -> None:
    # Rows of whole answers hold for chunks as well, which have a delta for the message.
    rules = {
        **{
            place.replace(".message", ".delta"): rule
            for place, rule in responses_losses.ANSWERS.items()
        },
        **responses_losses.EVENTS,
    }
    told = [place for place, rule in rules.items() if rule.handling is not Handling.CARRIED]
    fixed: dict[str, list[Any]] = {
        "Choice.index": [0],
        "ChoiceDeltaToolCall.index": [0],
        "finish_reason": [None],
    }
    silent: dict[str, Event] = {}
    for sample in SampleMaker(fixed).make_all(ChatCompletionChunk):
        [choice] = sample.value["choices"]
        delta = {"content": "text-1-end", **choice["delta"]}
        chunk = {**sample.value, "choices": [{**choice, "delta": delta}]}
        silent |= dict.fromkeys(check_answer(run_chunk, chunk, told), chunk)
    assert not silent
