from __future__ import annotations

import asyncio
import contextlib

import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import ConnectCancelled, FirstByteTimeout
from headgate.kit.http.message import Request, Timeouts
from headgate.relay.admission import Admission, ModelOutOfScope
from headgate.relay.attendance import Drains
from headgate.relay.breaker import Breakers, ProviderResting
from headgate.relay.call import Call
from headgate.relay.crowd import Crowd
from headgate.relay.delivery import Carriage
from headgate.relay.holding import Holding
from headgate.relay.journey import Journey
from headgate.relay.ports import DisconnectPolicy, Hold, Receipt
from headgate.relay.rates import Rates
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.trip import InternalFault, Stopping, Unrecorded
from headgate.relay.upstream import Upstream
from tests.fakes.stage import (
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
    WalletEmpty,
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


class StorageGone(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"


class Road:
    """A journey among fakes, on a managed credential."""

    def __init__(self, *steps: Step, policy: DisconnectPolicy = DisconnectPolicy.CANCEL) -> None:
        clock, models = ManualClock(), FakeModels()
        self.clock = clock
        breakers = Breakers(clock)
        self.ledger = FakeLedger()
        self.client = FakeClient(*steps)
        self.caller = FakeCaller()
        self.observed: list[Receipt] = []
        self.crowd = Crowd(8, lag_seconds_max=1.0)
        self.drains = Drains(policy=policy, drain_seconds=3600, drains_max=8)
        self.journey = Journey(
            admission=Admission(Rates(clock), self.crowd),
            routing=Routing(FakeCredentials(replace(CREDENTIAL, managed=True)), models, breakers),
            holding=Holding(self.ledger, models, clock, timeouts=Timeouts()),
            upstream=Upstream(
                self.client,
                policy=RetryPolicy(),
                timeouts=Timeouts(),
                breakers=breakers,
                clock=clock,
            ),
            carriage=Carriage(clock, body_bytes_max=1 << 20, event_bytes_max=1 << 20),
            models=models,
            settlement=self.ledger,
            drains=self.drains,
            observer=self,
            clock=clock,
        )

    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        assert settlement_microseconds >= 0
        self.observed.append(receipt)

    async def travel(self, call: Call | None = None) -> None:
        await self.journey.travel(call or make_call(), self.caller, FakeEncoder())

    def receipt(self) -> Receipt:
        (receipt,) = self.ledger.receipts
        assert self.observed == [receipt]
        assert self.drains.active == 0
        assert self.crowd.total == 0
        return receipt


def json_answer(status: int = 200, body: bytes = ANSWER) -> FakeResponse:
    return FakeResponse(status, [(b"content-type", b"application/json")], body)


async def test_answered_call_leaves_one_receipt_with_its_exact_cost() -> None:
    road = Road(json_answer())
    await road.travel()
    receipt = road.receipt()
    assert road.caller.body == ANSWER
    assert (receipt.outcome, receipt.cost_nano, receipt.attempts) == ("completed", 43, 1)
    assert not receipt.estimated
    assert len(road.ledger.holds) == 1


async def test_call_that_is_not_admitted_leaves_nothing() -> None:
    road = Road(json_answer())
    with pytest.raises(ModelOutOfScope):
        await road.travel(make_call(grant=replace(GRANT, models=("other",))))
    assert (road.ledger.receipts, road.client.sent) == ([], [])


async def test_call_without_money_is_recorded_as_refused_and_not_sent() -> None:
    road = Road(json_answer())

    async def refuse(_hold: object) -> None:
        raise WalletEmpty("nothing left")

    road.ledger.hold = refuse  # type: ignore[method-assign]
    with pytest.raises(WalletEmpty):
        await road.travel()
    assert (road.receipt().outcome, road.receipt().cost_nano) == ("refused", 0)
    assert not road.client.sent


async def test_answer_that_cannot_be_settled_is_not_delivered() -> None:
    road = Road(json_answer())

    async def fail(_receipt: object, _hold: object) -> None:
        raise StorageGone("the disk is full")

    road.ledger.record = fail  # type: ignore[method-assign]
    with pytest.raises(Unrecorded) as told:
        await road.travel()
    assert (road.caller.body, told.value.should_retry) == (b"", False)
    [(receipt, hold)] = road.ledger.deferred
    assert (receipt.outcome, receipt.status, receipt.cost_nano) == ("broken", 503, 43)
    assert hold == road.ledger.holds[0]


async def test_nothing_is_sent_while_nothing_can_be_recorded() -> None:
    road = Road(json_answer())
    road.ledger.trouble = StorageGone("the disk is full")
    with pytest.raises(StorageGone):
        await road.travel()
    assert (road.ledger.holds, road.client.sent) == ([], [])


async def test_server_that_stops_in_mid_commit_passes_the_settled_answer_on() -> None:
    road = Road(json_answer())
    record, committing = road.ledger.record, asyncio.Event()

    async def wait(receipt: Receipt, hold: Hold | None) -> None:
        if not committing.is_set():
            committing.set()
            await asyncio.Event().wait()
        await record(receipt, hold)

    road.ledger.record = wait  # type: ignore[method-assign]
    travelling = asyncio.create_task(road.travel())
    await committing.wait()
    travelling.cancel()
    await travelling
    assert (road.receipt().outcome, road.caller.body) == ("completed", ANSWER)


async def test_server_that_stops_in_mid_hold_releases_it_with_the_receipt() -> None:
    road = Road(json_answer())
    holding = asyncio.Event()

    async def wait(hold: Hold) -> None:
        road.ledger.holds.append(hold)
        holding.set()
        await asyncio.Event().wait()

    road.ledger.hold = wait  # type: ignore[method-assign]
    settled: list[Hold | None] = []
    record = road.ledger.record

    async def note(receipt: Receipt, hold: Hold | None) -> None:
        settled.append(hold)
        await record(receipt, hold)

    road.ledger.record = note  # type: ignore[method-assign]
    travelling = asyncio.create_task(road.travel())
    await holding.wait()
    travelling.cancel()
    with pytest.raises(Stopping):
        await travelling
    assert settled == road.ledger.holds
    assert (road.receipt().cost_nano, road.client.sent) == (0, [])


async def test_stream_that_cannot_be_settled_ends_in_an_error_instead_of_its_last_event() -> None:
    road = Road(response := FakeResponse(200, SSE))

    async def fail(_receipt: object, _hold: object) -> None:
        raise StorageGone("the disk is full")

    road.ledger.record = fail  # type: ignore[method-assign]
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, ENDING)
    await travelling
    assert b"[DONE]" not in road.caller.body
    assert b"storage_unavailable" in road.caller.body


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("takes_trailers", [False, True])
async def test_stream_tells_what_it_cost_to_a_caller_who_takes_trailers(
    *, takes_trailers: bool, is_broken: bool
) -> None:
    road = Road(response := FakeResponse(200, SSE))
    road.caller.takes_trailers = takes_trailers
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, b"" if is_broken else ENDING)
    response.end()
    await travelling
    told = b"x-cost: %d\r\n" % road.receipt().cost_nano
    assert road.caller.finished is True
    assert road.caller.trailers == (told if takes_trailers else b"")


