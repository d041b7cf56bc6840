"""Random calls against a model that counts every one of them, one after the other."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from headgate.capacity.service import Windows
from headgate.relay.call_state import CallState
from headgate.relay.capacity import CapacityExhaustedError
from headgate.relay.capacity_limits import CapacityLimit
from tests.unit.capacity.counting import Counting, make_limited

MINUTE, DAY = CapacityLimit("minute", requests=4, tokens=120), CapacityLimit("day", tokens=400)
BY_ADDRESS = CapacityLimit("hour", requests=3, dimension="source-ip")
ADDRESSES = ("192.0.2.1", "192.0.2.2")
ESTIMATE = 10


class LimiterMachine(RuleBasedStateMachine):
    """Compare the counts of the limiter with sums over all calls, and every decision with them."""

    def __init__(self) -> None:
        super().__init__()
        self.counting = Counting(Windows())
        self.running: list[tuple[CallState, list[int]]] = []
        self.calls: dict[object, list[list[int]]] = {}

    def name_windows(self, address: str) -> dict[object, tuple[int | None, int | None]]:
        """Return the windows of a call that begins now, with their limits."""
        now = self.counting.clock.now()
        return {
            ("key", "minute", now // 60): (4, 120),
            ("credential", "day", now // 86_400): (None, 400),
            ("key", address, now // 3_600): (3, None),
        }

    def total(self, window: object) -> tuple[int, int]:
        calls = self.calls.get(window, [])
        return sum(each[0] for each in calls), sum(each[1] for each in calls)

    @rule(address=st.sampled_from(ADDRESSES))
    def admit(self, address: str) -> None:
        state = make_limited(key=[MINUTE, BY_ADDRESS], credential=[DAY], address=address)
        windows = self.name_windows(address)
        fits = all(
            (requests is None or self.total(window)[0] < requests)
            and (tokens is None or self.total(window)[1] + ESTIMATE <= tokens)
            for window, (requests, tokens) in windows.items()
        )
        refusal = asyncio.run(self.try_admit(state))
        assert (refusal is None) == fits
        if refusal is not None:
            assert isinstance(refusal, CapacityExhaustedError)
            return
        counted = [1, ESTIMATE]
        for window in windows:
            self.calls.setdefault(window, []).append(counted)
        self.running.append((state, counted))

    async def try_admit(self, state: CallState) -> BaseException | None:
        [result] = await asyncio.gather(self.counting.limiter.admit(state), return_exceptions=True)
        return result

    @rule(data=st.data(), used=st.integers(0, 200), attempts=st.integers(0, 2))
    def settle(self, data: st.DataObject, used: int, attempts: int) -> None:
        if not self.running:
            return
        at = data.draw(st.integers(0, len(self.running) - 1))
        state, counted = self.running.pop(at)
        outcome = "completed" if attempts else "refused"
        self.counting.settle(state, used if attempts else None, attempts=attempts, outcome=outcome)
        counted[:] = [1, used] if attempts else [0, 0]

    @rule(seconds=st.sampled_from([1, 20, 61, 3_600, 90_000]))
    def wait(self, seconds: int) -> None:
        self.counting.clock.seconds += seconds
        self.counting.windows.sweep(self.counting.clock.now())

    @invariant()
    def shown_usage_is_the_sum_of_the_calls(self) -> None:
        now = self.counting.clock.now()
        find = self.counting.limiter.find
        for level, owner, limit, length in (
            ("key", "key_1", MINUTE, 60),
            ("credential", "cred_1", DAY, 86_400),
        ):
            usage = find(level, owner, [limit], limit.period)
            assert usage is not None
            total = self.total((level, limit.period, now // length))
            assert (usage.requests_used, usage.tokens_used) == total


LimiterMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
TestLimiter = LimiterMachine.TestCase
