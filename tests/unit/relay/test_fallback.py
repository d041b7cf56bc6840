from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
from collections.abc import Container

import msgspec
import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError
from headgate.kit.http.errors import ConnectError, FirstByteTimeoutError
from headgate.kit.http.message import Timeouts
from headgate.kit.rate_limiter import RateLimiter
from headgate.llm import request
from headgate.relay.admission import Admission, ModelOutOfScopeError, ResourceOutOfScopeError
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.client_response import ResponseFactory
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.disconnects import Drains
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import DisconnectPolicy, Hold, Receipt
from headgate.relay.reservation import Reservation
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.targets import CallRoute, RouteOptions, Target
from headgate.relay.upstream import Upstream, UpstreamResponse
from tests.fakes.pipeline import (
    CREDENTIAL,
    GRANT,
    SECRET,
    STREAMED_CHAT,
    FakeCaller,
    FakeClient,
    FakeCredentials,
    FakeEncoder,
    FakeLedger,
    FakeModels,
    FakeResponse,
    ManualClock,
    Step,
    make_call,
)

pytestmark = pytest.mark.anyio

JSON = [(b"content-type", b"application/json")]
ANSWER = b'{"model":"gpt-5.4-mini","usage":{"prompt_tokens":3,"completion_tokens":4}}'
TEXT = b'data: {"error":null,"id":"c","choices":[{"delta":{"content":"hello"}}]}\n\n'
ENDING = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
)
A, B, C = Target("model-a", retries_max=0), Target("model-b", retries_max=0), Target("gpt-5.4-mini")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeRouter:
    """Give every call the same route."""

    def __init__(self, route: CallRoute) -> None:
        self.projects: Container[str] = {GRANT.project_id}
        self.given = route

    def route(self, call: Call) -> CallRoute | None:
        return self.given


class RecordingEncoder(FakeEncoder):
    """Keep the events that the answer's head could show."""

    events: tuple[str, ...] = ()
    attempts = 0

    def encode_head(self, state, answer: UpstreamResponse, receipt: Receipt | None) -> bytes:  # type: ignore[no-untyped-def]
        self.events = tuple(
            f"{each.failed_model} {each.status} {each.attempts} {each.reason}"
            for each in state.events
        )
        return super().encode_head(state, answer, receipt)


class Harness:
    def __init__(
        self,
        *steps: Step,
        targets: tuple[Target, ...] = (A, B, C),
        managed: bool = True,
        policy: DisconnectPolicy = DisconnectPolicy.CANCEL,
        credentials: FakeCredentials | None = None,
    ) -> None:
        clock, models = ManualClock(), FakeModels()
        breakers = Breakers(clock)
        self.clock = clock
        self.ledger = FakeLedger()
        self.client = FakeClient(*steps)
        self.caller = FakeCaller()
        self.encoder = RecordingEncoder()
        self.observed: list[Receipt] = []
        self.router = FakeRouter(CallRoute("smart", targets, "res_1"))
        self.concurrency = ConcurrencyLimiter(8, lag_seconds_max=1.0)
        credentials = credentials or FakeCredentials(replace(CREDENTIAL, managed=managed))
        self.pipeline = CallPipeline(
            admission=Admission(RateLimiter(clock), self.concurrency, models),
            routing=Routing(credentials, models, breakers),
            reservation=Reservation(self.ledger, models, clock, timeouts=Timeouts()),
            upstream=Upstream(
                self.client,
                policy=RetryPolicy(),
                timeouts=Timeouts(),
                breakers=breakers,
                clock=clock,
                draw=lambda: 0.0,
            ),
            responses=ResponseFactory(clock, body_bytes_max=1 << 20, event_bytes_max=1 << 20),
            models=models,
            settlement=self.ledger,
            drains=Drains(policy=policy, drain_seconds=3600, drains_max=8),
            observer=self,
            clock=clock,
            resources=self.router,
        )

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        self.observed.append(receipt)

    async def run(
        self, body: bytes = b'{"model":"smart","messages":[]}', **changes: object
    ) -> None:
        call = make_call(body=body)
        for name, value in changes.items():
            setattr(call, name, value)
        await self.pipeline.run(call, self.caller, self.encoder)

    @property
    def models_sent(self) -> list[str | None]:
        return [request.decode(each.body).model for each in self.client.sent]  # type: ignore[arg-type]

    def receipt(self) -> Receipt:
        """Return the call's one receipt."""
        (receipt,) = [each for each in self.ledger.receipts if each.request_id == "req_1"]
        assert self.concurrency.running == 0
        return receipt