async def leave(road: Road, response: FakeResponse, *events: bytes) -> Receipt:
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(*events)
    road.caller.leave()
    await travelling
    return road.receipt()


async def test_caller_that_leaves_ends_the_provider_and_pays_an_estimate() -> None:
    road = Road(response := FakeResponse(200, SSE))
    receipt = await leave(road, response, TEXT)
    assert response.aborted
    assert (receipt.outcome, receipt.estimated) == ("cancelled", True)
    assert receipt.usage is not None
    assert receipt.usage.output_tokens == 2


async def test_waiting_for_the_provider_is_no_overhead_of_a_cancelled_call() -> None:
    road = Road(response := FakeResponse(200, SSE))
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    road.clock.seconds += 30
    road.caller.leave()
    await travelling
    receipt = road.receipt()
    assert (receipt.outcome, receipt.total_microseconds) == ("cancelled", 30_000_000)
    assert (receipt.upstream_microseconds, receipt.overhead_microseconds) == (30_000_000, 0)


@pytest.mark.parametrize("ending", ["leaves", "fails"])
async def test_time_of_a_call_that_was_never_answered_is_the_providers(ending: str) -> None:
    sent, failed = asyncio.Event(), asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await failed.wait()
        raise FirstByteTimeout("No answer.")

    road = Road(hang)
    travelling = asyncio.create_task(road.travel())
    await sent.wait()
    road.clock.seconds += 600
    if ending == "leaves":
        road.caller.leave()
    else:
        failed.set()
    with pytest.raises(HeadgateError):
        await travelling
    receipt = road.receipt()
    assert (receipt.upstream_microseconds, receipt.overhead_microseconds) == (600_000_000, 0)
    assert receipt.first_byte_microseconds == -1


async def test_observers_hear_of_the_address_and_the_bytes_of_both_bodies() -> None:
    road = Road(json_answer())
    await road.travel()
    [told] = road.observed
    assert (told.path, told.request_bytes) == ("/v1/chat/completions", len(CHAT))
    assert told.response_bytes == len(ANSWER)
    road = Road(json_answer())
    await road.travel(make_call("/models/gpt-5.4-mini", body=b"", method="GET"))
    assert road.observed[0].path in ("/v1/models/{id}", "/v1/models/{rest}")
    road = Road(response := FakeResponse(200, SSE))
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT, ENDING)
    response.end()
    await travelling
    assert road.observed[0].request_bytes == len(STREAMED_CHAT)
    assert road.observed[0].response_bytes == len(road.caller.body)


async def test_answer_that_ends_within_the_drain_is_settled_exactly_as_completed() -> None:
    road = Road(response := FakeResponse(200, SSE), policy=DisconnectPolicy.DRAIN)
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    road.caller.leave()
    response.feed(ENDING)
    response.end()
    await travelling
    receipt = road.receipt()
    assert (receipt.outcome, receipt.estimated, receipt.cost_nano) == ("completed", False, 43)
    assert road.caller.body == TEXT


