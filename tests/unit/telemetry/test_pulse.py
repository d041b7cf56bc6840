from __future__ import annotations

import asyncio

import pytest

from headgate.telemetry.pulse import PERIOD_SECONDS, Pulse

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_each_beat_tells_how_late_it_is_and_a_long_one_counts_for_all_it_swallowed() -> None:
    told: list[int] = []
    now = [0.0]
    pulse = Pulse(told.append, lambda: now[0])
    pulse.start()
    now[0] = PERIOD_SECONDS
    pulse.beat()
    assert told == [0]
    now[0] += PERIOD_SECONDS + 0.002
    pulse.beat()
    assert told.pop() == pytest.approx(2_000, abs=1)
    now[0] += PERIOD_SECONDS + 0.170
    pulse.beat()
    assert told[1:] == pytest.approx([170_000, 120_000, 70_000, 20_000], abs=1)
    pulse.stop()


async def test_it_beats_by_itself_until_it_is_stopped() -> None:
    beats = asyncio.Semaphore(0)
    pulse = Pulse(lambda _: beats.release())
    pulse.start()
    await beats.acquire()
    await beats.acquire()
    pulse.stop()
    await asyncio.sleep(2 * PERIOD_SECONDS)
    assert beats.locked(), "no beat after the stop"