def answer(status: int = 200, body: bytes = ANSWER) -> FakeResponse:
    return FakeResponse(status, JSON, body)


def refuse(status: int, code: str) -> FakeResponse:
    body = msgspec.json.encode({"error": {"message": "no", "code": code}})
    return FakeResponse(status, [*JSON, (b"x-should-retry", b"false")], body)


async def test_call_goes_on_until_a_target_answers() -> None:
    harness = Harness(refuse(500, "server_error"), refuse(400, "bad"), answer(), managed=False)
    await harness.run()
    assert harness.caller.status == 200
    assert harness.caller.body == ANSWER
    assert harness.models_sent == ["model-a", "model-b", "gpt-5.4-mini"]
    assert harness.encoder.events == (
        "model-a 500 1 500 server_error: no",
        "model-b 400 1 400 bad: no",
    )
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.model_requested) == ("completed", "smart")
    assert (receipt.attempts, receipt.cost_nano) == (3, 43)
    assert harness.ledger.receipts == harness.observed == [receipt]


async def test_last_error_is_returned_with_its_own_status() -> None:
    harness = Harness(refuse(500, "server_error"), refuse(429, "busy"), refuse(418, "teapot"))
    harness.router.given = replace(harness.router.given, targets=(C, C, C))
    await harness.run()
    assert harness.caller.status == 418
    receipt = harness.receipt()
    assert (receipt.status, receipt.outcome, receipt.cost_nano) == (418, "upstream_error", 0)
    # Each target held its own money, and two holds were given back on the way.
    assert [each.target_index for each in harness.ledger.holds] == [0, 1, 2]
    assert harness.ledger.released == harness.ledger.holds[:2]


async def test_refusal_of_the_gateway_moves_a_call_on_as_well() -> None:
    harness = Harness(answer(), targets=(A, C))
    # The managed model-a has no price, so its cost cannot be held.
    await harness.run()
    assert harness.models_sent == ["gpt-5.4-mini"]
    (event,) = harness.encoder.events
    assert event.startswith("model-a 400 0 model_unpriced: ")


async def test_exhausted_targets_raise_the_error_of_the_last_one() -> None:
    harness = Harness(ConnectError("refused"), targets=(C, C))
    with pytest.raises(HeadgateError) as raised:
        await harness.run()
    assert raised.value.code == "provider_unreachable"
    assert harness.receipt().outcome == "upstream_error"


async def test_retries_of_a_target_come_before_its_fallback() -> None:
    busy = FakeResponse(503, JSON, b'{"error":{"message":"busy"}}')
    patient = replace(A, retries_max=2)
    harness = Harness(busy, busy, busy, answer(), targets=(patient, C), managed=False)
    await harness.run()
    assert harness.models_sent == ["model-a"] * 3 + ["gpt-5.4-mini"]
    assert harness.receipt().attempts == 4


async def test_target_without_retries_is_tried_once() -> None:
    busy = FakeResponse(503, JSON, b'{"error":{"message":"busy"}}')
    harness = Harness(busy, answer(), targets=(A, C), managed=False)
    await harness.run()
    assert harness.models_sent == ["model-a", "gpt-5.4-mini"]


async def test_shorter_of_the_deadlines_of_caller_and_target_holds() -> None:
    slow = replace(A, timeout_seconds=1.0)
    harness = Harness(refuse(500, "x"), answer(), targets=(slow, C), managed=False)
    await harness.run(deadline_seconds=0.5)
    assert [each.timeouts.total_seconds for each in harness.client.sent] == [0.5, 0.5]
    harness = Harness(refuse(500, "x"), answer(), targets=(slow, C), managed=False)
    await harness.run()
    assert [each.timeouts.total_seconds for each in harness.client.sent] == [1.0, 600.0]


