from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.llm.meter import Meter
from headgate.llm.usage import ParsedUsage, Usage
from headgate.llm.wire import (
    audio,
    chat,
    completions,
    decisions,
    embeddings,
    images,
    moderations,
    opaque,
    responses,
)


def read(meter: Meter, body: object) -> ParsedUsage:
    meter.read_body(msgspec.json.encode(body), parsed := ParsedUsage())
    return parsed


def events(meter: Meter, *bodies: object) -> tuple[ParsedUsage, list[bool]]:
    parsed = ParsedUsage()
    return parsed, [meter.read_event(b"", msgspec.json.encode(b), parsed) for b in bodies]


@pytest.mark.parametrize("meter", [chat.METER, completions.METER])
def test_id_model_tier_and_usage_of_a_chat_body_are_read(meter: Meter) -> None:
    body = {
        "id": "c", "model": "m", "service_tier": "priority", "choices": [{"index": 0}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }  # fmt: skip
    assert read(meter, body) == ParsedUsage(
        usage=Usage(input_tokens=3, output_tokens=4), model="m", answer_id="c",
        service_tier="priority",
    )  # fmt: skip


@pytest.mark.parametrize("meter", [embeddings.METER, decisions.METER])
def test_body_with_prompt_or_input_tokens_is_read(meter: Meter) -> None:
    assert read(
        meter, {"model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    ) == ParsedUsage(usage=Usage(input_tokens=8), model="m")


def test_moderation_reports_only_the_model() -> None:
    assert read(moderations.METER, {"id": "modr", "model": "m", "results": []}) == ParsedUsage(
        answer_id="modr", model="m"
    )


def test_fields_of_odd_types_are_left_out() -> None:
    body = {"id": 7, "model": [1], "service_tier": {"a": 1}, "usage": "x", "error": None}
    assert read(chat.METER, body) == ParsedUsage()


def test_error_under_status_200_is_read() -> None:
    assert read(chat.METER, {"error": {"code": None, "type": "server_error"}}).error_code == (
        "server_error"
    )
    assert read(chat.METER, {"error": {"code": 502}}).error_code == "502"
    assert read(chat.METER, {"error": "no"}).error_code == "error"


def test_last_readable_usage_wins() -> None:
    parsed, _ = events(
        chat.METER,
        {"usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 9}},
        {"usage": {"prompt_tokens": -1}},
        {"usage": None},
    )
    assert parsed.usage == Usage(input_tokens=1, output_tokens=9)


def test_chunk_with_choices_of_an_unknown_shape_still_brings_its_usage() -> None:
    parsed, ends = events(
        chat.METER,
        {"choices": [{"delta": {"content": ["x"]}}], "usage": {"prompt_tokens": 1}},
    )
    assert parsed.usage == Usage(input_tokens=1)
    assert ends == [False]


def test_usage_only_is_a_chunk_without_choices() -> None:
    assert chat.METER.is_usage_only(b'{"choices" : [ ] ,"usage":{}}')
    assert not chat.METER.is_usage_only(b'{"choices":[{}],"usage":{}}')
    assert not chat.METER.is_usage_only(b'{"usage":{}}')
    assert not chat.METER.is_usage_only(b"[DONE]")


@pytest.mark.parametrize(
    "number", [b"-1", b"NaN", b"1e999", b"1000000000000000000", b'"7"', b"1.5", b"null"]
)
def test_invalid_usage_numbers_are_ignored(number: bytes) -> None:
    parsed = ParsedUsage()
    chat.METER.read_event(b"", b'{"usage":{"prompt_tokens":%b}}' % number, parsed)
    chat.METER.read_body(b'{"usage":{"prompt_tokens":%b}}' % number, parsed)
    responses.METER.read_body(b'{"usage":{"input_tokens":%b}}' % number, parsed)
    assert parsed.usage is None


def test_answer_that_only_lenient_readers_take_is_read_too() -> None:
    parsed = ParsedUsage()
    chat.METER.read_body(b'{"x":"\\ud800","usage":{"prompt_tokens":1}}', parsed)
    assert parsed.usage == Usage(input_tokens=1)


IMAGE = {"b64_json": "iVBORw0KGgo="}
RESPONSE = {
    "id": "resp", "model": "m", "status": "completed", "error": None,
    "usage": {"input_tokens": 5, "output_tokens": 6},
    "output": [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        {"type": "code_interpreter_call"},
        {"type": "function_call"},
        {"type": "custom_tool_call"},
        {"type": "message"},
    ],
}  # fmt: skip
RESPONSE_READING = ParsedUsage(
    usage=Usage(
        input_tokens=5,
        output_tokens=6,
        tool_calls={"web_search_call": 2, "file_search_call": 1, "code_interpreter_call": 1},
    ),
    model="m",
    answer_id="resp",
    status="completed",
)


def test_built_in_tool_calls_of_a_response_body_are_counted() -> None:
    assert read(responses.METER, RESPONSE) == RESPONSE_READING


def test_streamed_response_equals_the_buffered_one() -> None:
    parsed, ends = events(responses.METER, {"type": "response.completed", "response": RESPONSE})
    assert (parsed, ends) == (RESPONSE_READING, [True])


def test_response_with_odd_items_still_brings_its_usage() -> None:
    odd = {**RESPONSE, "output": [1, None, *RESPONSE["output"], {"type": 7}]}  # type: ignore[misc]
    assert read(responses.METER, odd) == RESPONSE_READING
    surrogate = msgspec.json.encode({"type": "response.completed", "response": odd})
    surrogate = surrogate[:-1] + b',"x":"\\ud800"}'
    parsed = ParsedUsage()
    assert responses.METER.read_event(b"", surrogate, parsed)
    assert parsed == RESPONSE_READING


@pytest.mark.parametrize("response", [None, 7, [], "x"])
def test_end_without_a_response_is_an_end_of_the_kind_that_it_says(response: object) -> None:
    started = {"type": "response.created", "response": {"status": "in_progress"}}
    for before in ((), (started,)):
        failed = {"type": "response.failed", "response": response}
        parsed, ends = events(responses.METER, *before, failed)
        assert parsed == ParsedUsage(status="failed", error_code="failed")
        assert ends[-1]


def test_error_of_a_failed_response_is_read() -> None:
    failed = {"status": "failed", "error": {"code": "server_error"}, "usage": None}
    parsed, ends = events(responses.METER, {"type": "response.failed", "response": failed})
    assert (parsed.error_code, parsed.status, ends) == ("server_error", "failed", [True])


def test_event_name_counts_where_the_data_has_no_type() -> None:
    data = msgspec.json.encode({"response": RESPONSE})
    assert responses.METER.read_event(b"response.completed", data, parsed := ParsedUsage())
    assert parsed == RESPONSE_READING


@pytest.mark.parametrize("meter", [responses.METER, images.METER, audio.METER, embeddings.METER])
def test_done_and_errors_end_every_wire(meter: Meter) -> None:
    assert meter.read_event(b"", b"[DONE]", ParsedUsage())
    assert meter.read_event(b"error", b"not json", parsed := ParsedUsage())
    assert parsed.error_code == "error"
    assert meter.read_event(b"", b'{"error":{"type":"t"}}', parsed := ParsedUsage())
    assert parsed.error_code == "t"


def test_odd_end_without_a_response_is_an_end() -> None:
    data = b'{"type":"response.completed","response":7,"x":"\\ud800"}'
    assert responses.METER.read_event(b"", data, parsed := ParsedUsage())
    assert parsed == ParsedUsage(status="completed")


@pytest.mark.parametrize("meter", [responses.METER, images.METER, audio.METER, embeddings.METER])
def test_only_chat_has_events_for_usage_only(meter: Meter) -> None:
    assert not meter.is_usage_only(b'{"choices":[],"usage":{}}')


def test_images_are_counted_even_without_a_usage() -> None:
    assert read(images.METER, {"data": [IMAGE, IMAGE]}).usage == Usage(images=2)
    assert read(images.METER, {"data": []}).usage is None
    assert read(images.METER, {"data": 5}).usage is None
    assert read(images.METER, {"data": [IMAGE], "usage": {"input_tokens": -1}}).usage is None


def test_image_output_is_image_tokens_unless_divided() -> None:
    usage = {"input_tokens": 1, "output_tokens": 9}
    assert read(images.METER, {"data": [IMAGE], "usage": usage}).usage == Usage(
        input_tokens=1, output_tokens=9, output_image_tokens=9, images=1
    )
    usage |= {"output_tokens_details": {"image_tokens": 7, "text_tokens": 2}}  # type: ignore[dict-item]
    assert read(images.METER, {"data": [IMAGE], "usage": usage}).usage == Usage(
        input_tokens=1, output_tokens=9, output_image_tokens=7, images=1
    )


def test_image_events_after_the_usage_do_not_raise() -> None:
    done = {"type": "image_edit.completed", "usage": {"input_tokens": 1, "output_tokens": 2}}
    parsed, ends = events(images.METER, done, {"type": "image_edit.completed"})
    assert ends == [True, True]
    assert parsed.usage == Usage(input_tokens=1, output_tokens=2, output_image_tokens=2, images=1)


def test_usage_of_transcripts_is_tokens_or_duration() -> None:
    tokens = {"text": "x", "usage": {"type": "tokens", "input_tokens": 4, "output_tokens": 2}}
    assert read(audio.METER, tokens).usage == Usage(input_tokens=4, output_tokens=2)
    duration = {"text": "x", "usage": {"type": "duration", "seconds": 3}}
    assert read(audio.METER, duration).usage == Usage(audio_milliseconds=3000)
    assert read(audio.METER, {"text": "x", "duration": 1.25}).usage == Usage(
        audio_milliseconds=1250
    )


def test_sound_and_plain_text_report_no_usage() -> None:
    for body in (b"\xff\xfb\x90" * 999, b"1\n00:00 --> 00:01\nhi", b"", b"{"):
        audio.METER.read_body(body, parsed := ParsedUsage())
        assert parsed == ParsedUsage()


def test_opaque_answers_report_no_usage() -> None:
    opaque.METER.read_body(b'{"usage":{"prompt_tokens":1}}', parsed := ParsedUsage())
    assert not opaque.METER.read_event(b"", b"[DONE]", parsed)
    assert not opaque.METER.is_usage_only(b"")
    assert parsed == ParsedUsage()


SEARCH = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}
SHELL = {"type": "shell_call", "environment": {"type": "container_auto", "container_id": "c1"}}
USED = {"input_tokens": 5, "output_tokens": 6}


def stream_response(
    items: list[dict[str, Any]], output: list[dict[str, Any]], **response: Any
) -> ParsedUsage:
    """Return what is read of a response whose items come one by one, and again at the end."""
    answer = {"id": "resp", "status": "completed", "usage": USED, "output": output, **response}
    started = {**answer, "status": "in_progress", "usage": None, "output": []}
    parsed, ends = events(
        responses.METER,
        {"type": "response.created", "response": started},
        *(
            {"type": "response.output_item.done", "output_index": index, "item": item}
            for index, item in enumerate(items)
        ),
        {"type": "response.completed", "response": answer},
    )
    assert ends == [False] * (1 + len(items)) + [True]
    return parsed


def calls_of(parsed: ParsedUsage) -> dict[str, int]:
    assert parsed.usage is not None
    assert parsed.tool_items is None
    return parsed.usage.tool_calls


@pytest.mark.parametrize("output", [[], [SEARCH], [{**SEARCH, "id": "other"}], [{"type": "x"}]])
def test_calls_are_counted_once_whether_the_end_repeats_them_or_not(
    output: list[dict[str, Any]],
) -> None:
    assert calls_of(stream_response([SEARCH, SEARCH], output)) == {"web_search_call": 1}


def test_calls_without_ids_are_told_apart_by_their_place() -> None:
    items = [{"type": "web_search_call"}, {"type": "message"}, {"type": "web_search_call"}]
    assert calls_of(stream_response(items, [])) == {"web_search_call": 2}
    assert calls_of(stream_response(items, items)) == {"web_search_call": 2}
    assert calls_of(stream_response([], items)) == {"web_search_call": 2}
    parsed, _ = events(
        responses.METER,
        {"type": "response.output_item.done", "item": items[0]},
        {"type": "response.output_item.done", "item": items[0]},
    )
    assert {name: len(seen) for name, seen in (parsed.tool_items or {}).items()} == {
        "web_search_call": 2
    }


@pytest.mark.parametrize(
    "kind",
    [
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "mcp_call",
        "shell_call",
        "tool_search_call",
        "reasoning",
    ],
)
def test_calls_that_cost_their_tokens_only_are_not_counted(kind: str) -> None:
    item = {"type": kind, "id": "x", "status": "completed"}
    assert calls_of(stream_response([item], [item])) == {}
    assert read(responses.METER, {"usage": USED, "output": [item]}).usage == Usage(
        input_tokens=5, output_tokens=6
    )


def test_containers_are_counted_and_not_the_calls_in_them() -> None:
    code = {"type": "code_interpreter_call", "container_id": "c1"}
    items = [{**code, "id": "1"}, {**code, "id": "2"}, {**code, "container_id": "c2"}, SHELL, SHELL]
    assert calls_of(stream_response(items, [])) == {"code_interpreter_call": 2, "shell_call": 1}
    tools = [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}]
    large = stream_response(items[:1], items[:1], tools=tools)
    assert calls_of(large) == {"code_interpreter_call_4g": 1}
    assert calls_of(stream_response(items[:1], [], tools=7)) == {"code_interpreter_call": 1}


def test_types_of_calls_that_a_provider_makes_up_are_bounded() -> None:
    items = [{"type": f"{'x' * 99}{n}_call"} for n in range(9)]
    items += [{"type": f"x{n}_call"} for n in range(99)]
    calls = calls_of(stream_response(items, []))
    assert len(calls) <= 33
    assert max(map(len, calls)) == 64


@pytest.mark.parametrize("later", [{"prompt_tokens": 0, "completion_tokens": 0}, {}, None])
def test_empty_usage_never_replaces_a_real_one(later: object) -> None:
    told = {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    chunk: dict[str, Any] = {"choices": [], "usage": later}
    parsed, _ = events(chat.METER, {"usage": told}, chunk)
    assert parsed.usage == Usage(input_tokens=7, cached_tokens=2, output_tokens=3)


def test_usage_may_come_in_halves_or_as_a_running_total_in_each_chunk() -> None:
    halves = [{"prompt_tokens": 7, "completion_tokens": 0}, {"completion_tokens": 3}]
    running = [{"prompt_tokens": 7, "completion_tokens": n} for n in (1, 2, 3)]
    for chunks in (halves, running):
        parsed, _ = events(
            chat.METER, *(dict[str, Any](choices=[{}], usage=each) for each in chunks)
        )
        assert parsed.usage == Usage(input_tokens=7, output_tokens=3)


def test_usage_in_a_choice_counts() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    chunk: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]}
    last: dict[str, Any] = {"choices": [{"delta": {}, "usage": None}]}
    parsed, ends = events(chat.METER, chunk, last)
    assert (parsed.usage, ends) == (Usage(input_tokens=7, output_tokens=3), [False, False])


def test_usage_beside_a_response_or_before_its_end_counts() -> None:
    empty = {"id": "resp", "status": "completed", "usage": None, "output": [SEARCH]}
    expected = Usage(input_tokens=5, output_tokens=6, tool_calls={"web_search_call": 1})
    beside = {"type": "response.completed", "response": empty, "usage": USED}
    told: dict[str, Any] = {**empty, "status": "in_progress", "usage": USED, "output": []}
    early = {"type": "response.in_progress", "response": told}
    late = {"type": "response.completed", "response": empty}
    assert events(responses.METER, beside)[0].usage == expected
    assert events(responses.METER, early, late)[0].usage == expected


@pytest.mark.parametrize(
    ("response", "error", "reason"),
    [
        ({"status": "failed", "error": {"code": "server_error"}}, "server_error", None),
        ({"status": "failed", "error": None}, "failed", None),
        ({"status": "cancelled"}, "cancelled", None),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_x"}}, None, "max_x"),
        ({"status": "incomplete", "incomplete_details": None}, None, "incomplete"),
        ({"status": "completed"}, None, None),
    ],
)
def test_whole_and_streamed_answers_have_the_same_usage(
    response: dict[str, Any], error: str | None, reason: str | None
) -> None:
    answer: dict[str, Any] = {"id": "resp", "usage": USED, "output": [], **response}
    whole = read(responses.METER, answer)
    kind = f"response.{response['status']}"
    streamed, ends = events(responses.METER, {"type": kind, "response": answer})
    assert (whole.error_code, whole.incomplete_reason) == (error, reason)
    assert (streamed, ends) == (whole, [True])
