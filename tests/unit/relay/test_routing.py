from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.llm.request import JsonRequest
from headgate.llm.usage import Reading
from headgate.relay.breaker import Breakers
from headgate.relay.ports import Model
from headgate.relay.routing import PathUnsafe, Routing, check_path
from headgate.relay.trip import Trip
from tests.fakes.stage import CREDENTIAL, FakeCredentials, FakeModels, ManualClock, make_call


def plan(body: bytes, path: str = "/chat/completions", models: FakeModels | None = None) -> Trip:
    trip = Trip(replace(make_call(path, body=body), query=b"?a=%20b"), Reading())
    Routing(FakeCredentials(), models or FakeModels(), Breakers(ManualClock())).plan(trip)
    return trip


def body_of(trip: Trip) -> bytes:
    assert isinstance(trip.body, JsonRequest)
    return trip.body.body


def test_bytes_of_the_client_are_sent_as_they_came() -> None:
    body = b'{ "model" : "gpt-5.4-mini", "future": [1.50, 1e2], "model_x": null }'
    trip = plan(body)
    assert body_of(trip) is body
    assert trip.target == b"/v1/chat/completions?a=%20b"
    assert trip.credential is CREDENTIAL


def test_usage_is_asked_of_a_stream_only_where_the_client_did_not() -> None:
    trip = plan(b'{"model":"gpt-5.4-mini","stream":true}')
    assert trip.asked_usage
    assert b'"include_usage":true' in body_of(trip)
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    trip = plan(body)
    assert not trip.asked_usage
    assert body_of(trip) is body


def test_usage_is_not_asked_where_the_wire_tells_it_anyway() -> None:
    body = b'{"model":"gpt-5.4-mini","stream":true}'
    trip = plan(body, "/responses")
    assert (trip.streams, trip.asked_usage) == (True, False)
    assert body_of(trip) is body


def test_envelopes_stay_here() -> None:
    assert body_of(plan(b'{"model":"m","vmx":{"a":1},"n":1}')) == b'{"model":"m","n":1}'


def test_model_of_the_catalog_goes_by_its_name_at_the_provider() -> None:
    models = FakeModels(Model("fast", "gpt-5.4-mini-2026-03-17"))
    assert b'"gpt-5.4-mini-2026-03-17"' in body_of(plan(b'{"model":"fast"}', models=models))
    assert body_of(plan(b'{"model":"unknown"}', models=models)) == b'{"model":"unknown"}'


@pytest.mark.parametrize("path", [b"/files/file-1/content", b"/a%20b", b"/models/ft:gpt-4o:x::1"])
def test_plain_path_passes(path: bytes) -> None:
    assert check_path(path) is path


@pytest.mark.parametrize(
    "path",
    [
        b"/../admin",
        b"/files/..",
        b"/files/./x",
        b"/%2e%2e/admin",
        b"/%252e%252e/admin",
        b"/..%2fadmin",
        b"/a%5c..%5cb",
        b"/a//b",
        b"/a%0d%0ax",
        b"/a%00",
    ],
)
def test_path_that_could_leave_the_base_address_is_refused(path: bytes) -> None:
    with pytest.raises(PathUnsafe):
        check_path(path)