async def test_attempt_that_may_have_been_charged_is_billed_apart() -> None:
    harness = Harness(FirstByteTimeoutError("late"), answer(), targets=(C, C))
    await harness.run()
    lost, final = harness.ledger.receipts
    assert (lost.request_id, lost.outcome, lost.estimated) == ("req_1.a1", "unknown", True)
    assert lost.cost_nano > 0
    assert (final.request_id, final.outcome, final.cost_nano) == ("req_1", "completed", 43)
    assert harness.observed == [lost, final]
    # The time of the failed target is no overhead of the gateway's.
    assert final.overhead_microseconds >= 0


async def test_answer_that_cannot_be_read_moves_on_and_what_it_used_is_billed() -> None:
    broken = FakeResponse(200, JSON, b"{not json")
    harness = Harness(broken, answer(), targets=(C, C), managed=False)
    await harness.run()
    assert harness.caller.body == ANSWER
    (event,) = harness.encoder.events
    assert "provider_invalid_response" in event


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (None, "provider_timeout"),
        (b"", "provider_invalid_response: The provider's stream ended"),
        (b'data: {"error":{"message":"overloaded"}}\n\n', "began its stream with an error: over"),
    ],
)
async def test_stream_that_fails_before_it_begins_moves_on(
    first: bytes | None, reason: str
) -> None:
    stream = FakeResponse(200, [(b"content-type", b"text/event-stream")])
    harness = Harness(stream, answer(), targets=(C, C), managed=False)
    running = asyncio.ensure_future(harness.run(STREAMED_CHAT))
    await stream.streaming.wait()
    if first is None:
        stream.fail(FirstByteTimeoutError("late"))
    elif first:
        stream.feed(first)
    else:
        stream.end()
    await running
    assert (harness.caller.status, harness.caller.body) == (200, ANSWER)
    (event,) = harness.encoder.events
    assert reason in event
    # An error in the place of an answer costs nothing; the others may have been charged.
    assert len(harness.ledger.receipts) == (1 if "error" in reason else 2)


async def test_key_that_a_failed_stream_repeats_is_in_no_event() -> None:
    key = SECRET.decode()
    said = {"error": {"message": f"no {key} {base64.b64encode(SECRET).decode()}"}}
    stream = FakeResponse(200, [(b"content-type", b"text/event-stream")])
    harness = Harness(stream, answer(), targets=(C, C), managed=False)
    running = asyncio.ensure_future(harness.run(STREAMED_CHAT))
    await stream.streaming.wait()
    stream.feed(f"data: {json.dumps(said)}\n\n".encode().replace(b'{"error": ', b'{"error":'))
    await running
    (event,) = harness.encoder.events
    assert "began its stream with an error: no [removed] [removed]" in event


async def test_stream_that_began_is_passed_on_as_it_came() -> None:
    stream = FakeResponse(200, [(b"content-type", b"text/event-stream")])
    harness = Harness(stream, answer(), targets=(C, C), managed=False)
    running = asyncio.ensure_future(harness.run(STREAMED_CHAT))
    await stream.streaming.wait()
    pieces = [TEXT[:20], TEXT[20:], ENDING]
    for piece in pieces:
        stream.feed(piece)
        await asyncio.sleep(0)
    stream.end()
    await running
    assert harness.caller.body.startswith(TEXT)
    assert harness.caller.body.endswith(b"data: [DONE]\n\n")
    assert (harness.receipt().outcome, harness.receipt().cost_nano) == ("completed", 43)
    assert not stream.paused


async def test_started_stream_is_never_restarted() -> None:
    stream = FakeResponse(200, [(b"content-type", b"text/event-stream")])
    harness = Harness(stream, answer(), targets=(C, C), managed=False)
    running = asyncio.ensure_future(harness.run(STREAMED_CHAT))
    await stream.streaming.wait()
    stream.feed(b'data: {"id":"c","choices":[{"delta":{"content":"hello"}}]}\n\n')
    stream.fail(FirstByteTimeoutError("late"))
    await running
    assert len(harness.client.sent) == 1
    assert harness.caller.finished is True
    assert b"provider_timeout" in harness.caller.body
    assert harness.receipt().outcome == "unknown"


