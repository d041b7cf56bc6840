from __future__ import annotations

import msgspec
import pytest

from headgate.llm.meter import Meter
from headgate.llm.usage import Reading, Usage
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


def read(meter: Meter, body: object) -> Reading:
    meter.read_body(msgspec.json.encode(body), reading := Reading())
    return reading


def events(meter: Meter, *bodies: object) -> tuple[Reading, list[bool]]:
    reading = Reading()
    return reading, [meter.read_event(b"", msgspec.json.encode(b), reading) for b in bodies]


@pytest.mark.parametrize("meter", [chat.METER, completions.METER])
def test_chat_body_tells_id_model_tier_and_usage(meter: Meter) -> None:
    body = {
        "id": "c", "model": "m", "service_tier": "priority", "choices": [{"index": 0}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }  # fmt: skip
    assert read(meter, body) == Reading(
        usage=Usage(input_tokens=3, output_tokens=4), model="m", answer_id="c",
        service_tier="priority",
    )  # fmt: skip


@pytest.mark.parametrize("meter", [embeddings.METER, decisions.METER])
def test_body_with_prompt_or_input_tokens_is_read(meter: Meter) -> None:
    assert read(meter, {"model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}) == Reading(
        usage=Usage(input_tokens=8), model="m"
    )


def test_moderation_tells_only_who_answered() -> None:
    assert read(moderations.METER, {"id": "modr", "model": "m", "results": []}) == Reading(
        answer_id="modr", model="m"
    )


def test_fields_of_odd_types_are_left_out() -> None:
    body = {"id": 7, "model": [1], "service_tier": {"a": 1}, "usage": "x", "error": None}
    assert read(chat.METER, body) == Reading()


def test_error_under_status_200_is_told() -> None:
    assert read(chat.METER, {"error": {"code": None, "type": "server_error"}}).error_code == (
        "server_error"
    )
    assert read(chat.METER, {"error": {"code": 502}}).error_code == "502"
    assert read(chat.METER, {"error": "no"}).error_code == "error"


def test_last_readable_usage_wins() -> None:
    reading, _ = events(
        chat.METER,
        {"usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {"usage": {"prompt_tokens": 1, "completion_tokens": 9}},
        {"usage": {"prompt_tokens": -1}},
        {"usage": None},
    )
    assert reading.usage == Usage(input_tokens=1, output_tokens=9)


def test_chunk_with_choices_of_an_unknown_shape_still_brings_its_usage() -> None:
    reading, ends = events(
        chat.METER,
        {"choices": [{"delta": {"content": ["x"]}}], "usage": {"prompt_tokens": 1}},
    )
    assert reading.usage == Usage(input_tokens=1)
    assert ends == [False]


def test_usage_only_is_a_chunk_without_choices() -> None:
    assert chat.METER.is_usage_only(b'{"choices" : [ ] ,"usage":{}}')
    assert not chat.METER.is_usage_only(b'{"choices":[{}],"usage":{}}')
    assert not chat.METER.is_usage_only(b'{"usage":{}}')
    assert not chat.METER.is_usage_only(b"[DONE]")


@pytest.mark.parametrize(
    "number", [b"-1", b"NaN", b"1e999", b"1000000000000000000", b'"7"', b"1.5", b"null"]
)
def test_odd_numbers_of_an_upstream_leave_no_usage(number: bytes) -> None:
    reading = Reading()
    chat.METER.read_event(b"", b'{"usage":{"prompt_tokens":%b}}' % number, reading)
    chat.METER.read_body(b'{"usage":{"prompt_tokens":%b}}' % number, reading)
    responses.METER.read_body(b'{"usage":{"input_tokens":%b}}' % number, reading)
    assert reading.usage is None


def test_answer_that_only_lenient_readers_take_is_read_too() -> None:
    reading = Reading()
    chat.METER.read_body(b'{"x":"\\ud800","usage":{"prompt_tokens":1}}', reading)
    assert reading.usage == Usage(input_tokens=1)


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
RESPONSE_READING = Reading(
    usage=Usage(
        input_tokens=5,
        output_tokens=6,
        tool_calls={"web_search_call": 2, "file_search_call": 1, "code_interpreter_call": 1},
    ),
    model="m",
    answer_id="resp",
    status="completed",
)


def test_response_body_tells_the_calls_of_built_in_tools() -> None:
    assert read(responses.METER, RESPONSE) == RESPONSE_READING


def test_streamed_response_equals_the_buffered_one() -> None:
    reading, ends = events(responses.METER, {"type": "response.completed", "response": RESPONSE})
    assert (reading, ends) == (RESPONSE_READING, [True])


def test_response_with_odd_items_still_brings_its_usage() -> None:
    odd = {**RESPONSE, "output": [1, None, *RESPONSE["output"], {"type": 7}]}  # type: ignore[misc]
    assert read(responses.METER, odd) == RESPONSE_READING
    surrogate = msgspec.json.encode({"type": "response.completed", "response": odd})
    surrogate = surrogate[:-1] + b',"x":"\\ud800"}'
    reading = Reading()
    assert responses.METER.read_event(b"", surrogate, reading)
    assert reading == RESPONSE_READING


@pytest.mark.parametrize("response", [None, 7, [], "x"])
def test_end_without_a_response_is_an_end(response: object) -> None:
    reading, ends = events(responses.METER, {"type": "response.failed", "response": response})
    assert (reading, ends) == (Reading(), [True])


def test_failed_response_tells_its_error() -> None:
    failed = {"status": "failed", "error": {"code": "server_error"}, "usage": None}
    reading, ends = events(responses.METER, {"type": "response.failed", "response": failed})
    assert (reading.error_code, reading.status, ends) == ("server_error", "failed", [True])


def test_event_name_counts_where_the_data_has_no_type() -> None:
    data = msgspec.json.encode({"response": RESPONSE})
    assert responses.METER.read_event(b"response.completed", data, reading := Reading())
    assert reading == RESPONSE_READING


@pytest.mark.parametrize("meter", [responses.METER, images.METER, audio.METER, embeddings.METER])
def test_done_and_errors_end_every_wire(meter: Meter) -> None:
    assert meter.read_event(b"", b"[DONE]", Reading())
    assert meter.read_event(b"error", b"not json", reading := Reading())
    assert reading.error_code == "error"
    assert meter.read_event(b"", b'{"error":{"type":"t"}}', reading := Reading())
    assert reading.error_code == "t"


def test_odd_end_without_a_response_is_an_end() -> None:
    data = b'{"type":"response.completed","response":7,"x":"\\ud800"}'
    assert responses.METER.read_event(b"", data, reading := Reading())
    assert reading == Reading()


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
    reading, ends = events(images.METER, done, {"type": "image_edit.completed"})
    assert ends == [True, True]
    assert reading.usage == Usage(input_tokens=1, output_tokens=2, output_image_tokens=2, images=1)


def test_transcripts_tell_tokens_or_duration() -> None:
    tokens = {"text": "x", "usage": {"type": "tokens", "input_tokens": 4, "output_tokens": 2}}
    assert read(audio.METER, tokens).usage == Usage(input_tokens=4, output_tokens=2)
    duration = {"text": "x", "usage": {"type": "duration", "seconds": 3}}
    assert read(audio.METER, duration).usage == Usage(audio_milliseconds=3000)
    assert read(audio.METER, {"text": "x", "duration": 1.25}).usage == Usage(
        audio_milliseconds=1250
    )


def test_sound_and_plain_text_tell_nothing() -> None:
    for body in (b"\xff\xfb\x90" * 999, b"1\n00:00 --> 00:01\nhi", b"", b"{"):
        audio.METER.read_body(body, reading := Reading())
        assert reading == Reading()


def test_opaque_answers_tell_nothing() -> None:
    opaque.METER.read_body(b'{"usage":{"prompt_tokens":1}}', reading := Reading())
    assert not opaque.METER.read_event(b"", b"[DONE]", reading)
    assert not opaque.METER.is_usage_only(b"")
    assert reading == Reading()
