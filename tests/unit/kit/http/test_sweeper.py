"""A clock hand that ticks while there is something to watch, and sleeps else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from headgate.kit.http.sweeper import Sweeper


class Timer:
    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds = seconds
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop that has nothing but timers, which the test lets ring."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def time(self) -> float:
        return 7.5

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(seconds, call))
        return self.timers[-1]


class Sweep:
    def __init__(self, *answers: bool) -> None:
        self.heard: list[float] = []
        self._answers = list(answers)

    def __call__(self, now: float) -> bool:
        self.heard.append(now)
        return self._answers.pop(0)


def make(sweep: Callable[[float], bool]) -> tuple[Clock, Sweeper]:
    clock = Clock()
    return clock, Sweeper(cast("asyncio.AbstractEventLoop", cast("Any", clock)), 0.25, sweep)


def test_sweeper_has_one_timer_once_woken() -> None:
    clock, watch = make(Sweep())
    assert (watch.awake, clock.timers) == (False, [])
    watch.wake()
    watch.wake()
    assert watch.awake
    assert [timer.seconds for timer in clock.timers] == [0.25]


def test_sweeper_repeats_while_there_is_more_and_then_stops() -> None:
    sweep = Sweep(True, False, False)
    clock, watch = make(sweep)
    watch.wake()
    clock.timers[0].call()
    assert (watch.awake, len(clock.timers)) == (True, 2)
    clock.timers[1].call()
    assert (watch.awake, len(clock.timers)) == (False, 2)
    assert sweep.heard == [7.5, 7.5]
    watch.wake()
    assert (watch.awake, len(clock.timers)) == (True, 3)


def test_stopped_sweeper_cancels_its_timer_and_can_be_woken_again() -> None:
    clock, watch = make(Sweep())
    watch.stop()
    watch.wake()
    watch.stop()
    watch.stop()
    assert clock.timers[0].cancelled
    assert not watch.awake
    watch.wake()
    assert watch.awake
    assert [timer.cancelled for timer in clock.timers] == [True, False]


def test_sweep_that_wakes_the_sweeper_starts_one_timer() -> None:
    def sweep(now: float) -> bool:
        watch.wake()
        return True

    clock, watch = make(sweep)
    watch.wake()
    clock.timers[0].call()
    assert len(clock.timers) == 2