async def test_client_that_left_gets_no_further_target() -> None:
    harness = Harness(answer(), targets=(A, C), managed=False)

    async def leave(_request: object) -> FakeResponse:
        harness.caller.gone = True
        assert harness.caller.listener is not None
        harness.caller.task = None
        harness.caller.listener.connection_lost()
        return refuse(500, "server_error")

    harness.client.steps.insert(0, leave)
    await harness.run()
    assert harness.models_sent == ["model-a"]
    assert harness.receipt().outcome == "upstream_error"


async def test_client_that_leaves_during_a_settlement_gets_no_further_target() -> None:
    harness = leave_during_a_settlement()
    with pytest.raises(HeadgateError):
        await harness.run()
    assert len(harness.client.sent) == 1
    lost, final = harness.ledger.receipts
    assert (lost.outcome, final.outcome, final.cost_nano) == ("unknown", "cancelled", 0)


async def test_call_that_ends_between_two_targets_is_freed_without_the_collector() -> None:
    harness = leave_during_a_settlement()
    gc.collect()
    gc.disable()
    try:
        others = list_call_states()
        with contextlib.suppress(HeadgateError):
            await harness.run()
        assert len(list_call_states()) == len(others)
    finally:
        gc.enable()


def list_call_states() -> list[CallState]:
    return [each for each in gc.get_objects() if isinstance(each, CallState)]


def leave_during_a_settlement() -> Harness:
    """Return a harness whose client leaves while its first target is settled."""
    harness = Harness(FirstByteTimeoutError("late"), answer(), targets=(C, C))
    release = harness.ledger.release

    async def leave(hold: Hold, receipt: Receipt | None) -> None:
        harness.caller.task = None
        assert harness.caller.listener is not None
        harness.caller.listener.connection_lost()
        await release(hold, receipt)

    harness.ledger.release = leave  # type: ignore[method-assign]
    return harness


async def test_default_arguments_fill_in_what_the_caller_leaves_out() -> None:
    harness = Harness(answer(), targets=(C,), managed=False)
    arguments = {
        "temperature": msgspec.Raw(b"0.5"),
        "messages": msgspec.Raw(b'["never"]'),
        "model": msgspec.Raw(b'"never"'),
    }
    harness.router.given = replace(harness.router.given, default_arguments=arguments)
    await harness.run()
    (sent,) = harness.client.sent
    assert msgspec.json.decode(sent.body) == {  # type: ignore[arg-type]
        "model": "gpt-5.4-mini",
        "messages": [],
        "temperature": 0.5,
    }


async def test_models_of_a_key_hold_for_each_target() -> None:
    harness = Harness(answer(), targets=(A, C), managed=False)
    grant = replace(GRANT, models=("gpt-5.4*",))
    await harness.run(grant=grant)
    assert harness.models_sent == ["gpt-5.4-mini"]
    harness = Harness(answer(), targets=(A,), managed=False)
    with pytest.raises(ModelOutOfScopeError):
        await harness.run(grant=grant)
    # The name of a resource counts as that of a model, unless the request changes the resource.
    grant = replace(GRANT, models=("smart",))
    harness = Harness(answer(), targets=(A,), managed=False)
    await harness.run(grant=grant)
    with pytest.raises(ModelOutOfScopeError):
        await harness.run(grant=grant, route_options=RouteOptions(overrides={"model": {}}))


async def test_key_of_some_resources_may_neither_leave_nor_change_them() -> None:
    harness = Harness(answer(), targets=(C,), managed=False)
    await harness.run(grant=replace(GRANT, resources=("smart",)))
    for options in (RouteOptions(overrides={"use_fallback": False}), None):
        grant = replace(GRANT, resources=("smart",) if options else ("other",))
        with pytest.raises(ResourceOutOfScopeError):
            await harness.run(grant=grant, route_options=options)
    assert harness.models_sent == ["gpt-5.4-mini"]


async def test_options_ask_for_a_route_in_a_project_without_resources() -> None:
    harness = Harness(answer(), targets=(C,), managed=False)
    harness.router.projects = ()
    await harness.run()
    assert harness.models_sent == ["smart"]
    await harness.run(route_options=RouteOptions(secondary_index=0))
    assert harness.models_sent == ["smart", "gpt-5.4-mini"]
