"""Chunks of chat for clients of VM-X, however the stream is cut, and what a header may contain."""

from __future__ import annotations

import pytest

from headgate.gateway.vmx_answers import (
    VmxChatCaller,
    VmxEncoder,
    decorate_event,
    describe_call_event,
    list_event_lines,
    put_member,
    render_lines,
)
from headgate.relay.targets import CallEvent
from tests.fakes.pipeline import FakeCaller, FakeEncoder, ManualClock

VALUE = b'{"events":[]}'
FALLBACK = CallEvent(
    "fallback",
    1.5,
    failed_model="a",
    failed_provider="openai",
    failed_credential_id="cred_1",
    reason="It\r\nfailed",
    status=503,
)
ROUTING = CallEvent(
    "routing",
    2.0,
    original_provider="openai",
    original_model="a",
    routed_provider="groq",
    routed_model="b",
)


class Encoder(VmxEncoder):
    def __init__(self) -> None:
        super().__init__(FakeEncoder(), ManualClock())

    def describe_chunk(self) -> bytes:
        return VALUE


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_stream_that_is_cut_at_every_byte_is_decorated_the_same(line_end: bytes) -> None:
    stream = b'data: {"a":"}"}\n\n: c\n\ndata: {}\n\ndata: {"error":{}}\n\ndata: [DONE]\n\n'
    stream = stream.replace(b"\n", line_end)
    expected = (
        b'data: {"a":"}","vmx":{"events":[]}}\n\n: c\n\ndata: {"vmx":{"events":[]}}\n\n'
        b'data: {"error":{}}\n\ndata: [DONE]\n\n'
    ).replace(b"\n", line_end)
    for size in (1, 2, 7, len(stream)):
        client = FakeCaller()
        caller = VmxChatCaller(client, Encoder())
        caller.start(200, b"")
        for at in range(0, len(stream), size):
            caller.write(stream[at : at + size])
        caller.finish()
        assert client.body == expected


def test_stream_that_ends_with_an_error_ends_with_a_mark() -> None:
    client = FakeCaller()
    caller = VmxChatCaller(client, Encoder())
    caller.start(200, b"")
    caller.write(b'data: {"error":{}}\n\n')
    caller.finish()
    assert client.body == b'data: {"error":{}}\n\ndata: [ERROR]\n\n'


def test_event_that_is_no_object_passes_as_it_is() -> None:
    client = FakeCaller()
    caller = VmxChatCaller(client, Encoder())
    caller.start(200, b"")
    garbage = b'data: {"a":1\n\ndata: {"a":1} x\n\n'
    caller.write(garbage)
    caller.finish()
    assert client.body == garbage


def test_comment_of_an_event_is_no_part_of_its_chunk() -> None:
    event = b'data: {"a":1}\n: }\n\n'
    assert decorate_event(event, b'{"a":1}', b"1") == b'data: {"a":1,"vmx":1}\n: }\n\n'


def test_stream_without_a_state_passes_as_it_is() -> None:
    event = b'data: {"a":1}\n\n'
    assert decorate_event(event, b'{"a":1}', b"") == event


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1 } \n', b'{"a": 1,"vmx":1 } \n'),
        (b"{ }", b'{"vmx":1 }'),
        (b'{"vmx":{"x":2},"a":1}', b'{"vmx":1,"a":1}'),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2,"vmx":1}'),
        (b"[1]", b"[1]"),
    ],
)
def test_member_is_added_and_other_bytes_stay(body: bytes, expected: bytes) -> None:
    assert put_member(body, b"1") == expected


def test_events_are_told_in_headers_and_in_the_body() -> None:
    lines = render_lines(list_event_lines([FALLBACK, ROUTING])).decode().splitlines()
    assert lines == [
        "x-vmx-event-count: 2",
        "x-vmx-event-0-type: fallback",
        "x-vmx-event-0-timestamp: 1970-01-01T00:00:01.500Z",
        "x-vmx-event-0-fallback-failed-model: a",
        "x-vmx-event-0-fallback-failure-reason: Itfailed",
        "x-vmx-event-1-type: routing",
        "x-vmx-event-1-timestamp: 1970-01-01T00:00:02.000Z",
        "x-vmx-event-1-routing-original-provider: openai",
        "x-vmx-event-1-routing-original-model: a",
        "x-vmx-event-1-routing-routed-provider: groq",
        "x-vmx-event-1-routing-routed-model: b",
    ]
    assert describe_call_event(FALLBACK) == {
        "type": "fallback",
        "timestamp": "1970-01-01T00:00:01.500Z",
        "data": {
            "model": {"provider": "openai", "model": "a", "connectionId": "cred_1"},
            "failureReason": "It\r\nfailed",
            "statusCode": 503,
        },
    }
    assert describe_call_event(ROUTING)["data"] == {
        "originalModel": {"provider": "openai", "model": "a"},
        "routedModel": {"provider": "groq", "model": "b"},
    }
