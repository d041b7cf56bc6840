"""Requests and answers that are made to hurt: work grows with their size, and nothing crashes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest

from headgate.llm.convert.chat_to_responses import reply as completions
from headgate.llm.convert.chat_to_responses.request import convert_request as convert_completion
from headgate.llm.convert.fields import UnreadableResponseError, decode_answer
from headgate.llm.convert.messages_to_responses import reply as messages
from headgate.llm.convert.messages_to_responses.request import convert_request as convert_message
from headgate.llm.convert.messages_to_responses.stream import MessageStream
from headgate.llm.convert.responses_to_chat.request import convert_request as convert_response
from headgate.llm.convert.responses_to_chat.stream import CALLS_MAX, ResponseStream
from headgate.llm.request import InvalidRequestError
from tests.fakes.grammar.messages import check_stream

HELLO = [{"role": "user", "content": "x"}]
MESSAGE = convert_message({"model": "m", "max_tokens": 9, "messages": HELLO})
COMPLETION = convert_completion({"model": "m", "messages": HELLO})
RESPONSE = convert_response({"model": "m", "input": "x"})
CITED = {"type": "url_citation", "start_index": 0, "end_index": 1 << 63, "url": "u", "title": "t"}
FACTOR = 8
RATIO_MAX = 4.0 * FACTOR


def make_chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def alternate(count: int) -> int:
    """Return the size of a stream in which reasoning and text alternate."""
    stream = ResponseStream(RESPONSE)
    pair = (make_chunk(reasoning="a"), make_chunk(content="b"))
    return measure(event for _ in range(count) for chunk in pair for event in stream.feed(chunk))


def cite(count: int) -> int:
    """Return the size of a stream in which each piece of a long text is cited with all before."""
    stream = MessageStream(MESSAGE, lambda characters: characters)
    piece = {"type": "response.output_text.delta", "output_index": 0, "delta": "ab" * 50}
    cited = {
        "type": "response.output_text.annotation.added",
        "output_index": 0,
        "annotation": CITED,
    }
    return measure(
        event for _ in range(count) for each in (piece, cited) for event in stream.feed(each)
    )


def list_messages(count: int) -> int:
    """Return the size of an answer of very many messages."""
    item = {"type": "message", "content": [{"type": "output_text", "text": "ab" * 50}]}
    return measure([completions.convert_reply({"output": [item] * count}, COMPLETION)])


def measure(events: Iterable[Any]) -> int:
    return sum(len(msgspec.json.encode(event)) for event in events)


def allow_tools(count: int) -> int:
    """Return the size of a request whose choice lists all of its tools."""
    tools: list[Any] = [{"type": "function", "name": f"t{number}"} for number in range(count)]
    choice: dict[str, Any] = {"type": "allowed_tools", "mode": "auto", "tools": tools}
    fields = {"model": "m", "input": "x", "tools": tools, "tool_choice": choice}
    return measure([convert_response(fields).body])


def reason(count: int) -> int:
    """Return the size of a request with very many items of reasoning, for one message."""
    item = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "ab" * 500}]}
    return measure([convert_response({"model": "m", "input": [item] * count}).body])


@pytest.mark.parametrize(
    ("convert", "count"),
    [(alternate, 400), (cite, 400), (list_messages, 2_500), (allow_tools, 400), (reason, 1_000)],
)
def test_work_and_output_grow_with_the_size_of_the_input(
    convert: Callable[[int], int], count: int
) -> None:
    best = [float("inf"), float("inf")]
    sizes = [0, 0]
    for _ in range(3):
        for number, times in enumerate((1, FACTOR)):
            started = time.thread_time()
            sizes[number] = convert(count * times)
            best[number] = min(best[number], time.thread_time() - started)
    assert sizes[1] <= sizes[0] * FACTOR * 1.2
    assert best[1] <= best[0] * RATIO_MAX


def test_description_of_a_namespace_is_not_repeated_without_end() -> None:
    tools = [{"type": "function", "name": f"t{number}"} for number in range(100)]
    namespace: dict[str, Any] = {"type": "namespace", "name": "n", "tools": tools}
    namespace["description"] = "d" * 10_000
    fields: dict[str, Any] = {"model": "m", "input": "x", "tools": [namespace]}
    assert len(convert_response(fields).body["tools"]) == 100
    namespace["description"] += "d"
    with pytest.raises(InvalidRequestError) as caught:
        convert_response(fields)
    assert caught.value.param == "tools[0].description"


def test_citation_quotes_what_anthropic_quotes() -> None:
    text = "0123456789" * 30
    for start, quoted in ((0, text[:150]), (295, text[295:]), (1 << 63, "")):
        cited = {**CITED, "start_index": start}
        part = {"type": "output_text", "text": text, "annotations": [cited]}
        item = {"type": "message", "content": [part]}
        whole = messages.convert_reply({"output": [item]}, MESSAGE)
        assert whole["content"][0]["citations"][0]["cited_text"] == quoted
        stream = MessageStream(MESSAGE, lambda characters: characters)
        place = {"output_index": 0, "content_index": 0}
        events = [
            {"type": "response.output_text.delta", **place, "delta": text[:200]},
            {"type": "response.output_text.delta", **place, "delta": text[200:]},
            {"type": "response.output_text.annotation.added", **place, "annotation": cited},
        ]
        last = [each for event in events for each in stream.feed(event)][-1]
        assert last["delta"]["citation"]["cited_text"] == quoted


@pytest.mark.parametrize("kind", [["message"], {"message": 1}, None, 7, True])
def test_items_of_impossible_types_are_passed_over(kind: Any) -> None:
    answer = {"output": [{"type": kind, "content": [{"type": kind, "text": "x"}]}]}
    assert completions.convert_reply(answer, COMPLETION)["choices"][0]["message"]["content"] == ""
    assert messages.convert_reply(answer, MESSAGE)["content"] == []


def test_nothing_follows_the_error_of_too_many_calls() -> None:
    stream = ResponseStream(RESPONSE)
    calls = [{"index": n, "id": f"c{n}", "function": {"name": "f"}} for n in range(CALLS_MAX + 1)]
    more = {"index": 0, "function": {"arguments": "{}"}}
    events = list(stream.feed(make_chunk(tool_calls=[*calls, more])))
    assert [event["type"] for event in events].index("error") == len(events) - 1


def test_pieces_of_many_calls_find_their_own_call() -> None:
    stream = ResponseStream(RESPONSE)
    calls: list[Any] = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}},
        {"index": 1, "id": "b", "function": {"name": "f", "arguments": "2"}},
        {"index": 0, "function": {"arguments": "3"}},
        {"function": {"arguments": "4"}},
        {"index": 0, "id": "c", "function": {"name": "f", "arguments": "5"}},
        {"index": [0], "function": {"arguments": "6"}},
    ]
    for call in calls:
        assert list(stream.feed(make_chunk(tool_calls=[call])))
    list(stream.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
    *_, end = stream.close()
    found = [(each["call_id"], each["arguments"]) for each in end["response"]["output"]]
    assert found == [("a", "13"), ("b", "24"), ("c", "56")]


def test_call_waits_for_its_name() -> None:
    stream = ResponseStream(RESPONSE)
    calls: list[Any] = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "", "arguments": ""}},
        {"index": 1, "id": "b"},
        {"index": 0, "id": None, "function": {"name": "get"}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    for call in calls:
        list(stream.feed(make_chunk(tool_calls=[call])))
    list(stream.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
    *events, end = stream.close()
    found = [(each["call_id"], each["name"]) for each in end["response"]["output"]]
    assert found == [("a", "get"), ("b", "")]
    assert [each["type"] for each in events].count("response.output_item.done") == 2


def test_text_that_only_the_last_event_has_is_sent() -> None:
    stream = MessageStream(MESSAGE, lambda characters: characters)
    parts = [{"type": "output_text", "text": each} for each in ("Hello", "there")]
    events: list[Any] = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "He"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "l"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "message", "content": parts},
        },
    ]
    converted = [each for event in events for each in stream.feed(event)]
    pieces = [each["delta"]["text"] for each in converted if "delta" in each]
    assert "".join(pieces) == "Hellothere"
    assert [each["type"] for each in converted].count("content_block_start") == 2


@pytest.mark.parametrize("kind", ["message", "function_call", "reasoning"])
def test_pieces_of_other_kinds_begin_blocks_of_their_own(kind: str) -> None:
    request = convert_message(
        {"model": "m", "max_tokens": 9, "messages": HELLO, "thinking": {"type": "adaptive"}}
    )
    pieces = (
        "response.output_text.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_summary_text.delta",
    )
    for order in itertools.permutations(pieces):
        stream = MessageStream(request, lambda characters: characters)
        events: list[Any] = [{"type": "response.output_item.added", "item": {"type": kind}}]
        events += [{"type": each, "delta": "{}"} for each in order]
        events.append({"type": "response.completed", "response": {"output": []}})
        converted = [each for event in events for each in stream.feed({**event, "output_index": 0})]
        check_stream(converted)
        assert converted[-1]["type"] == "message_stop"


def test_answers_that_only_lenient_readers_understand_are_read() -> None:
    data = rb'{"half":"a\ud83d","whole":"\ud83d\ude00","n":[NaN,-Infinity,1e999,1.5],"\udc00":1}'
    assert decode_answer(data) == {
        "half": "a\ufffd",
        "whole": "\U0001f600",
        "n": [None, None, None, 1.5],
        "\ufffd": 1,
    }
    for garbage in (b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5_000):
        with pytest.raises(UnreadableResponseError):
            decode_answer(garbage)
