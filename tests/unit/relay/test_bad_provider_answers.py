"""Answers that a provider should not give: redirects, codings, errors under 200, repeated keys."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from headgate.kit.http.message import Headers
from headgate.llm.usage import Usage
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ClientResponse, ResponseFactory
from headgate.relay.pricing import FREE, price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.upstream import InvalidProviderResponseError, read_response
from tests.fakes.pipeline import (
    CHAT,
    CREDENTIAL,
    STREAMED_CHAT,
    FakeCaller,
    FakeEncoder,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

KEY = b"sk-provider-0123456789"
MASK = b"[removed]" + b"*" * (len(KEY) - 9)
SSE: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]
BYTES: Headers = [(b"content-type", b"application/octet-stream")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def plan(path: str = "/chat/completions", body: bytes = CHAT, method: str = "POST") -> CallState:
    state = make_state(make_call(path, body=body, method=method))
    state.credential = replace(CREDENTIAL, secret=KEY)
    state.attempts, state.was_sent = 1, True
    return state


def deliver(state: CallState, response: FakeResponse, caller: FakeCaller) -> ClientResponse:
    responses = ResponseFactory(ManualClock(), body_bytes_max=1 << 20, event_bytes_max=1 << 16)
    return responses.create(state, read_response(response), caller, FakeEncoder())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_refused_and_costs_nothing(status: int) -> None:
    state, response = plan("/files/f/content", b"", "GET"), FakeResponse(status, BYTES)
    with pytest.raises(InvalidProviderResponseError, match="not followed") as raised:
        deliver(state, response, FakeCaller())
    state.end_early(raised.value, disconnected=False)
    assert response.aborted
    assert (state.outcome, price_call(state, FakeModels(), 0.0)) == ("upstream_error", FREE)


async def test_answer_that_was_not_modified_is_passed_on() -> None:
    state, caller = plan("/files/f/content", b"", "GET"), FakeCaller()
    delivery = deliver(state, FakeResponse(304), caller)
    await delivery.transfer()
    assert state.outcome == "completed"


async def test_stream_in_an_unknown_coding_is_refused_before_it_begins() -> None:
    state, caller = plan(body=STREAMED_CHAT), FakeCaller()
    response = FakeResponse(200, [*SSE, (b"content-encoding", b"compress")])
    with pytest.raises(InvalidProviderResponseError, match="cannot be decoded"):
        deliver(state, response, caller)
    assert response.aborted
    assert not state.streamed


async def test_stream_whose_coding_is_none_is_a_stream() -> None:
    state = plan(body=STREAMED_CHAT)
    response = FakeResponse(200, [*SSE, (b"content-encoding", b"identity")])
    deliver(state, response, FakeCaller())
    assert state.streamed


async def test_answer_that_is_only_an_error_is_an_error_and_costs_nothing() -> None:
    state, caller = plan(), FakeCaller()
    body = b'{"error":{"message":"overloaded","code":"boom"}}'
    delivery = deliver(state, FakeResponse(200, JSON, body), caller)
    await delivery.transfer()
    assert (state.status, state.outcome, state.error_code) == (502, "upstream_error", "boom")
    assert price_call(state, FakeModels(), 0.0) == FREE


async def test_answer_with_an_error_beside_its_content_is_passed_on_and_charged() -> None:
    state = plan("/responses")
    body = b'{"id":"r","status":"failed","error":{"code":"x"},"usage":{"input_tokens":1}}'
    delivery = deliver(state, FakeResponse(200, JSON, body), FakeCaller())
    await delivery.transfer()
    assert (state.status, state.outcome, state.parsed_usage.error_code) == (
        200,
        "upstream_error",
        "x",
    )
    charge = price_call(state, FakeModels(), 0.0)
    assert (charge.pricing, charge.usage) == ("priced", Usage(input_tokens=1))


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        ("failed", "upstream_error", "failed"),
        ("cancelled", "upstream_error", "cancelled"),
        ("incomplete", "completed", "incomplete"),
        ("completed", "completed", None),
    ],
)
async def test_response_status_is_recorded_alike_whole_and_streamed(
    status: str, outcome: str, code: str | None
) -> None:
    answer = b'{"id":"r","status":"%b","usage":{"input_tokens":1}}' % status.encode()
    whole, streamed = plan("/responses"), plan("/responses")
    delivery = deliver(whole, FakeResponse(200, JSON, answer), FakeCaller())
    await delivery.transfer()
    delivery = deliver(streamed, response := FakeResponse(200, SSE), FakeCaller())
    carrying = asyncio.create_task(delivery.transfer())
    await response.streaming.wait()
    event = b'{"type":"response.%b","response":%b}' % (status.encode(), answer)
    response.feed(b"data: %b\n\n" % event)
    await carrying
    for state in (whole, streamed):
        charge = price_call(state, FakeModels(), 0.0)
        receipt = build_receipt(state, charge, created_at=0.0, ended_at=0.0)
        assert (receipt.outcome, receipt.error_code, receipt.status) == (outcome, code, 200)


async def test_reading_a_stored_failed_response_succeeds() -> None:
    state = plan("/responses/r", b"", "GET")
    body = b'{"id":"r","status":"failed","error":{"code":"x"},"usage":{"input_tokens":1}}'
    await deliver(state, FakeResponse(200, JSON, body), FakeCaller()).transfer()
    assert (state.outcome, state.parsed_usage.error_code) == ("completed", None)


@pytest.mark.parametrize("cut", range(len(KEY) + 1))
async def test_key_in_a_body_without_events_is_masked_at_its_length(cut: int) -> None:
    state, caller = plan("/files/f/content", b"", "GET"), FakeCaller()
    delivery = deliver(state, response := FakeResponse(200, BYTES), caller)
    carrying = asyncio.create_task(delivery.transfer())
    await response.streaming.wait()
    response.feed(b"a" + KEY[:cut], KEY[cut:] + b"b" + KEY[:5])
    response.end()
    await carrying
    await delivery.complete(
        build_receipt(state, price_call(state, FakeModels(), 0.0), created_at=0.0, ended_at=0.0)
    )
    assert caller.body == b"a" + MASK + b"b" + KEY[:5]


async def test_key_in_an_answer_is_removed_before_anything_is_learned_from_it() -> None:
    state = plan()
    body = b'{"id":"' + KEY + b'","model":"' + KEY + b'","usage":{"prompt_tokens":1}}'
    response = FakeResponse(200, [*JSON, (b"x-request-id", KEY)], body)
    delivery = deliver(state, response, FakeCaller())
    await delivery.transfer()
    assert KEY.decode() not in repr(state.parsed_usage)
    assert state.upstream_request_id == "[removed]"
