from __future__ import annotations

import pytest

from headgate.llm import sse
from headgate.llm.tap import StreamTap
from headgate.llm.usage import ParsedUsage, Usage
from headgate.llm.wire import chat, images, opaque, responses

TEXT = b'data: {"id":"c","choices":[{"delta":{"content":"hi"}}],"usage":null}\n\n'
BARE = b'data: {"id":"c","choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"


def chat_tap(*, drop: bool = False, **limits: int) -> tuple[StreamTap, ParsedUsage]:
    parsed = ParsedUsage()
    return StreamTap(chat.METER, parsed, drop_usage=drop, **limits), parsed


def test_whole_events_leave_as_the_very_same_object() -> None:
    tap, _ = chat_tap()
    assert tap.feed(TEXT) is TEXT


def test_part_of_an_event_waits_for_its_end() -> None:
    tap, _ = chat_tap()
    assert tap.feed(TEXT + TEXT[:20]) == TEXT
    assert tap.feed(TEXT[20:]) == TEXT


def test_last_event_is_withheld_until_release() -> None:
    tap, _ = chat_tap()
    assert tap.feed(TEXT + DONE + b": after") == TEXT
    assert tap.finished
    assert tap.feed(b"wards\n\n") == b""
    assert tap.close() == b""
    assert tap.release() == DONE + b": afterwards\n\n"
    assert tap.feed(b"late") == b"late"


def test_usage_chunk_is_dropped_only_when_the_client_did_not_ask() -> None:
    for drop, left in ((True, BARE), (False, TEXT + USAGE)):
        tap, parsed = chat_tap(drop=drop)
        assert tap.feed(TEXT) + tap.feed(USAGE) + tap.feed(DONE) == left
        assert parsed.usage == Usage(input_tokens=3, output_tokens=4)


def test_chunk_with_choices_is_never_dropped() -> None:
    tap, parsed = chat_tap(drop=True)
    event = TEXT.replace(b"null", b'{"prompt_tokens":3,"completion_tokens":4}')
    assert tap.feed(event) == event
    assert parsed.usage is not None


def test_first_chunk_without_choices_is_kept() -> None:
    tap, _ = chat_tap(drop=True)
    event = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    assert tap.feed(event) == event


def test_markers_inside_texts_finish_nothing() -> None:
    tap, parsed = chat_tap(drop=True)
    event = b'data: {"choices":[{"delta":{"content":"[DONE] \\"usage\\":{} \\"error\\":1"}}]}\n\n'
    assert tap.feed(event) == event
    assert not tap.finished
    assert parsed.usage is None
    assert parsed.error_code is None


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"code":"boom"}}\n\n',
        b'data: {"choices":[{"delta":{}}], "\\u0065rror" : {"code":"boom"}}\n\n',
        b'data: {"a":"\\ud800","error":{"code":"boom"}}\n\n',
        b'data: {"error":\ndata: {"code":"boom"}}\n\n',
    ],
)
def test_error_in_band_finishes_the_answer(event: bytes) -> None:
    tap, parsed = chat_tap()
    assert tap.feed(event) == b""
    assert tap.finished
    assert parsed.error_code == "boom"


def test_event_named_error_finishes_the_answer() -> None:
    tap, parsed = chat_tap()
    assert tap.feed(b'event: error\ndata: {"message":"no"}\n\n') == b""
    assert parsed.error_code == "error"


def test_stream_that_breaks_off_in_an_event_says_so() -> None:
    tap, _ = chat_tap()
    tap.feed(TEXT[:30])
    assert tap.close() == b""
    assert tap.truncated
    assert not tap.finished


def test_stream_that_ends_between_events_is_not_truncated() -> None:
    tap, _ = chat_tap()
    assert tap.feed(TEXT + b"\n") + tap.close() == TEXT + b"\n"
    assert not tap.truncated


