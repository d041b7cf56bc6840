from __future__ import annotations

import asyncio

import pytest

from headgate.relay.call_state import ClientDisconnectedError
from headgate.relay.disconnects import DisconnectHandler, Drains
from headgate.relay.ports import DisconnectPolicy
from tests.fakes.pipeline import FakeCaller, FakeResponse

pytestmark = pytest.mark.anyio

DRAIN, CANCEL = DisconnectPolicy.DRAIN, DisconnectPolicy.CANCEL


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class DisconnectHarness:
    """Run a task that waits for an answer that never comes, for a client that listens."""

    def __init__(self, drains: Drains, policy: DisconnectPolicy | None = None) -> None:
        self.caller = FakeCaller()
        self.disconnects = DisconnectHandler(self.caller, drains, policy)
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self.work())

    async def work(self) -> None:
        self.disconnects.start()
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.disconnects.stop()

    async def is_cancelled(self) -> bool:
        await asyncio.wait([self.task])
        return self.task.cancelled()


async def test_disconnect_ends_the_task_after_the_drain() -> None:
    attended = DisconnectHarness(drains := Drains(policy=DRAIN, drain_seconds=0.01, drains_max=4))
    await attended.begun.wait()
    started = asyncio.get_running_loop().time()
    attended.caller.leave()
    assert drains.active == 1
    assert await attended.is_cancelled()
    assert asyncio.get_running_loop().time() - started >= 0.01
    assert drains.active == 0


async def test_drains_over_the_limit_are_cancelled_at_once() -> None:
    drains = Drains(policy=DRAIN, drain_seconds=3600, drains_max=1)
    first, second = DisconnectHarness(drains), DisconnectHarness(drains)
    await first.begun.wait()
    await second.begun.wait()
    first.caller.leave()
    second.caller.leave()
    assert await second.is_cancelled()
    assert not first.task.done()
    first.task.cancel()
    assert await first.is_cancelled()
    assert drains.active == 0


@pytest.mark.parametrize(
    ("default", "own", "drained"),
    [
        (DRAIN, None, True),
        (CANCEL, None, False),
        (CANCEL, DRAIN, True),
        (DRAIN, CANCEL, False),
    ],
)
async def test_policy_of_the_key_comes_before_that_of_the_gateway(
    default: DisconnectPolicy, own: DisconnectPolicy | None, drained: bool
) -> None:
    drains = Drains(policy=default, drain_seconds=3600, drains_max=4)
    attended = DisconnectHarness(drains, own)
    await attended.begun.wait()
    attended.caller.leave()
    assert drains.active == drained
    if drained:
        attended.task.cancel()
    assert await attended.is_cancelled()
    assert drains.active == 0


async def test_caller_that_disconnected_before_is_noticed() -> None:
    drains = Drains(policy=DRAIN, drain_seconds=0, drains_max=1)
    attended = DisconnectHarness(drains)
    attended.caller.gone = True
    assert await attended.is_cancelled()


async def test_disconnect_after_the_end_changes_nothing() -> None:
    drains = Drains(policy=DRAIN, drain_seconds=0, drains_max=1)
    disconnects = DisconnectHandler(caller := FakeCaller(), drains)
    disconnects.start()
    disconnects.stop()
    caller.leave()
    assert not disconnects.disconnected
    assert drains.active == 0


async def test_slow_reader_pauses_the_provider_until_it_has_caught_up() -> None:
    disconnects = DisconnectHandler(
        FakeCaller(), Drains(policy=DRAIN, drain_seconds=1, drains_max=1)
    )
    disconnects.attach(flow := FakeResponse())
    disconnects.pause()
    assert flow.paused
    disconnects.resume()
    assert not flow.paused


async def test_reader_that_was_slow_before_the_answer_pauses_it() -> None:
    disconnects = DisconnectHandler(
        FakeCaller(), Drains(policy=DRAIN, drain_seconds=1, drains_max=1)
    )
    disconnects.pause()
    disconnects.attach(flow := FakeResponse())
    assert flow.paused


async def test_slow_reader_that_disconnected_lets_the_answer_run_to_its_end() -> None:
    disconnects = DisconnectHandler(
        caller := FakeCaller(), Drains(policy=DRAIN, drain_seconds=3600, drains_max=1)
    )
    disconnects.start()
    disconnects.attach(flow := FakeResponse())
    disconnects.pause()
    caller.leave()
    assert not flow.paused
    disconnects.pause()
    assert not flow.paused
    disconnects.stop()


async def test_wait_between_attempts_ends_at_once_when_the_client_disconnects() -> None:
    disconnects = DisconnectHandler(
        caller := FakeCaller(), Drains(policy=DRAIN, drain_seconds=3600, drains_max=1)
    )
    sleeping = asyncio.Event()

    async def work() -> None:
        disconnects.start()
        try:
            asyncio.get_running_loop().call_soon(sleeping.set)
            await disconnects.sleep(3600)
        finally:
            disconnects.stop()

    task = asyncio.create_task(work())
    await sleeping.wait()
    caller.leave()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


async def test_no_attempt_is_repeated_for_a_client_that_disconnected() -> None:
    disconnects = DisconnectHandler(
        caller := FakeCaller(), Drains(policy=DRAIN, drain_seconds=3600, drains_max=1)
    )
    disconnects.start()
    caller.leave()
    with pytest.raises(ClientDisconnectedError):
        await disconnects.sleep(0)
    disconnects.stop()
