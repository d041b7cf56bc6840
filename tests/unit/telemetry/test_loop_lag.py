from __future__ import annotations

import asyncio

import pytest

from headgate.telemetry.loop_lag import PERIOD_SECONDS, LoopLagMonitor

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_tick_reports_its_lag_and_swallowed_ticks_count() -> None:
    told: list[int] = []
    now = [0.0]
    loop_lag = LoopLagMonitor(told.append, lambda: now[0])
    loop_lag.start()
    now[0] = PERIOD_SECONDS
    loop_lag.tick()
    assert told == [0]
    now[0] += PERIOD_SECONDS + 0.002
    loop_lag.tick()
    assert told.pop() == pytest.approx(2_000, abs=1)
    now[0] += PERIOD_SECONDS + 0.170
    loop_lag.tick()
    assert told[1:] == pytest.approx([170_000, 120_000, 70_000, 20_000], abs=1)
    loop_lag.stop()


async def test_monitor_ticks_until_it_is_stopped() -> None:
    beats = asyncio.Semaphore(0)
    loop_lag = LoopLagMonitor(lambda _: beats.release())
    loop_lag.start()
    await beats.acquire()
    await beats.acquire()
    loop_lag.stop()
    await asyncio.sleep(2 * PERIOD_SECONDS)
    assert beats.locked(), "no beat after the stop"