@pytest.mark.parametrize("ending", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\r"])
def test_last_event_without_its_blank_line_still_finishes(ending: bytes) -> None:
    tap, _ = chat_tap()
    tap.feed(TEXT + ending)
    assert tap.close() == b""
    assert tap.finished
    assert not tap.truncated
    assert tap.release() == ending


def test_usage_in_an_unended_last_event_is_read() -> None:
    tap, parsed = chat_tap(drop=True)
    tap.feed(USAGE.rstrip())
    assert tap.close() == b""
    assert parsed.usage is not None


def test_bulk_events_pass_at_once_without_a_limit() -> None:
    head = b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image",'
    tap = StreamTap(images.METER, ParsedUsage(), drop_usage=False, event_bytes_max=200)
    assert tap.feed(head[:50]) == b""
    assert tap.feed(head[50:]) == head
    assert tap.feed(b"x" * 1000) == b"x" * 1000
    assert tap.feed(b"\n") == b"\n"
    assert tap.feed(b"\n" + head) == b"\n" + head
    assert tap.in_event
    assert tap.close() == b""
    assert tap.truncated


def test_opaque_stream_passes_at_once() -> None:
    tap = StreamTap(opaque.METER, ParsedUsage(), drop_usage=True, event_bytes_max=4)
    for chunk in (b"da", b"ta: [DONE]\n", b"\n", b"\x00\xff", DONE):
        assert tap.feed(chunk) == chunk
    assert not tap.finished


def test_event_over_the_limit_passes_unread_and_is_not_kept() -> None:
    tap, parsed = chat_tap(event_bytes_max=4096)
    picture = b"data: {" + b"A" * 5000
    assert tap.feed(TEXT) == TEXT
    left = tap.feed(picture)
    assert picture.startswith(left)
    assert len(left) > 3000
    for _ in range(100):
        left += tap.feed(b"A" * 1000)
    assert len(left) > 100_000, "bytes go on as they come"
    assert tap.in_event
    left += tap.feed(b'","error":{"code":"no"}}\n\n')
    assert left == picture + b"A" * 100_000 + b'","error":{"code":"no"}}\n\n'
    assert parsed.error_code is None
    assert not tap.in_event
    assert tap.feed(DONE) == b""
    assert tap.finished


@pytest.mark.parametrize("size", [1, 700, 5000, 1 << 20])
@pytest.mark.parametrize("drop", [True, False])
def test_event_over_the_limit_is_the_same_however_it_is_cut(size: int, drop: bool) -> None:
    head = b'data: {"id":"c","choices":[{"delta":{"content":"' + b"x" * 5000
    large = head + b'"}}],"usage":null,"obfuscation":"abc"}\n\n'
    stream = TEXT + large + TEXT + DONE
    tap, parsed = chat_tap(drop=drop, event_bytes_max=4096)
    left = b"".join(tap.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    expected = TEXT + large + TEXT
    assert left == (expected.replace(b',"usage":null', b"") if drop else expected)
    assert (tap.release(), parsed.output_bytes) == (DONE, 4)


@pytest.mark.parametrize("size", [3, 1 << 20])
def test_last_event_over_the_limit_is_known_by_its_name(size: int) -> None:
    tap = StreamTap(responses.METER, ParsedUsage(), drop_usage=False, event_bytes_max=2048)
    event = b"event: response.completed\ndata: {" + b"A" * 3000 + b"}\n\n"
    stream = event + b": more"
    left = b"".join(tap.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert tap.finished
    assert (left, tap.release()) == (event[:-1], event[-1:] + b": more")


def test_answer_is_complete_when_every_choice_has_a_finish_reason() -> None:
    tap, parsed = chat_tap()
    event = b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":%b}]}\n\n'
    tap.feed(event % (0, b"null"))
    tap.feed(event % (1, b'""'))
    assert not chat.METER.is_complete(parsed, 1)
    tap.feed(event % (1, b'"stop"'))
    tap.feed(event % (1, b'"stop"'))
    assert chat.METER.is_complete(parsed, 1)
    assert not chat.METER.is_complete(parsed, 2)
    tap.feed(event % (0, b'"length"'))
    assert chat.METER.is_complete(parsed, 2)
    tap.feed(event % (10**15, b'"stop"'))
    assert not chat.METER.is_complete(parsed, 3)
    assert not responses.METER.is_complete(parsed, 1)
    assert opaque.METER.is_complete(parsed, 1)


def test_endless_bytes_after_the_end_are_refused() -> None:
    tap, _ = chat_tap(event_bytes_max=100)
    tap.feed(DONE)
    with pytest.raises(sse.EventTooLargeError):
        _ = [tap.feed(b"x" * 50) for _ in range(10)]


def test_data_decides_over_the_event_name_in_responses() -> None:
    tap = StreamTap(responses.METER, parsed := ParsedUsage(), drop_usage=False)
    event = (
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.completed","response":{"id":"r","usage":{"input_tokens":1}}}\n\n'
    )
    assert tap.feed(event) == b""
    assert parsed.usage == Usage(input_tokens=1)
