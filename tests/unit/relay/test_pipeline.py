from __future__ import annotations

import asyncio
import contextlib

import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import ConnectCancelledError, FirstByteTimeoutError
from headgate.kit.http.message import Request, Timeouts
from headgate.kit.rate_limiter import RateLimiter
from headgate.relay.admission import Admission, ModelOutOfScopeError
from headgate.relay.breaker import Breakers, CircuitOpenError
from headgate.relay.call import Call
from headgate.relay.call_state import GatewayStoppingError, InternalError, ReceiptNotRecordedError
from headgate.relay.client_response import ResponseFactory
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.disconnects import Drains
from headgate.relay.pipeline import CallPipeline
from headgate.relay.ports import DisconnectPolicy, Hold, Receipt
from headgate.relay.reservation import Reservation
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.upstream import Upstream
from tests.fakes.pipeline import (
    CHAT,
    CREDENTIAL,
    GRANT,
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
    WalletEmptyError,
    make_call,
)

pytestmark = pytest.mark.anyio

TEXT = b'data: {"id":"c","choices":[{"delta":{"content":"hello"}}]}\n\n'
ENDING = (
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
)
SSE = [(b"content-type", b"text/event-stream")]
ANSWER = b'{"model":"gpt-5.4-mini","usage":{"prompt_tokens":3,"completion_tokens":4}}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class StorageGoneError(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"


class Harness:
    """Run a pipeline among fakes, on a managed credential."""

    def __init__(self, *steps: Step, policy: DisconnectPolicy = DisconnectPolicy.CANCEL) -> None:
        clock, models = ManualClock(), FakeModels()
        self.clock = clock
        breakers = Breakers(clock)
        self.ledger = FakeLedger()
        self.client = FakeClient(*steps)
        self.caller = FakeCaller()
        self.observed: list[Receipt] = []
        self.concurrency = ConcurrencyLimiter(8, lag_seconds_max=1.0)
        self.drains = Drains(policy=policy, drain_seconds=3600, drains_max=8)
        self.pipeline = CallPipeline(
            admission=Admission(RateLimiter(clock), self.concurrency),
            routing=Routing(FakeCredentials(replace(CREDENTIAL, managed=True)), models, breakers),
            reservation=Reservation(self.ledger, models, clock, timeouts=Timeouts()),
            upstream=Upstream(
                self.client,
                policy=RetryPolicy(),
                timeouts=Timeouts(),
                breakers=breakers,
                clock=clock,
            ),
            responses=ResponseFactory(clock, body_bytes_max=1 << 20, event_bytes_max=1 << 20),
            models=models,
            settlement=self.ledger,
            drains=self.drains,
            observer=self,
            clock=clock,
        )

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        assert settlement_microseconds >= 0
        self.observed.append(receipt)

    async def run(self, call: Call | None = None) -> None:
        await self.pipeline.run(call or make_call(), self.caller, FakeEncoder())

    def receipt(self) -> Receipt:
        (receipt,) = self.ledger.receipts
        assert self.observed == [receipt]
        assert self.drains.active == 0
        assert self.concurrency.running == 0
        return receipt


def json_answer(status: int = 200, body: bytes = ANSWER) -> FakeResponse:
    return FakeResponse(status, [(b"content-type", b"application/json")], body)


async def test_answered_call_leaves_one_receipt_with_its_exact_cost() -> None:
    harness = Harness(json_answer())
    await harness.run()
    receipt = harness.receipt()
    assert harness.caller.body == ANSWER
    assert (receipt.outcome, receipt.cost_nano, receipt.attempts) == ("completed", 43, 1)
    assert not receipt.estimated
    assert len(harness.ledger.holds) == 1


async def test_rejected_call_leaves_no_receipt() -> None:
    harness = Harness(json_answer())
    with pytest.raises(ModelOutOfScopeError):
        await harness.run(make_call(grant=replace(GRANT, models=("other",))))
    assert (harness.ledger.receipts, harness.client.sent) == ([], [])


async def test_call_without_money_is_recorded_as_refused_and_not_sent() -> None:
    harness = Harness(json_answer())

    async def refuse(_hold: object) -> None:
        raise WalletEmptyError("nothing left")

    harness.ledger.hold = refuse  # type: ignore[method-assign]
    with pytest.raises(WalletEmptyError):
        await harness.run()
    assert (harness.receipt().outcome, harness.receipt().cost_nano) == ("refused", 0)
    assert not harness.client.sent


async def test_answer_that_cannot_be_settled_is_not_delivered() -> None:
    harness = Harness(json_answer())

    async def fail(_receipt: object, _hold: object) -> None:
        raise StorageGoneError("the disk is full")

    harness.ledger.record = fail  # type: ignore[method-assign]
    with pytest.raises(ReceiptNotRecordedError) as told:
        await harness.run()
    assert (harness.caller.body, told.value.should_retry) == (b"", False)
    [(receipt, hold)] = harness.ledger.deferred
    assert (receipt.outcome, receipt.status, receipt.cost_nano) == ("broken", 503, 43)
    assert hold == harness.ledger.holds[0]


