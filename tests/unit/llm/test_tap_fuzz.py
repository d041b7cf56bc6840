"""Any bytes, cut anywhere."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.llm import sse
from headgate.llm.meter import Meter
from headgate.llm.tap import StreamTap
from headgate.llm.usage import Reading
from headgate.llm.wire import audio, chat, images, opaque, responses
from tests.fakes.framer import Framer

METERS = [chat.METER, responses.METER, images.METER, audio.METER, opaque.METER]
EVENT_BYTES_MAX = 256
PIECES = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"\xef\xbb\xbf", b": ping", b"data: ",
    b"data:", b"data", b"event: ", b"event: error\n", b"id: 7\n", b"retry: x\n", b"[DONE]",
    b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}', b'{"choices":[],"usage":{}}',
    b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}', b'{"usage":null}',
    b'{"choices":[{"delta":{"content":"h\xc3\xa9"}}]}', b'{"choices":[1]}', b'{"choices":{}}',
    b'{"error":{"code":"x"}}', b'{"error":[]}', b'{"\\u0065rror":{"type":7}}', b'{"a":"\\ud800"}',
    b'{"type":"response.completed","response":{"usage":{"input_tokens":1},"output":[1]}}',
    b'{"type":"response.output_text.delta","delta":"x"}', b'{"type":7,"delta":{}}', b"{", b"[" * 9,
    b'data: {"type":"speech.audio.delta","audio":"',
    b'event: image_edit.partial_image\ndata: {"type"',
    b'data: {"type":"image_generation.partial_image",', b'{"type":"image_generation.completed"}',
    b'{"type":"transcript.text.done","usage":{"type":"duration","seconds":1e999}}',
]  # fmt: skip

streams = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=30).map(
    b"".join
)


def carry(
    meter: Meter, chunks: list[bytes], *, drop: bool
) -> tuple[bytes, bytes, Reading, bool, bool]:
    tap = StreamTap(
        meter, reading := Reading(), drop_usage_only=drop, event_bytes_max=EVENT_BYTES_MAX
    )
    left = b"".join(tap.feed(chunk) for chunk in chunks) + tap.close()
    return left, tap.release(), reading, tap.finished, tap.truncated


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(streams, st.lists(st.integers(0, 2000), max_size=6), st.sampled_from(METERS), st.booleans())
def test_any_stream_passes_whole_and_the_same_at_any_cut(
    stream: bytes, cuts: list[int], meter: Meter, drop: bool
) -> None:
    try:
        whole = carry(meter, [stream], drop=drop)
    except sse.EventTooLarge:
        with pytest.raises(sse.EventTooLarge):
            carry(meter, [bytes([byte]) for byte in stream], drop=drop)
        return
    assert carry(meter, cut(stream, cuts), drop=drop) == whole
    assert carry(meter, [bytes([byte]) for byte in stream], drop=drop) == whole
    if not drop:
        left = whole[0] + whole[1]
        assert stream.startswith(left)
        assert left == stream or whole[4]


@settings(max_examples=200, deadline=None)
@given(streams, st.lists(st.integers(0, 2000), max_size=6))
def test_framer_returns_every_byte_and_the_same_events_at_any_cut(
    stream: bytes, cuts: list[int]
) -> None:
    def frame(chunks: list[bytes]) -> tuple[list[sse.Event], bytes]:
        framer = Framer()
        events = [event for chunk in chunks for event in framer.feed(chunk)]
        return events + framer.close(), framer.pending

    events, pending = frame([stream])
    assert b"".join(event.raw for event in events) + pending == stream
    assert frame(cut(stream, cuts)) == (events, pending)
    assert frame([bytes([byte]) for byte in stream]) == (events, pending)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.sampled_from(PIECES)), st.sampled_from(METERS))
def test_no_body_makes_a_meter_raise(body: bytes, meter: Meter) -> None:
    meter.read_body(body, Reading())


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_time_grows_with_the_bytes_only(line_end: bytes) -> None:
    stream = (b"data: x" + line_end * 2) * 30_000
    started = time.process_time()
    tap = StreamTap(chat.METER, Reading(), drop_usage_only=False)
    assert tap.feed(stream) + tap.close() == stream
    assert time.process_time() - started < 5


def test_an_endless_event_in_single_bytes_is_refused_in_linear_time() -> None:
    tap = StreamTap(chat.METER, Reading(), drop_usage_only=False, event_bytes_max=200_000)
    started = time.process_time()
    with pytest.raises(sse.EventTooLarge):
        _ = [tap.feed(b"x") for _ in range(200_002)]
    assert time.process_time() - started < 5
