from __future__ import annotations

import msgspec
import pytest

from headgate.llm import sse
from headgate.llm.usage import ParsedUsage
from headgate.llm.wire import chat, responses
from tests.fakes.sse_framer import SseFramer


def fields(stream: bytes) -> list[tuple[bytes, bytes]]:
    framer = SseFramer()
    return [(e.name, e.data) for e in framer.feed(stream) + framer.close()]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_lines(end: bytes) -> None:
    stream = b"event: a\ndata: 1\ndata: 2\n\ndata:3\n\n".replace(b"\n", end)
    assert fields(stream) == [(b"a", b"1\n2"), (b"", b"3")]


def test_comments_ids_and_a_byte_order_mark_are_skipped() -> None:
    assert fields(b"\xef\xbb\xbfdata: 1\n: c\nid: 9\nretry: 5\nother\n\n: ping\n\n") == [
        (b"", b"1"),
        (b"", b""),
    ]


def test_only_one_space_after_the_colon_is_taken() -> None:
    assert fields(b"data:  x\n\ndata\n\n") == [(b"", b" x"), (b"", b"")]


def test_last_event_name_counts() -> None:
    assert fields(b"event: a\nevent: b\ndata: 1\n\n") == [(b"b", b"1")]


def test_mixed_line_ends_make_blank_lines() -> None:
    assert fields(b"data: 1\n\r\ndata: 2\r\n\ndata: 3\n\rdata: 4\r\r\n") == [
        (b"", b"1"),
        (b"", b"2"),
        (b"", b"3"),
        (b"", b"4"),
    ]


def test_crlf_alone_is_no_blank_line() -> None:
    assert fields(b"data: 1\r\ndata: 2\r\n\r\n") == [(b"", b"1\n2")]


def test_last_cr_waits_for_its_lf() -> None:
    framer = SseFramer()
    assert framer.feed(b"data: 1\r\n\r") == []
    assert framer.feed(b"\ndata") == [sse.Event(b"data: 1\r\n\r\n", b"", b"1")]
    assert framer.pending == b"data"


def test_events_over_the_limit_are_refused_whole_or_in_parts() -> None:
    for chunks in ([b"data: 12345\n\n"], [b"data: 1", b"2345\n"]):
        framer = SseFramer(event_bytes_max=10)
        with pytest.raises(sse.EventTooLargeError):
            _ = [framer.feed(chunk) for chunk in chunks]
    assert SseFramer(event_bytes_max=10).feed(b"data: 12\n\n")[0].data == b"12"


def test_chat_error_has_the_shape_of_an_error_answer() -> None:
    error = {"message": "no\nway", "type": "x", "param": None, "code": None}
    frame = chat.METER.encode_error(error, ParsedUsage())
    assert frame.startswith(b'data: {"error":')
    assert msgspec.json.decode(sse.parse_event(frame).data)["error"]["message"] == "no\nway"


def test_responses_error_is_a_typed_event_numbered_after_the_last() -> None:
    error = {"message": "m", "type": "x", "param": None, "code": "c"}
    event = sse.parse_event(responses.METER.encode_error(error, ParsedUsage(sequence_number=3)))
    assert event.name == b"error"
    assert msgspec.json.decode(event.data) == {
        "type": "error", "code": "c", "message": "m", "param": None, "sequence_number": 4,
        "error": error,
    }  # fmt: skip