async def test_nothing_is_sent_while_nothing_can_be_recorded() -> None:
    harness = Harness(json_answer())
    harness.ledger.trouble = StorageGoneError("the disk is full")
    with pytest.raises(StorageGoneError):
        await harness.run()
    assert (harness.ledger.holds, harness.client.sent) == ([], [])


async def test_server_that_stops_during_a_commit_passes_the_settled_answer_on() -> None:
    harness = Harness(json_answer())
    record, committing = harness.ledger.record, asyncio.Event()

    async def wait(receipt: Receipt, hold: Hold | None) -> None:
        if not committing.is_set():
            committing.set()
            await asyncio.Event().wait()
        await record(receipt, hold)

    harness.ledger.record = wait  # type: ignore[method-assign]
    running = asyncio.create_task(harness.run())
    await committing.wait()
    running.cancel()
    await running
    assert (harness.receipt().outcome, harness.caller.body) == ("completed", ANSWER)


async def test_server_that_stops_during_a_hold_releases_it_with_the_receipt() -> None:
    harness = Harness(json_answer())
    reservation = asyncio.Event()

    async def wait(hold: Hold) -> None:
        harness.ledger.holds.append(hold)
        reservation.set()
        await asyncio.Event().wait()

    harness.ledger.hold = wait  # type: ignore[method-assign]
    settled: list[Hold | None] = []
    record = harness.ledger.record

    async def note(receipt: Receipt, hold: Hold | None) -> None:
        settled.append(hold)
        await record(receipt, hold)

    harness.ledger.record = note  # type: ignore[method-assign]
    running = asyncio.create_task(harness.run())
    await reservation.wait()
    running.cancel()
    with pytest.raises(GatewayStoppingError):
        await running
    assert settled == harness.ledger.holds
    assert (harness.receipt().cost_nano, harness.client.sent) == (0, [])


async def test_stream_that_cannot_be_settled_ends_in_an_error_instead_of_its_last_event() -> None:
    harness = Harness(response := FakeResponse(200, SSE))

    async def fail(_receipt: object, _hold: object) -> None:
        raise StorageGoneError("the disk is full")

    harness.ledger.record = fail  # type: ignore[method-assign]
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, ENDING)
    await running
    assert b"[DONE]" not in harness.caller.body
    assert b"storage_unavailable" in harness.caller.body


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("takes_trailers", [False, True])
async def test_stream_has_cost_trailers_for_a_caller_that_accepts_them(
    *, takes_trailers: bool, is_broken: bool
) -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    harness.caller.takes_trailers = takes_trailers
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, b"" if is_broken else ENDING)
    response.end()
    await running
    told = b"x-cost: %d\r\n" % harness.receipt().cost_nano
    assert harness.caller.finished is True
    assert harness.caller.trailers == (told if takes_trailers else b"")


async def leave(harness: Harness, response: FakeResponse, *events: bytes) -> Receipt:
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(*events)
    harness.caller.leave()
    await running
    return harness.receipt()


async def test_disconnect_cancels_the_provider_and_bills_an_estimate() -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    receipt = await leave(harness, response, TEXT)
    assert response.aborted
    assert (receipt.outcome, receipt.estimated) == ("cancelled", True)
    assert receipt.usage is not None
    assert receipt.usage.output_tokens == 2


async def test_waiting_for_the_provider_is_no_overhead_of_a_cancelled_call() -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    harness.clock.seconds += 30
    harness.caller.leave()
    await running
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.total_microseconds) == ("cancelled", 30_000_000)
    assert (receipt.upstream_microseconds, receipt.overhead_microseconds) == (30_000_000, 0)


@pytest.mark.parametrize("ending", ["leaves", "fails"])
async def test_time_of_an_unanswered_call_counts_as_the_providers(ending: str) -> None:
    sent, failed = asyncio.Event(), asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await failed.wait()
        raise FirstByteTimeoutError("No answer.")

    harness = Harness(hang)
    running = asyncio.create_task(harness.run())
    await sent.wait()
    harness.clock.seconds += 600
    if ending == "leaves":
        harness.caller.leave()
    else:
        failed.set()
    with pytest.raises(HeadgateError):
        await running
    receipt = harness.receipt()
    assert (receipt.upstream_microseconds, receipt.overhead_microseconds) == (600_000_000, 0)
    assert receipt.first_byte_microseconds == -1


async def test_observers_get_the_path_and_both_body_sizes() -> None:
    harness = Harness(json_answer())
    await harness.run()
    [told] = harness.observed
    assert (told.path, told.request_bytes) == ("/v1/chat/completions", len(CHAT))
    assert told.response_bytes == len(ANSWER)
    harness = Harness(json_answer())
    await harness.run(make_call("/models/gpt-5.4-mini", body=b"", method="GET"))
    assert harness.observed[0].path in ("/v1/models/{id}", "/v1/models/{rest}")
    harness = Harness(response := FakeResponse(200, SSE))
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, ENDING)
    response.end()
    await running
    assert harness.observed[0].request_bytes == len(STREAMED_CHAT)
    assert harness.observed[0].response_bytes == len(harness.caller.body)


