"""Streams of Responses become streams of Messages, whatever the order and size of their events."""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.llm.convert.messages_to_responses.reply import convert_reply
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest, convert_request
from headgate.llm.convert.messages_to_responses.stream import MessageStream, encode_event
from tests.fakes.grammar.messages import check_stream
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_call,
    make_events,
    make_item_events,
    make_reasoning,
    make_response,
    make_text,
)

# The SDK has no public function that makes a message of events.
SDK: Any = importlib.import_module("anthropic.lib.streaming._messages")
BASE = {
    "model": "gpt-5.4-mini",
    "max_tokens": 4_096,
    "messages": [{"role": "user", "content": "x"}],
}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2_048}}
Event = dict[str, Any]


def make_request(**fields: Any) -> ConvertedRequest:
    return convert_request(BASE | THINKING | fields)


def run(events: Iterable[Event], request: ConvertedRequest | None = None) -> list[Event]:
    stream = MessageStream(request or make_request(), lambda characters: characters // 4)
    converted = list(itertools.chain.from_iterable(map(stream.feed, events)))
    check_stream(converted)
    return converted


def accumulate(events: list[Event]) -> Any:
    """Return the message that the official SDK makes of a stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        if event["type"] != "ping":
            snapshot = SDK.accumulate_event(
                event=event, current_snapshot=snapshot, json_bufs=buffers
            )
    assert snapshot is not None
    return snapshot.to_dict()


def think(texts: list[str], encrypted: str | None) -> dict[str, Any]:
    return make_reasoning(*texts, encrypted=encrypted)


def call(fields: dict[str, int]) -> dict[str, Any]:
    return make_call("call_1", "get", json.dumps(fields, ensure_ascii=False))


ITEMS = st.one_of(
    st.text(min_size=1).map(make_text),
    st.builds(think, st.lists(st.text(min_size=1), max_size=3), st.sampled_from([None, "gAAAAB="])),
    st.dictionaries(st.text(), st.integers()).map(call),
)
RESPONSES = st.lists(ITEMS, max_size=5).map(lambda items: make_response(*items))


@given(
    RESPONSES,
    st.integers(1, 7),
    st.lists(st.text(min_size=1, max_size=3), max_size=2),
    st.sampled_from(["summarized", "omitted"]),
)
def test_streamed_message_is_the_buffered_one(
    response: dict[str, Any], size: int, sequences: list[str], display: str
) -> None:
    request = make_request(
        stop_sequences=[each for each in sequences if each.strip()],
        thinking={"type": "adaptive", "display": display},
    )
    whole = convert_reply(response, request)
    message = accumulate(run(make_events(response, size), request))
    for name in ("id", "role", "model", "stop_reason", "stop_sequence"):
        assert message.get(name) == whole[name], name
    expected = [
        {name: value for name, value in block.items() if value is not None}
        for block in whole["content"]
    ]
    found = [
        {name: value for name, value in block.items() if value is not None}
        for block in message["content"]
    ]
    # A text that is cut to nothing leaves an empty block in a stream: it was opened already.
    assert [each for each in found if each.get("text") != ""] == expected
    if whole["stop_sequence"] is None:
        usage = message["usage"]
        assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (70, 30)
        assert usage["output_tokens"] == 50


@given(RESPONSES, st.integers(1, 7), st.sampled_from([[], ["stop"]]))
def test_pieces_are_converted_as_any_event_is(
    response: dict[str, Any], size: int, sequences: list[str]
) -> None:
    events = list(make_events(response, size))
    plain = MessageStream(make_request(stop_sequences=sequences), lambda characters: characters)
    stream = MessageStream(make_request(stop_sequences=sequences), lambda characters: characters)
    for event in events:
        expected = b"".join(map(encode_event, plain.feed(event)))
        piece = stream.feed_piece(json.dumps(event, ensure_ascii=False).encode())
        found = b"".join(map(encode_event, stream.feed(event))) if piece is None else piece
        assert found == expected


@given(st.permutations(range(3)), st.data())
def test_items_that_come_interleaved_are_put_one_after_the_other(
    order: list[int], data: st.DataObject
) -> None:
    items = [make_call(f"call_{n}", "get", f'{{"n":{n}}}') for n in range(3)]
    queues = [list(make_item_events(number, item, 2)) for number, item in enumerate(items)]
    events: list[Event] = [{"type": "response.created", "response": make_response()}]
    # All begin in order, as OpenAI's do; what follows comes in any order.
    events += [queue.pop(0) for queue in queues]
    while any(queues):
        queue = data.draw(st.sampled_from([each for each in queues if each]))
        events.append(queue.pop(0))
    events.append({"type": "response.completed", "response": make_response(*items)})
    message = accumulate(run(events))
    assert [block["input"] for block in message["content"]] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert message["stop_reason"] == "tool_use"


def test_arguments_that_come_in_the_last_event_alone_are_sent() -> None:
    call = make_call("call_1", "get", '{"city":"Paris"}')
    response = make_response(call)
    for kept in (
        ("response.output_item.added", "response.function_call_arguments.done"),
        ("response.output_item.added", "response.output_item.done"),
        ("response.output_item.done",),
        (),
    ):
        events = [
            event
            for event in make_events(response)
            if event["type"] in (*kept, "response.created", "response.completed")
        ]
        (block,) = accumulate(run(events))["content"]
        assert block["input"] == {"city": "Paris"}, kept


def test_text_without_deltas_is_sent_from_the_whole_item() -> None:
    response = make_response(make_text("Hello"))
    events = [event for event in make_events(response) if "delta" not in event["type"]]
    (block,) = accumulate(run(events))["content"]
    assert block["text"] == "Hello"


def test_stop_sequence_ends_the_message_and_the_providers_stream() -> None:
    request = make_request(stop_sequences=["END"])
    stream = MessageStream(request, lambda characters: characters // 4)
    events: list[Event] = []
    for event in make_events(make_response(make_text("Some words ENDING in more")), 2):
        events += stream.feed(event)
        if stream.stopped:
            break
    assert events[-1]["type"] == "content_block_stop"
    events += stream.close()
    check_stream(events)
    message = accumulate(events)
    assert message["content"][0]["text"] == "Some words "
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert message["usage"]["output_tokens"] == 2


def test_message_that_is_cut_has_the_usage_of_a_stream_that_is_read_to_its_end() -> None:
    request = make_request(stop_sequences=["END"])
    message = accumulate(run(make_events(make_response(make_text("Words END more")), 2), request))
    assert message["content"][0]["text"] == "Words "
    assert (message["stop_sequence"], message["usage"]["output_tokens"]) == ("END", 50)


def test_many_items_in_reverse_order_are_converted() -> None:
    items = [make_call(f"call_{n}", "get", "{}") for n in range(1_500)]
    events: list[Event] = [{"type": "response.created", "response": make_response()}]
    queues = [list(make_item_events(number, item)) for number, item in enumerate(items)]
    events += [queue.pop(0) for queue in queues]
    for queue in reversed(queues):
        events += queue
    events.append({"type": "response.completed", "response": make_response(*items)})
    assert len(accumulate(run(events))["content"]) == 1_500


def test_events_that_waited_and_were_converted_count_no_longer() -> None:
    stream = MessageStream(make_request(), lambda characters: characters)
    items = [make_text("Hello") for _ in range(6)]
    for first in range(0, 6, 2):
        open_item, waiting = (
            list(make_item_events(number, items[number])) for number in (first, first + 1)
        )
        for event in (open_item[0], *waiting, *open_item[1:]):
            list(stream.feed(event, 700_000))
    events = list(stream.feed({"type": "response.completed", "response": make_response(*items)}))
    assert [event["type"] for event in events] == ["message_delta", "message_stop"]


def test_too_many_events_that_wait_end_the_stream() -> None:
    item = {"type": "message", "id": "msg_1"}
    stream = MessageStream(make_request(), lambda characters: characters)
    for number in (0, 1):
        event = {"type": "response.output_item.added", "output_index": number, "item": item}
        list(stream.feed(event, 100))
    late = {"type": "response.output_text.delta", "output_index": 1, "delta": "x"}
    (error,) = stream.feed(late, 9 << 20)
    assert error["type"] == "error"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow."}, "rate_limit_error"),
        ({"type": "error", "error": {"code": "server_error", "message": "No."}}, "api_error"),
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "server_is_overloaded", "message": "Busy."}},
            },
            "overloaded_error",
        ),
    ],
)
def test_failure_ends_with_one_error_event(event: Event, kind: str) -> None:
    events = [*list(make_events(make_response(make_text("Hello"))))[:6], event, event]
    converted = run(events)
    assert converted[-1]["type"] == "error"
    assert converted[-1]["error"]["type"] == kind


def test_thinking_that_nobody_asked_for_is_not_shown() -> None:
    response = make_response(make_reasoning("Hm."), make_text("Hello"))
    message = accumulate(run(make_events(response), convert_request(BASE)))
    assert [block["type"] for block in message["content"]] == ["text"]


def test_citations_and_searches_arrive() -> None:
    annotation = {
        "type": "url_citation",
        "start_index": 0,
        "end_index": 5,
        "url": "https://example.com",
        "title": "Example",
    }
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {
            "type": "search",
            "query": "weather",
            "sources": [{"type": "url", "url": "https://example.com"}],
        },
    }
    response = make_response(search, make_text("Hello there", annotations=[annotation]))
    message = accumulate(run(make_events(response)))
    kinds = [block["type"] for block in message["content"]]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text"]
    assert message["content"][0]["input"] == {"query": "weather"}
    assert message["content"][2]["citations"][0]["cited_text"] == "Hello"
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_frame_names_its_event() -> None:
    assert encode_event({"type": "ping"}) == b'event: ping\ndata: {"type":"ping"}\n\n'


NAMES = st.sampled_from(
    ["type", "item", "delta", "response", "output_index", "content", "output", "usage", "error"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=6,
)


@given(RESPONSES, st.data())
def test_garbage_from_the_provider_breaks_nothing(
    response: dict[str, Any], data: st.DataObject
) -> None:
    """Events are replaced, lost or have another member; the stream keeps its grammar, and ends with
    at most one error."""
    events: list[Any] = [dict(each) for each in make_events(response, 3)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(events) - 1))
        change = data.draw(st.sampled_from(["member", "event", "none"]))
        if change == "member" and events[at]:
            name = data.draw(st.sampled_from(sorted(events[at])))
            events[at] = events[at] | {name: data.draw(JSON)}
        else:
            events[at] = data.draw(st.dictionaries(NAMES, JSON)) if change == "event" else {}
    converted = list(
        itertools.chain.from_iterable(
            map(MessageStream(make_request(), lambda characters: characters).feed, events)
        )
    )
    if converted and converted[-1]["type"] in ("error", "message_stop"):
        check_stream(converted)