async def test_caller_that_leaves_before_the_head_is_recorded_once() -> None:
    sent = asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    road = Road(hang)
    travelling = asyncio.create_task(road.travel())
    await sent.wait()
    road.caller.leave()
    with pytest.raises(HeadgateError):
        await travelling
    receipt = road.receipt()
    assert (receipt.outcome, receipt.estimated) == ("cancelled", True)
    assert receipt.cost_nano > 0


@pytest.mark.parametrize("policy", DisconnectPolicy)
async def test_policy_of_the_key_decides(policy: DisconnectPolicy) -> None:
    road = Road(response := FakeResponse(200, SSE))
    call = make_call(body=STREAMED_CHAT, grant=replace(GRANT, on_disconnect=policy))
    travelling = asyncio.create_task(road.travel(call))
    await response.streaming.wait()
    response.feed(TEXT)
    road.caller.leave()
    await asyncio.wait([travelling], timeout=0)
    response.feed(ENDING)
    if policy is DisconnectPolicy.DRAIN:
        response.end()
    await travelling
    assert road.receipt().estimated is (policy is DisconnectPolicy.CANCEL)
    assert response.aborted is (policy is DisconnectPolicy.CANCEL)


async def test_usage_that_was_told_so_far_is_billed_instead_of_an_estimate() -> None:
    road = Road(response := FakeResponse(200, SSE))
    told = TEXT.replace(
        b'"choices"', b'"usage":{"prompt_tokens":9,"completion_tokens":2},"choices"'
    )
    receipt = await leave(road, response, told)
    assert (receipt.outcome, receipt.estimated) == ("cancelled", False)
    assert receipt.cost_nano == 29


async def test_caller_that_leaves_while_there_is_no_connection_pays_nothing() -> None:
    dialling = asyncio.Event()

    async def dial(_request: Request) -> FakeResponse:
        dialling.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectCancelled from None
        raise AssertionError

    road = Road(dial)
    travelling = asyncio.create_task(road.travel())
    await dialling.wait()
    road.caller.leave()
    with pytest.raises(HeadgateError):
        await travelling
    receipt = road.receipt()
    assert (receipt.outcome, receipt.cost_nano, receipt.usage) == ("cancelled", 0, None)


async def test_provider_that_rests_is_not_asked_and_nothing_is_set_aside() -> None:
    road = Road(json_answer(503))
    for _ in range(5):
        with contextlib.suppress(HeadgateError):
            await road.travel()
    asked, held = len(road.client.sent), len(road.ledger.holds)
    with pytest.raises(ProviderResting):
        await road.travel()
    assert (len(road.client.sent), len(road.ledger.holds)) == (asked, held)
    receipt = road.ledger.receipts[-1]
    assert (receipt.outcome, receipt.status, receipt.cost_nano) == ("refused", 503, 0)
    assert (receipt.credential_id, receipt.attempts) == (CREDENTIAL.id, 0)
    assert receipt.error_code == "provider_circuit_open"


async def test_caller_that_leaves_after_a_refusal_pays_nothing() -> None:
    road = Road(FakeResponse(503, [], b"{}"), policy=DisconnectPolicy.DRAIN)
    travelling = asyncio.create_task(road.travel())
    while road.caller.attendant is None or not road.client.sent:
        await asyncio.wait([travelling], timeout=0)
    await asyncio.wait([travelling], timeout=0)
    road.caller.leave()
    with pytest.raises(HeadgateError):
        await travelling
    receipt = road.receipt()
    assert (receipt.outcome, receipt.cost_nano) == ("cancelled", 0)
    assert len(road.client.sent) == 1


async def test_stopping_gateway_settles_what_it_cuts_off() -> None:
    road = Road(response := FakeResponse(200, SSE))
    travelling = asyncio.create_task(road.travel(make_call(body=STREAMED_CHAT)))
    await response.streaming.wait()
    response.feed(TEXT)
    travelling.cancel()
    await travelling
    assert road.receipt().outcome == "cancelled"
    assert b"gateway_stopping" in road.caller.body
    assert road.caller.finished is True


async def test_stopping_gateway_tells_whether_the_call_may_be_made_again() -> None:
    sent = asyncio.Event()

    async def hang(_request: Request) -> FakeResponse:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    for step, may_try_again in ((hang, False), (FakeResponse(503, [], b"{}"), True)):
        road = Road(step)
        travelling = asyncio.create_task(road.travel())
        while not road.client.sent:
            await asyncio.wait([travelling], timeout=0)
        await asyncio.wait([travelling], timeout=0)
        travelling.cancel()
        with pytest.raises(Stopping) as caught:
            await travelling
        assert caught.value.should_retry is may_try_again
        assert (road.receipt().cost_nano == 0) is may_try_again


async def test_fault_of_the_gateway_is_settled_and_told_in_short() -> None:
    async def fail(_request: Request) -> FakeResponse:
        raise ValueError("the target is not a path")

    road = Road(fail)
    with pytest.raises(InternalFault) as caught:
        await road.travel()
    assert "target" not in caught.value.message
    assert road.receipt().outcome == "broken"
