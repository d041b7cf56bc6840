"""Chat streams become streams of Responses, and say the same as a whole answer."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from headgate.llm import sse
from headgate.llm.convert.fields import UnreadableResponseError
from headgate.llm.convert.responses_to_chat.reply import convert_reply
from headgate.llm.convert.responses_to_chat.request import ChatRequest, convert_request
from headgate.llm.convert.responses_to_chat.stream import (
    BYTES_MAX,
    CALLS_MAX,
    ResponseStream,
    make_error,
)
from tests.fakes.grammar.responses import check_stream

GOLDEN = Path(__file__).parents[4] / "golden" / "chat"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
Chunk = dict[str, Any]
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "namespace", "name": "files", "description": "", "tools": [
        {"type": "function", "name": "put", "parameters": {}, "strict": False},
    ]},
    {"type": "custom", "name": "patch"},
]  # fmt: skip
LOGPROBS = [{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}]


def make_request(**fields: Any) -> ChatRequest:
    include = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    base: dict[str, Any] = {"model": "llama", "input": "x", "tools": TOOLS, "include": include}
    return convert_request(base | fields)


def make_chunk(delta: Chunk, finish: str | None = None, **choice: Any) -> Chunk:
    return {
        "id": "chatcmpl-abc",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "llama-1",
        "service_tier": "default",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
    }


def make_chunks(message: Chunk, finish: str, size: int) -> list[Chunk]:
    """Return a message in pieces of so many characters, as servers send it."""
    chunks = [make_chunk({"role": "assistant", "content": ""})]
    for name in ("reasoning", "content", "refusal"):
        text = message.get(name) or ""
        for at in range(0, len(text), size):
            logprobs = {"content": LOGPROBS} if name == "content" else None
            chunks.append(make_chunk({name: text[at : at + size]}, logprobs=logprobs))
    if message.get("annotations"):
        chunks.append(make_chunk({"annotations": message["annotations"]}))
    for index, call in enumerate(message.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        head: Chunk = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        chunks.append(make_chunk({"tool_calls": [head]}))
        for at in range(0, len(arguments), size):
            piece = {"index": index, "function": {"arguments": arguments[at : at + size]}}
            chunks.append(make_chunk({"tool_calls": [piece]}))
    chunks.append(make_chunk({}, finish))
    chunks.append({**make_chunk({}), "choices": [], "usage": USAGE})
    return chunks


def run(chunks: Iterable[Chunk], request: ChatRequest | None = None) -> list[dict[str, Any]]:
    stream = ResponseStream(request or make_request())
    # A frame is written before the next one is made.
    fed = itertools.chain.from_iterable(stream.feed(each, 10) for each in chunks)
    events = [copy.deepcopy(each) for each in itertools.chain(fed, stream.close())]
    assert stream.ended
    check_stream(events)
    return events


def make_call(number: int, name: str, arguments: str) -> Chunk:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def make_answer(
    reasoning: str, content: str, refusal: str, calls: Sequence[tuple[str, str]]
) -> Chunk:
    cited = {"url": "https://a.test", "title": "A", "start_index": 0, "end_index": 1}
    notes = [{"type": "url_citation", "url_citation": cited}] if content else []
    return {
        "role": "assistant",
        "reasoning": reasoning,
        "content": content,
        "refusal": refusal,
        "annotations": notes if not refusal else [],
        "tool_calls": [make_call(n, *each) for n, each in enumerate(calls)],
    }


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["get", "files__put", "patch"]), st.sampled_from(['{"input":"ä"}', "{}"])
    ),
    max_size=3,
)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=9), CALLS, st.integers(1, 9))
def test_stream_says_the_same_as_the_whole_answer(
    reasoning: str, content: str, refusal: str, calls: list[tuple[str, str]], size: int
) -> None:
    message = make_answer(reasoning, content, refusal, calls)
    finish = "tool_calls" if calls else "stop"
    events = run(make_chunks(message, finish, size))
    whole = {
        **make_chunk({}),
        "object": "chat.completion",
        "usage": USAGE,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": finish,
                "logprobs": {"content": LOGPROBS * -(-len(content) // size)},
            }
        ],
    }
    converted = convert_reply(whole, make_request())
    assert events[-1]["response"] == converted


@pytest.mark.parametrize("refusal", ["", "No."])
def test_official_sdk_follows_a_stream_with_every_kind_of_item(refusal: str) -> None:
    calls = [("get", "{}"), ("files__put", '{"a":1}'), ("patch", '{"input":"x"}')]
    message = make_answer("Hm.", "Hello", refusal, calls)
    events = run(make_chunks(message, "tool_calls", 2))
    state = ResponseStreamState(text_format=openai.omit, input_tools=openai.omit)
    for event in events:
        state.handle_event(EVENTS.validate_python(event))
    Response.model_validate(events[-1]["response"], strict=False)


def test_calls_come_back_by_their_own_names() -> None:
    calls = [
        make_call(1, "files__put", '{"a":1}'),
        make_call(2, "patch", '{"input":"*** Begin"}'),
        make_call(3, "patch", "no JSON"),
        make_call(4, "get", ""),
    ]
    response = run(make_chunks({"tool_calls": calls}, "tool_calls", 3))[-1]["response"]
    first, second, third, fourth = response["output"]
    assert (first["type"], first["namespace"], first["name"]) == ("function_call", "files", "put")
    assert (second["type"], second["input"]) == ("custom_tool_call", "*** Begin")
    assert third["input"] == "no JSON"
    assert fourth["arguments"] == "{}"
    assert [each["call_id"] for each in response["output"]] == [f"call_{n}" for n in range(1, 5)]
    assert len({each["id"] for each in response["output"]}) == 4


def test_calls_that_alternate_stay_apart() -> None:
    def piece(index: int | None, text: str, **head: Any) -> Chunk:
        return make_chunk(
            {"tool_calls": [{"index": index, "function": {"arguments": text, **head}}]}
        )

    chunks = [
        piece(0, "", name="a"),
        piece(1, "", name="b"),
        piece(0, '{"x"'),
        piece(1, "{}"),
        piece(0, ":1}"),
        make_chunk({}, "tool_calls"),
    ]
    output = run(chunks)[-1]["response"]["output"]
    assert [each["arguments"] for each in output] == ['{"x":1}', "{}"]


@pytest.mark.parametrize("index", [None, 0])
def test_calls_without_an_index_are_told_by_their_ids(index: int | None) -> None:
    calls = [{**make_call(n, "get", "{}"), "index": index} for n in range(3)]
    chunks = [*(make_chunk({"tool_calls": [each]}) for each in calls), make_chunk({}, "tool_calls")]
    assert len(run(chunks)[-1]["response"]["output"]) == 3


def test_reasoning_comes_as_an_item_that_can_go_back() -> None:
    chunks = [make_chunk({"reasoning_content": "Hm."}), make_chunk({"content": "x"}, "stop")]
    item = run(chunks)[-1]["response"]["output"][0]
    assert item["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert item["encrypted_content"] == "headgate:reasoning_content"
    assert (
        "encrypted_content"
        not in run(chunks, make_request(include=[]))[-1]["response"]["output"][0]
    )
    # Some servers send their thinking among the parts of the content.
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "x"},
    ]
    output = run([make_chunk({"content": parts}, "stop")])[-1]["response"]["output"]
    assert [each["type"] for each in output] == ["reasoning", "message"]


@pytest.mark.parametrize(
    ("finish", "kind", "details"),
    [
        ("length", "response.incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "response.incomplete", {"reason": "content_filter"}),
        ("stop", "response.completed", None),
    ],
)
def test_reason_of_the_end(finish: str, kind: str, details: Any) -> None:
    last = run([make_chunk({"content": "x"}, finish)])[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (kind, details)


def test_usage_has_the_names_of_responses() -> None:
    assert run(make_chunks({"content": "x"}, "stop", 1))[-1]["response"]["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }


def test_response_repeats_its_request() -> None:
    request = make_request(instructions="Be brief.", metadata={"a": "b"}, temperature=0.5)
    response = run([make_chunk({"content": "x"}, "stop")], request)[-1]["response"]
    assert response["instructions"] == "Be brief."
    assert response["metadata"] == {"a": "b"}
    assert response["temperature"] == 0.5
    assert response["tools"] == TOOLS
    assert response["store"] is False
    assert response["id"] == "resp_abc"


def test_answer_without_an_id_gets_one() -> None:
    request = convert_request({"model": "m", "input": "x"}, answer_id="fallback")
    answer = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    converted = convert_reply(answer, request)
    assert converted["id"] == "resp_fallback"
    assert converted["output"][0]["id"] == "msg_fallback"


def test_error_in_a_stream_ends_it_once() -> None:
    error = {"error": {"message": "No.", "code": "rate_limit_exceeded"}}
    stream = ResponseStream(make_request())
    events = [*stream.feed(make_chunk({"content": "x"})), *stream.feed(error), *stream.close()]
    check_stream(events)
    assert events[-1]["error"]["code"] == "rate_limit_exceeded"
    assert not list(stream.feed(make_chunk({"content": "x"})))
    assert not list(stream.fail(make_error(502, "Again.")))


def test_answer_that_is_too_long_to_keep_is_an_error() -> None:
    stream = ResponseStream(make_request())
    events = [*stream.feed(make_chunk({"content": "x"}), 9)]
    events += stream.feed(make_chunk({"content": "x"}), BYTES_MAX)
    check_stream(events)
    assert events[-1]["type"] == "error"
    calls = [{"index": n, "id": f"c{n}", "function": {"name": "f"}} for n in range(CALLS_MAX + 1)]
    assert run([make_chunk({"tool_calls": calls})])[-1]["type"] == "error"


def test_stream_without_an_end_is_an_error() -> None:
    for chunks in ([], [make_chunk({"content": "x"})]):
        assert run(chunks)[-1]["type"] == "error"


@pytest.mark.parametrize("answer", [None, [], {}, {"choices": []}, {"error": {"message": "No."}}])
def test_answer_that_is_no_completion(answer: Any) -> None:
    with pytest.raises(UnreadableResponseError):
        convert_reply(answer, make_request())


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "tool_calls", "function", "index", "content", "name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["choices", "usage", "id", "error"]), JUNK)))
def test_junk_is_no_crash(chunks: list[Chunk]) -> None:
    run([*chunks, make_chunk({"content": "x"}, "stop")])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.stem)
def test_golden_streams_are_converted(path: Path) -> None:
    data = path.read_bytes()
    ends = [0, *sse.find_ends(data, 0, final=True)]
    events = [sse.parse_event(data[a:b]).data for a, b in itertools.pairwise(ends)]
    run(msgspec.json.decode(each) for each in events if each and each != b"[DONE]")
