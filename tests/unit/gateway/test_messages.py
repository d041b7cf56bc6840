"""The client of a converted call: frames in whatever pieces, pings, and an end after settlement."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from headgate.gateway.converted import PING_SECONDS
from headgate.gateway.losses import render_losses
from headgate.gateway.messages import FORMAT, MessagesCaller
from headgate.llm import sse
from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.losses import RULES
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest, convert_request
from tests.fakes.grammar.messages import check_stream
from tests.fakes.pipeline import FakeCaller
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_call,
    make_events,
    make_reasoning,
    make_response,
    make_text,
)

RESPONSE = make_response(
    make_reasoning("Hm."), make_text("Héllo\r\nthere"), make_call("call_1", "get", '{"a":1}')
)


class FakeTimer:
    """Keep what was scheduled last; a test lets it happen."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None
        self.seconds = 0.0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        self.seconds, self.callback = seconds, callback
        return self

    def cancel(self) -> None:
        self.callback = None


class Client:
    def __init__(self, **fields: Any) -> None:
        self.caller = FakeCaller()
        self.timer = FakeTimer()
        self.messages = MessagesCaller(self.caller, make_request(**fields), self.timer.call_later)
        self.messages.start(200, b"")

    @property
    def events(self) -> list[dict[str, Any]]:
        ends = [0, *sse.find_ends(self.caller.body, 0, final=True)]
        raws = [self.caller.body[start:end] for start, end in itertools.pairwise(ends)]
        parsed = [sse.parse_event(raw) for raw in raws]
        events = [msgspec.json.decode(each.data) for each in parsed]
        assert [each.name.decode() for each in parsed] == [event["type"] for event in events]
        return events


def make_request(**fields: Any) -> ConvertedRequest:
    base = {
        "model": "gpt-5.4-mini",
        "max_tokens": 4_096,
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "adaptive"},
    }
    return convert_request(base | fields)


def encode(*, line_end: bytes = b"\n") -> bytes:
    frames = [
        sse.encode_event(msgspec.json.encode(event), event["type"].encode())
        for event in make_events(RESPONSE)
    ]
    return b"".join(frames).replace(b"\n", line_end)


def run(pieces: list[bytes]) -> list[dict[str, Any]]:
    client = Client()
    for piece in pieces:
        client.messages.write(piece)
    client.messages.finish()
    return client.events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_stream_that_is_cut_at_every_byte_gives_the_same_events(line_end: bytes) -> None:
    data = encode(line_end=line_end)
    expected = run([data])
    check_stream(expected)
    assert run([data[at : at + 1] for at in range(len(data))]) == expected
    for cut in range(1, len(data), 7):
        assert run([data[:cut], data[cut:]]) == expected


def test_end_of_a_message_that_is_cut_waits_for_the_settlement() -> None:
    client = Client(stop_sequences=["there"])
    data = encode()
    # The last event is passed on after the settlement.
    end = data.index(b"event: response.completed")
    client.messages.write(data[:end])
    assert client.messages.has_enough
    assert client.events[-1]["type"] == "content_block_stop"
    client.messages.write(data[end:])
    client.messages.finish()
    check_stream(client.events)
    assert client.events[-2]["delta"]["stop_sequence"] == "there"


def test_silence_is_filled_with_pings_until_the_end() -> None:
    client = Client()
    assert client.timer.seconds == PING_SECONDS / 2
    first, *rest = map(encode_each, make_events(RESPONSE, 3))
    sent: list[int] = []
    for data in (b"", first, b"", b""):
        client.messages.write(data)
        assert client.timer.callback is not None
        client.timer.callback()
        sent.append(client.caller.body.count(FORMAT.ping))
    # The second is that of the beginning itself, which was no silence.
    assert sent == [1, 2, 3, 4]
    client.messages.write(b"".join(rest))
    client.messages.finish()
    assert client.timer.callback is None


def encode_each(event: dict[str, Any]) -> bytes:
    return sse.encode_event(msgspec.json.encode(event), event["type"].encode())


def test_client_that_is_gone_gets_no_pings() -> None:
    client = Client()
    client.caller.gone = True
    assert client.timer.callback is not None
    client.timer.callback()
    assert client.caller.body == b""


def test_stream_that_ends_too_early_ends_with_one_error() -> None:
    data = encode()
    client = Client()
    client.messages.write(data[: len(data) // 2])
    client.messages.finish()
    check_stream(client.events)
    assert client.events[-1]["error"]["type"] == "api_error"


def test_event_that_is_garbled_ends_the_stream_with_an_error() -> None:
    client = Client()
    client.messages.write(b"data: [DONE]\n\n: comment\n\n" + encode()[:800])
    client.messages.write(b"\n\ndata: {\n\n")
    client.messages.finish()
    check_stream(client.events)
    assert client.events[-1]["type"] == "error"


def test_losses_fit_into_one_header() -> None:
    losses = Losses(RULES)
    assert render_losses(losses) == b""
    for number in range(50):
        losses.add("unknown field", f"field_é\r\n{number},;{'x' * 9_999}")
    line = render_losses(losses)
    assert line.count(b"\r\n") == 1
    assert line.isascii()
    assert line.endswith(b"18 more\r\n")
    assert len(line) < 3_000
