"""What tests of capacity share: calls with limits, and a limiter on a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from headgate.capacity.model.pools import PriorityPool, PriorityPools
from headgate.capacity.service import CapacityLimiter, Windows
from headgate.kit.errors import HeadgateError
from headgate.llm.usage import Usage
from headgate.relay.call_state import CallState
from headgate.relay.capacity_limits import CapacityLimit
from headgate.relay.ports import Grant, Receipt
from headgate.relay.targets import CallRoute
from tests.fakes.example_receipt import PLAIN
from tests.fakes.pipeline import CREDENTIAL, FakeCaller, ManualClock, make_call, make_state


class Announced:
    """Hold what providers announced: requests and tokens by model."""

    def __init__(self) -> None:
        self.limits: dict[str | None, tuple[int | None, int | None]] = {}

    def find(self, credential_id: str, model: str | None) -> tuple[int | None, int | None]:
        return self.limits.get(model, (None, None))


class Pools:
    def __init__(self) -> None:
        self.projects: Mapping[str, PriorityPools] = {}

    def define(self, *pools: PriorityPool) -> None:
        defined = PriorityPools(project_id="proj_1", organization_id="org_1", pools=pools)
        self.projects = {"proj_1": defined}


class Counting:
    """Admit and settle calls, as the pipeline does."""

    def __init__(self, windows: Windows | None = None) -> None:
        self.clock = ManualClock()
        self.announced = Announced()
        self.pools = Pools()
        self.windows = Windows() if windows is None else windows
        self.limiter = CapacityLimiter(
            self.clock, self.windows, announced=self.announced, pools=self.pools
        )

    def admit(self, state: CallState) -> CallState:
        asyncio.run(self.limiter.admit(state))
        return state

    def refuse(self, state: CallState) -> HeadgateError:
        """Return the error with which a call is refused."""
        try:
            self.admit(state)
        except HeadgateError as error:
            assert state.capacity is None
            return error
        raise AssertionError("it was admitted")

    def settle(
        self,
        state: CallState,
        used: int | None,
        *,
        attempts: int = 1,
        outcome: str = "completed",
        pricing: str = "priced",
    ) -> None:
        state.attempts, total = attempts, attempts + state.failed_attempts
        receipt = make_outcome(used, attempts=total, outcome=outcome, pricing=pricing)
        self.limiter.settle(state, receipt)

    def count(self, state: CallState, level: str, period: str = "minute") -> tuple[int, int]:
        """Return the requests and tokens in the current window."""
        owner = {"key": "key_1", "credential": "cred_1", "resource": "res_1"}[level]
        usage = self.limiter.find(level, owner, find_limits(state, level), period)
        assert usage is not None
        return usage.requests_used, usage.tokens_used


def find_limits(state: CallState, level: str) -> Sequence[CapacityLimit]:
    route, credential = state.call.route, state.credential
    assert credential is not None
    of_route = () if route is None else route.capacity
    return {
        "key": state.call.grant.capacity,
        "credential": credential.capacity,
        "resource": of_route,
    }[level]


def make_limited(
    *,
    key: Sequence[CapacityLimit] = (),
    resource: Sequence[CapacityLimit] = (),
    credential: Sequence[CapacityLimit] = (),
    address: str = "203.0.113.9",
    metadata: str = "",
    body: bytes = b'{"model":"gpt-5.4-mini","messages":[]}',
    key_id: str = "key_1",
    path: str = "/chat/completions",
    method: str = "POST",
) -> CallState:
    """Return the state of a routed call whose key, resource and credential have these limits."""
    grant = Grant(key_id, "org_1", "proj_1", capacity=tuple(key))
    call = make_call(path, body=body, grant=grant, method=method)
    call.metadata = metadata
    if resource:
        call.route = CallRoute("search", (), resource_id="res_1", capacity=tuple(resource))
    state = make_state(call)
    state.credential = replace(CREDENTIAL, capacity=tuple(credential))
    caller = FakeCaller()
    caller.client_address = address
    state.caller = caller
    return state


def make_outcome(
    used: int | None, *, attempts: int = 1, pricing: str = "priced", outcome: str = "completed"
) -> Receipt:
    usage = None if used is None else Usage(input_tokens=used)
    return replace(PLAIN, usage=usage, attempts=attempts, pricing=pricing, outcome=outcome)
