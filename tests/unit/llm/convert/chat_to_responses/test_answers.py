"""Answers of Responses become chat completions: streamed and whole, they say the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from headgate.llm.convert.chat_to_responses.reply import convert_reply
from headgate.llm.convert.chat_to_responses.request import ConvertedCompletion
from headgate.llm.convert.chat_to_responses.stream import (
    END,
    CompletionStream,
    encode_chunk,
    make_error,
)
from headgate.llm.convert.fields import UnreadableResponseError
from tests.fakes.grammar.chat import check_stream
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_call,
    make_events,
    make_reasoning,
    make_response,
    make_text,
)

CITATION = {"type": "url_citation", "start_index": 0, "end_index": 3, "title": "t", "url": "u"}
CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c9", "name": "g", "input": "ls -l"}
REFUSAL = {
    "type": "message",
    "id": "msg_2",
    "role": "assistant",
    "content": [{"type": "refusal", "refusal": "I cannot do that."}],
}
INCOMPLETE = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
TWO_TEXTS = (
    make_text("Searching", annotations=[CITATION]),
    make_text("done", annotations=[CITATION]),
)
ANSWERS = {
    "text": make_response(make_reasoning("Hm."), make_text("Hello there")),
    "nothing": make_response(),
    "refusal": make_response(REFUSAL),
    "calls": make_response(make_call("c1", "f", '{"a":1}'), make_call("c2", "f", ""), CUSTOM),
    "text and a call": make_response(make_text("One moment"), make_call("c1", "f", "{}")),
    "two texts with citations": make_response(*TWO_TEXTS),
    "cut by the limit": make_response(make_text("Hel"), **INCOMPLETE),
    "filtered": make_response(status="incomplete", incomplete_details={"reason": "content_filter"}),
}


def make_request(**fields: Any) -> ConvertedCompletion:
    return ConvertedCompletion({}, "m", includes_usage=True, **fields)


def run(
    events: Iterable[dict[str, Any]], request: ConvertedCompletion | None = None
) -> list[dict[str, Any]]:
    stream = CompletionStream(request or make_request(), lambda count: count, 7)
    chunks = [chunk for event in events for chunk in stream.feed(event)]
    chunks += stream.close()
    assert stream.ended
    check_stream(None if chunk is END else chunk for chunk in chunks)
    return chunks


def add_up(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Check the grammar of a whole stream, and return the completion that a client makes of it."""
    check_stream(None if chunk is END else chunk for chunk in chunks)
    assert chunks[-1] is END
    assert encode_chunk(chunks[-1]) == b"data: [DONE]\n\n"
    *chunks, last = chunks[:-1]
    for chunk in (*chunks, last):
        # The official types of chunks know no calls of custom tools, which OpenAI sends.
        if b'"custom"' not in encode_chunk(chunk):
            ChatCompletionChunk.model_validate(chunk)
        assert chunk["object"] == "chat.completion.chunk"
    assert {chunk["id"] for chunk in (*chunks, last)} == {"chatcmpl-abc"}
    assert last["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [each["finish_reason"] for each in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["delta"] == {}
    return {
        "message": merge([each["delta"] for each in choices]),
        "finish_reason": choices[-1]["finish_reason"],
        "usage": last["usage"],
    }


def merge(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    calls: dict[int, dict[str, Any]] = {}
    merged: dict[str, Any] = {"role": "assistant", "content": "", "refusal": "", "annotations": []}
    for delta in deltas:
        merged["content"] += delta.get("content") or ""
        merged["refusal"] += delta.get("refusal") or ""
        merged["annotations"] += delta.get("annotations") or []
        for call in delta.get("tool_calls") or ():
            add_call(calls.setdefault(call["index"], {}), call)
        if "function_call" in delta:
            found = merged.setdefault("function_call", {"name": "", "arguments": ""})
            for name, value in delta["function_call"].items():
                found[name] += value
    assert list(calls) == list(range(len(calls)))
    merged["refusal"] = merged["refusal"] or None
    if not merged["content"] and (calls or merged["refusal"] or "function_call" in merged):
        merged["content"] = None
    return merged | ({"tool_calls": list(calls.values())} if calls else {})


def add_call(found: dict[str, Any], call: dict[str, Any]) -> None:
    if not found:
        assert {"id", "type"} <= call.keys(), "a call begins with its id"
        found |= {name: value for name, value in call.items() if name != "index"}
        return
    kind = found["type"]
    (argument,) = call[kind]
    found[kind][argument] += call[kind][argument]


@pytest.mark.parametrize("name", ANSWERS)
def test_stream_adds_up_to_the_whole_answer(name: str) -> None:
    response = ANSWERS[name]
    whole = convert_reply(response, make_request())
    ChatCompletion.model_validate(whole)
    choice = whole["choices"][0]
    expected = {
        "message": choice["message"],
        "finish_reason": choice["finish_reason"],
        "usage": whole["usage"],
    }
    events = list(make_events(response))
    assert add_up(run(events)) == expected
    # A provider may tell an item, or all of them, at the end only.
    without_deltas = [each for each in events if not str(each["type"]).endswith(".delta")]
    assert add_up(run(without_deltas)) == expected
    assert add_up(run(events[-1:])) == expected


def test_whole_answer_has_the_fields_of_a_completion() -> None:
    response = make_response(
        make_text("Hi"), created_at=1_800_000_000.5, metadata={"a": "b"}, service_tier="flex"
    )
    whole = convert_reply(response, make_request())
    assert whole == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "gpt-5.4-mini-2026",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 20,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "flex",
        "system_fingerprint": None,
        "metadata": {"a": "b"},
    }


def test_citations_of_a_second_text_move_behind_the_first() -> None:
    message = convert_reply(make_response(*TWO_TEXTS), make_request())["choices"][0]["message"]
    text = message["content"]
    assert text == "Searching\n\ndone"
    cited = [each["url_citation"] for each in message["annotations"]]
    assert [text[each["start_index"] : each["end_index"]] for each in cited] == ["Sea", "don"]


def test_deprecated_function_call_is_told_as_one() -> None:
    request = make_request(names_functions=True)
    response = make_response(make_call("c1", "f", '{"a":1}'))
    choice = convert_reply(response, request)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    streamed = add_up(run(make_events(response), request))
    assert streamed["message"] == choice["message"]
    assert streamed["finish_reason"] == "function_call"


def test_comments_are_left_out_of_an_answer_that_is_json() -> None:
    comment = {**make_text("Let me think."), "phase": "commentary"}
    response = make_response(comment, make_text('{"a":1}'))
    request = make_request(is_json=True)
    assert convert_reply(response, request)["choices"][0]["message"]["content"] == '{"a":1}'
    assert add_up(run(make_events(response), request))["message"]["content"] == '{"a":1}'
    plain = convert_reply(response, make_request())["choices"][0]["message"]["content"]
    assert plain == 'Let me think.\n\n{"a":1}'


@pytest.mark.parametrize("stop", ["END", "there", "e ", "N"])
def test_stop_sequence_cuts_streamed_and_whole_answers_alike(stop: str) -> None:
    response = make_response(make_text("See there END of it"), make_call("c1", "f", "{}"))
    request = make_request(stop=(stop,))
    choice = convert_reply(response, request)["choices"][0]
    expected = "See there END of it".partition(stop)[0]
    assert choice["message"]["content"] == expected
    assert choice["finish_reason"] == "stop"
    assert "tool_calls" not in choice["message"]
    for size in (1, 3, 100):
        streamed = add_up(run(make_events(response, size), request))
        assert streamed["message"]["content"] == expected
        assert streamed["usage"]["completion_tokens"] == 50


def test_cut_answer_that_is_read_no_further_has_an_estimated_usage() -> None:
    request = make_request(stop=("END",))
    stream = CompletionStream(request, lambda characters: characters, 7)
    events = list(make_events(make_response(make_text("abc END"))))
    chunks = [chunk for event in events[:-3] for chunk in stream.feed(event)]
    assert stream.stopped
    assert not stream.ended
    chunks += stream.close()
    streamed = add_up(chunks)
    assert (streamed["usage"]["prompt_tokens"], streamed["finish_reason"]) == (7, "stop")
    assert streamed["usage"]["completion_tokens"] >= 3


def test_usage_is_told_only_to_whom_asked_for_it() -> None:
    request = ConvertedCompletion({}, "m")
    chunks = run(make_events(make_response(make_text("Hi"))), request)
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in chunk for chunk in chunks)


