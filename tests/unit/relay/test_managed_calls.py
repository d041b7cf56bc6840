"""Plans limit the managed calls of an organization, and never those with an own credential."""

from __future__ import annotations

from collections.abc import Container

import msgspec
import pytest

from headgate.kit.http.message import Timeouts
from headgate.kit.rate_limiter import RateLimitedError, RateLimiter
from headgate.relay.admission import Admission
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.concurrency import ConcurrencyLimiter
from headgate.relay.managed_calls import ManagedCallLimiter, PlanConcurrencyError
from headgate.relay.ports import Credential, ManagedCallLimits
from headgate.relay.reservation import Reservation
from headgate.relay.routing import Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCaller,
    FakeCredentials,
    FakeLedger,
    FakeModels,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio
MANAGED = msgspec.structs.replace(CREDENTIAL, managed=True)
BODY = b'{"model":"gpt-5.4-mini","max_tokens":10}'


class FakePlan:
    """Give every organization the same limits."""

    def __init__(self, limits: ManagedCallLimits, organization_id: str) -> None:
        self.organizations: Container[str] = frozenset({organization_id})
        self._limits = limits

    def find(self, organization_id: str) -> ManagedCallLimits:
        assert organization_id in self.organizations
        return self._limits


class Gate:
    """Hold for calls, and release their places, as the pipeline does."""

    def __init__(self, limits: ManagedCallLimits) -> None:
        self.clock = ManualClock()
        plan = FakePlan(limits, make_call(body=BODY).grant.organization_id)
        self.limiter = ManagedCallLimiter(self.clock, plan)
        self._concurrency = ConcurrencyLimiter(100, lag_seconds_max=1.0)
        self._admission = Admission(
            RateLimiter(self.clock), self._concurrency, managed_calls=self.limiter
        )
        self.ledger = FakeLedger()

    async def start(self, credential: Credential = MANAGED) -> Call:
        models = FakeModels()
        state = make_state(make_call(body=BODY))
        state.caller = FakeCaller()
        Routing(FakeCredentials(credential), models, Breakers(self.clock)).plan(state)
        self._admission.admit(state.call, state.caller)
        try:
            await Reservation(
                self.ledger,
                models,
                self.clock,
                timeouts=Timeouts(),
                managed_calls=self.limiter,
            ).hold(state)
        except Exception:
            self._admission.release(state.call)
            raise
        return state.call

    def end(self, call: Call) -> None:
        self._admission.release(call)


async def test_requests_of_a_minute_are_limited_before_money_is_held() -> None:
    gate = Gate(ManagedCallLimits(requests_per_minute=2))
    for _ in range(2):
        gate.end(await gate.start())
    with pytest.raises(RateLimitedError) as refused:
        await gate.start()
    assert str(refused.value).startswith("The plan of this organization allows 2 requests per min")
    assert refused.value.retry_after_seconds == pytest.approx(30.0)
    assert len(gate.ledger.holds) == 2
    gate.clock.seconds += 30.1
    await gate.start()


async def test_concurrent_calls_are_limited_and_their_places_come_back() -> None:
    gate = Gate(ManagedCallLimits(concurrent_requests=2))
    first, second = await gate.start(), await gate.start()
    with pytest.raises(PlanConcurrencyError) as refused:
        await gate.start()
    assert (refused.value.limit, refused.value.running) == (2, 2)
    gate.end(first)
    gate.end(await gate.start())
    gate.end(second)
    assert [(await gate.start()).has_plan_place for _ in range(2)] == [True, True]


async def test_place_comes_back_from_a_call_whose_hold_is_refused() -> None:
    gate = Gate(ManagedCallLimits(concurrent_requests=1))
    gate.ledger.available_nano = 0
    for _ in range(3):
        with pytest.raises(Exception, match="The wallet does not cover"):
            await gate.start()


async def test_own_credential_is_not_limited_by_the_plan() -> None:
    gate = Gate(ManagedCallLimits(requests_per_minute=1, concurrent_requests=1))
    calls = [await gate.start(CREDENTIAL) for _ in range(5)]
    assert not any(call.has_plan_place for call in calls)
