"""`python -m rigs.soak.control`: the lag of an idle event loop on this machine, as a control.

Runs until its standard input ends, then prints the p99 in seconds: what a busy machine does to any
process, and so no fault of the one under test.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator

import uvloop

from headgate.telemetry.loop_lag import MICROSECONDS, LoopLagMonitor
from rigs.soak.samples import LAG_SHARE, quantile


class LagControl:
    """Hold the lag of an idle loop; `late_seconds` is set after the block."""

    late_seconds = 0.0


@contextlib.asynccontextmanager
async def running_control() -> AsyncGenerator[LagControl]:
    """Run an idle loop in a process of its own."""
    control = LagControl()
    command = [sys.executable, "-m", "rigs.soak.control"]
    process: Process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield control
    finally:
        output, _ = await process.communicate(b"")
        control.late_seconds = float(output or 0)


async def _listen() -> float:
    lates: list[float] = []
    monitor = LoopLagMonitor(lambda microseconds: lates.append(microseconds / MICROSECONDS))
    monitor.start()
    await asyncio.to_thread(sys.stdin.read)
    monitor.stop()
    return quantile(lates, LAG_SHARE)


if __name__ == "__main__":
    print(uvloop.run(_listen()))