def test_logprobs_come_with_their_tokens() -> None:
    tokens = [
        {"token": each, "logprob": -0.5, "bytes": [72], "top_logprobs": []}
        for each in ("Hi", " yo")
    ]
    whole = make_response(make_text("Hi yo", logprobs=tokens))
    choice = convert_reply(whole, make_request())["choices"][0]
    assert choice["logprobs"] == {"content": tokens, "refusal": None}
    cut = convert_reply(whole, make_request(stop=("yo",)))["choices"][0]
    assert [each["token"] for each in cut["logprobs"]["content"]] == ["Hi"]
    delta = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hi",
        "logprobs": [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "H"}]}],
        "obfuscation": "xx",
    }
    stream = CompletionStream(make_request(), len_of)
    chunk = list(stream.feed(delta))[-1]
    assert chunk["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["token"] == "H"
    assert chunk["obfuscation"] == "xx"


def len_of(characters: int) -> int:
    return characters


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        (
            {"type": "response.failed", "response": {"error": {"code": "c", "message": "m"}}},
            "m",
            "c",
        ),
        ({"type": "error", "code": "c", "message": "m", "param": None}, "m", "c"),
        ({"type": "error", "error": {"code": "c", "message": "m", "type": "t"}}, "m", "c"),
        (
            {"type": "response.failed"},
            "The provider ended its answer with an error.",
            "server_error",
        ),
    ],
)
def test_failed_stream_ends_with_one_error(event: dict[str, Any], message: str, code: str) -> None:
    begun = list(make_events(make_response(make_text("Hi"))))[:4]
    chunks = run([*begun, event, event])
    assert [chunk for chunk in chunks if "error" in chunk] == chunks[-1:]
    assert (chunks[-1]["error"]["message"], chunks[-1]["error"]["code"]) == (message, code)
    stream = CompletionStream(make_request(), len_of)
    assert list(stream.fail(make_error(502, "x"))) == [make_error(502, "x")]
    assert list(stream.fail(make_error(502, "x"))) == []


@pytest.mark.parametrize(
    "answer", [None, [], {"a": 1}, {"output": "x"}, make_response(status="failed")]
)
def test_answer_that_is_no_response_is_unreadable(answer: Any) -> None:
    with pytest.raises(UnreadableResponseError):
        convert_reply(answer, make_request())


def test_items_of_strange_types_do_no_harm() -> None:
    output: list[Any] = [None, 1, {"type": "web_search_call"}, {"type": "message", "content": "x"}]
    response = make_response() | {"output": output, "usage": None, "created_at": "now"}
    whole = convert_reply(response, make_request())
    assert whole["choices"][0]["message"]["content"] == ""
    assert whole["usage"] is None
    events = [
        {"type": "response.output_item.added", "output_index": "x", "item": None},
        {"type": "response.output_text.delta", "output_index": 0, "delta": 5},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "x"},
        {"type": "response.completed", "response": response},
    ]
    assert run(events)[-1] is END