async def test_answer_that_ends_within_the_drain_is_settled_exactly_as_completed() -> None:
    harness = Harness(response := FakeResponse(200, SSE), policy=DisconnectPolicy.DRAIN)
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    harness.caller.leave()
    response.feed(ENDING)
    response.end()
    await running
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.estimated, receipt.cost_nano) == ("completed", False, 43)
    assert harness.caller.body == TEXT


async def test_client_that_disconnects_before_the_head_is_recorded_once() -> None:
    sent = asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    harness = Harness(hang)
    running = asyncio.create_task(harness.run())
    await sent.wait()
    harness.caller.leave()
    with pytest.raises(HeadgateError):
        await running
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.estimated) == ("cancelled", True)
    assert receipt.cost_nano > 0


@pytest.mark.parametrize("policy", DisconnectPolicy)
async def test_policy_of_the_key_decides(policy: DisconnectPolicy) -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    call = make_call(body=STREAMED_CHAT, grant=replace(GRANT, on_disconnect=policy))
    running = asyncio.create_task(harness.run(call))
    await response.streaming.wait()
    response.feed(TEXT)
    harness.caller.leave()
    await asyncio.wait([running], timeout=0)
    response.feed(ENDING)
    if policy is DisconnectPolicy.DRAIN:
        response.end()
    await running
    assert harness.receipt().estimated is (policy is DisconnectPolicy.CANCEL)
    assert response.aborted is (policy is DisconnectPolicy.CANCEL)


async def test_usage_reported_so_far_is_billed_instead_of_an_estimate() -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    told = TEXT.replace(
        b'"choices"', b'"usage":{"prompt_tokens":9,"completion_tokens":2},"choices"'
    )
    receipt = await leave(harness, response, told)
    assert (receipt.outcome, receipt.estimated) == ("cancelled", False)
    assert receipt.cost_nano == 29


async def test_client_that_disconnects_before_a_connection_pays_nothing() -> None:
    dialling = asyncio.Event()

    async def dial(_request: Request) -> FakeResponse:
        dialling.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectCancelledError from None
        raise AssertionError

    harness = Harness(dial)
    running = asyncio.create_task(harness.run())
    await dialling.wait()
    harness.caller.leave()
    with pytest.raises(HeadgateError):
        await running
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.cost_nano, receipt.usage) == ("cancelled", 0, None)


async def test_open_breaker_rejects_a_call_before_money_is_held() -> None:
    harness = Harness(json_answer(503))
    for _ in range(5):
        with contextlib.suppress(HeadgateError):
            await harness.run()
    asked, held = len(harness.client.sent), len(harness.ledger.holds)
    with pytest.raises(CircuitOpenError):
        await harness.run()
    assert (len(harness.client.sent), len(harness.ledger.holds)) == (asked, held)
    receipt = harness.ledger.receipts[-1]
    assert (receipt.outcome, receipt.status, receipt.cost_nano) == ("refused", 503, 0)
    assert (receipt.credential_id, receipt.attempts) == (CREDENTIAL.id, 0)
    assert receipt.error_code == "provider_circuit_open"


async def test_client_that_disconnects_after_a_refusal_pays_nothing() -> None:
    harness = Harness(FakeResponse(503, [], b"{}"), policy=DisconnectPolicy.DRAIN)
    running = asyncio.create_task(harness.run())
    while harness.caller.listener is None or not harness.client.sent:
        await asyncio.wait([running], timeout=0)
    await asyncio.wait([running], timeout=0)
    harness.caller.leave()
    with pytest.raises(HeadgateError):
        await running
    receipt = harness.receipt()
    assert (receipt.outcome, receipt.cost_nano) == ("cancelled", 0)
    assert len(harness.client.sent) == 1


async def test_stopping_gateway_settles_what_it_cuts_off() -> None:
    harness = Harness(response := FakeResponse(200, SSE))
    running = asyncio.create_task(harness.run(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    running.cancel()
    await running
    assert harness.receipt().outcome == "cancelled"
    assert b"gateway_stopping" in harness.caller.body
    assert harness.caller.finished is True


async def test_stopping_gateway_says_whether_to_retry() -> None:
    sent = asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    for step, may_try_again in ((hang, False), (FakeResponse(503, [], b"{}"), True)):
        harness = Harness(step)
        running = asyncio.create_task(harness.run())
        while not harness.client.sent:
            await asyncio.wait([running], timeout=0)
        await asyncio.wait([running], timeout=0)
        running.cancel()
        with pytest.raises(GatewayStoppingError) as caught:
            await running
        assert caught.value.should_retry is may_try_again
        assert (harness.receipt().cost_nano == 0) is may_try_again


async def test_internal_error_is_settled_and_reported_without_details() -> None:
    async def fail(_request: Request) -> FakeResponse:
        raise ValueError("the target is not a path")

    harness = Harness(fail)
    with pytest.raises(InternalError) as caught:
        await harness.run()
    assert "target" not in caught.value.message
    assert harness.receipt().outcome == "broken"
