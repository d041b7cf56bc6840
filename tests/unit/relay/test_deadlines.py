"""A provider is waited for as long as its credential, its model and the settings say.

Time is virtual: the connection is the real one, but for its socket and its clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from headgate.kit.http.errors import EgressError, IdleTimeoutError, TotalTimeoutError
from headgate.kit.http.exchange import UpstreamExchange
from headgate.kit.http.message import Request, Timeouts
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.deadlines import make_deadlines, merge_timeouts
from headgate.relay.ports import Deadlines
from headgate.relay.retry import RetryPolicy
from headgate.relay.routing import Routing
from headgate.relay.upstream import ProviderTimeoutError, Upstream, UpstreamResponse
from tests.fakes.pipeline import (
    CHAT,
    CREDENTIAL,
    STREAMED_CHAT,
    FakeClient,
    FakeCredentials,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)
from tests.fakes.upstream_connection import Rig

pytestmark = pytest.mark.anyio

SETTINGS = Timeouts(5, 600, 600, 3_600)
HEADS = {
    CHAT: b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90000\r\n\r\n",
    STREAMED_CHAT: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\n\r\n",
}
each_way = pytest.mark.parametrize("body", [CHAT, STREAMED_CHAT], ids=["buffered", "streamed"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Collector:
    """Collect the events of a stream."""

    error: Exception | None = None

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: Exception) -> None:
        self.error = error


class Provider:
    """Represent the provider at the other end of one connection, in virtual time."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.sent: list[Request] = []

    def now(self) -> float:
        return self.rig.loop.now

    monotonic = now

    async def send(self, request: Request) -> UpstreamExchange:
        self.sent.append(request)
        exchange = self.rig.connection.start(request, b"HEAD ", self.now())
        await exchange.arrival
        if exchange.error is not None and not exchange.status:
            raise exchange.take_error()
        return exchange

    def say(self, data: bytes) -> None:
        self.rig.connection.data_received(data)

    def stay_silent(self, seconds: float) -> bool:
        """Return whether it is still waited for after so many seconds."""
        self.rig.loop.now += seconds
        return self.rig.connection.check(self.rig.loop.now)


class Call:
    """Run one call through routing and sending."""

    def __init__(
        self, body: bytes, model: Deadlines | None = None, credential: Deadlines | None = None
    ) -> None:
        self.provider = Provider()
        self.body = body
        breakers = Breakers(ManualClock())
        self.routing = Routing(
            FakeCredentials(replace(CREDENTIAL, deadlines=credential)),
            FakeModels(replace(FakeModels().model, deadlines=model)),
            breakers,
        )
        self.upstream = Upstream(
            self.provider,
            policy=RetryPolicy(),
            timeouts=SETTINGS,
            breakers=breakers,
            clock=self.provider,
        )

    @asynccontextmanager
    async def sending(self) -> AsyncGenerator[asyncio.Task[UpstreamResponse]]:
        state = CallState(make_call(body=self.body), make_state().parsed_usage)
        self.routing.plan(state)
        task = asyncio.create_task(self.upstream.send(state))
        for _ in range(3):
            await asyncio.sleep(0)
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def fail_while_answering(
        self, task: asyncio.Task[UpstreamResponse], silence: float
    ) -> EgressError:
        """Begin the answer, then pause: it is given up after `silence` seconds, and no earlier."""
        self.provider.say(HEADS[self.body])
        answer = await task
        collector = Collector()
        reading = None
        if self.body == CHAT:
            reading = asyncio.create_task(answer.response.read(1 << 20))
            await asyncio.sleep(0)
        else:
            answer.response.stream(collector)
        assert self.provider.stay_silent(silence - 0.01)
        assert not self.provider.stay_silent(0.02)
        error = collector.error
        if reading is not None:
            (error,) = await asyncio.gather(reading, return_exceptions=True)
        assert isinstance(error, EgressError)
        return error


@each_way
@pytest.mark.parametrize(
    ("model", "credential", "seconds"),
    [
        (None, None, 600),
        (Deadlines(first_byte_seconds=1_200), None, 1_200),
        (None, Deadlines(first_byte_seconds=1_800), 1_800),
        (Deadlines(first_byte_seconds=1_200), Deadlines(first_byte_seconds=30), 30),
        (Deadlines(first_byte_seconds=1_200), Deadlines(idle_seconds=30), 1_200),
        (Deadlines(total_seconds=90), None, 90),
        (None, Deadlines(first_byte_seconds=7_200, total_seconds=5_000), 5_000),
    ],
)
async def test_answer_has_to_begin_in_the_time_of_its_model_and_credential(
    body: bytes, model: Deadlines | None, credential: Deadlines | None, seconds: float
) -> None:
    call = Call(body, model, credential)
    async with call.sending() as task:
        assert call.provider.stay_silent(seconds - 0.01)
        assert not call.provider.stay_silent(0.02)
        with pytest.raises(ProviderTimeoutError):
            await task


@each_way
@pytest.mark.parametrize(
    ("model", "credential", "seconds"),
    [
        (None, None, 600),
        (Deadlines(idle_seconds=1_200), None, 1_200),
        (None, Deadlines(idle_seconds=1_800), 1_800),
        (Deadlines(idle_seconds=1_200), Deadlines(idle_seconds=5), 5),
    ],
)
async def test_answer_may_pause_for_the_time_of_its_model_and_credential(
    body: bytes, model: Deadlines | None, credential: Deadlines | None, seconds: float
) -> None:
    call = Call(body, model, credential)
    async with call.sending() as task:
        assert call.provider.stay_silent(3)
        error = await call.fail_while_answering(task, seconds)
        assert type(error) is IdleTimeoutError


@each_way
@pytest.mark.parametrize(
    ("model", "credential", "seconds"),
    [
        (Deadlines(total_seconds=300), None, 300),
        (Deadlines(total_seconds=300), Deadlines(total_seconds=500), 500),
    ],
)
async def test_whole_call_ends_in_the_time_of_its_model_and_credential(
    body: bytes, model: Deadlines | None, credential: Deadlines | None, seconds: float
) -> None:
    call = Call(body, model, credential)
    async with call.sending() as task:
        assert call.provider.stay_silent(100)
        error = await call.fail_while_answering(task, seconds - 100)
        assert type(error) is TotalTimeoutError


async def test_no_attempt_is_made_that_would_begin_after_the_calls_own_total_deadline() -> None:
    client, clock = FakeClient(FakeResponse(503)), ManualClock()
    upstream = Upstream(
        client,
        policy=RetryPolicy(),
        timeouts=SETTINGS,
        breakers=Breakers(clock),
        clock=clock,
        draw=lambda: 0.5,
    )
    state = make_state()
    state.credential = replace(CREDENTIAL, deadlines=Deadlines(total_seconds=1))
    answer = await upstream.send(state, clock.sleep)
    assert (answer.status, answer.final, state.attempts) == (503, True, 2)
    assert [request.timeouts.total_seconds for request in client.sent] == [1, 0.5]


async def test_call_without_deadlines_of_its_own_has_those_of_the_settings_unmerged() -> None:
    assert make_deadlines(None, None, None) is None
    call = Call(CHAT)
    async with call.sending():
        assert call.provider.sent[0].timeouts is SETTINGS


def test_same_deadlines_are_merged_once() -> None:
    own = Deadlines(idle_seconds=7)
    merged = merge_timeouts(SETTINGS, None, own)
    assert merged == Timeouts(5, 600, 7, 3_600)
    assert merge_timeouts(SETTINGS, None, Deadlines(idle_seconds=7)) is merged
