"""One soak from the first key to the verdict."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rigs.soak import harness, samples
from rigs.soak.control import running_control
from rigs.soak.load import Load, Tally
from rigs.soak.samples import Finding, Sample
from rigs.soak.upstream import Upstream

REST_SECONDS_MAX = 15.0
REST_STEP_SECONDS = 0.5


@dataclass(frozen=True)
class SoakPlan:
    """Set how much to soak. `slope_max` is in MiB for 100,000 calls."""

    calls: int = 1_000_000
    keys: int = 100_000
    connections: int = 64
    every: int = 10_000
    seed: int = 4600
    warm_share: float = 0.1
    slope_max: float = samples.SLOPE_MAX


@dataclass(frozen=True)
class SoakResult:
    plan: SoakPlan
    tally: Tally
    idle: Sample
    loaded: list[Sample]
    end: Sample
    ledger_state: harness.LedgerState
    alarms: list[str]
    upstream_calls: int
    control_seconds: float
    """The p99 lag of an idle loop beside it."""

    def judge(self) -> list[Finding]:
        findings = samples.judge(self.idle, self.loaded, self.end, slope_max=self.plan.slope_max)
        calls, ledger_state = self.tally.done, self.ledger_state
        exact: list[tuple[str, int, int]] = [
            ("wrong answers", self.tally.wrong, 0),
            ("receipts", ledger_state.receipts, calls),
            ("faults in the ledger", len(ledger_state.faults), 0),
            ("holds still open", ledger_state.holds_open, 0),
            ("errors in the log", len(self.alarms), 0),
        ]
        findings += [
            Finding(name, f"{value:,} in {calls:,} calls", f"{wanted:,}", value == wanted)
            for name, value, wanted in exact
        ]
        return findings


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class SampleRecorder:
    """Take samples while calls run, one at a time."""

    def __init__(self, server: harness.Server, load: Load, say: Callable[[str], None]) -> None:
        self._server, self._load, self._say = server, load, say
        self._running: asyncio.Task[None] | None = None
        self.loaded: list[Sample] = []

    async def take(self) -> Sample:
        calls = self._load.tally.done
        exposition = await asyncio.to_thread(self._server.read, "/metrics")
        await asyncio.to_thread(self._server.watch_log)
        return samples.take(self._server.process.pid, exposition, calls)

    def note(self) -> None:
        """Take a sample beside the calls."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._note())

    async def _note(self) -> None:
        sample = await self.take()
        self.loaded.append(sample)
        self._say(describe(sample))

    async def rest(self, upstream: Upstream) -> Sample:
        """Take a sample after every connection was closed and everything has settled."""
        if self._running is not None:
            await self._running
        upstream.drop_connections()
        sample = await self.take()
        for _ in range(int(REST_SECONDS_MAX / REST_STEP_SECONDS)):
            await asyncio.sleep(REST_STEP_SECONDS)
            before, sample = sample, await self.take()
            is_settled = sample.recorded == self._load.tally.done
            # The request for the metrics is a client connection itself.
            is_closed = sample.counts["client_connections"] <= 1
            if is_settled and is_closed and sample.counts == before.counts:
                break
        return sample


def describe(sample: Sample) -> str:
    counts = " ".join(f"{name} {count}" for name, count in sample.counts.items())
    return f"{sample.calls:>9,} calls  {sample.resident:6.1f} MiB  {counts}"


async def soak(plan: SoakPlan, folder: Path, say: Callable[[str], None]) -> SoakResult:
    """Run the plan in an empty folder."""
    upstream = Upstream()
    await upstream.start()
    try:
        url = f"http://127.0.0.1:{upstream.port}/v1"
        data = folder / "data"
        say(f"making {plan.keys:,} keys")
        tokens = await asyncio.to_thread(harness.prepare, data, url, plan.keys)
        port = find_port()
        async with harness.running_server(data, port) as server, running_control() as control:
            load = Load(port, tokens, seed=plan.seed)
            recorder = SampleRecorder(server, load, say)
            warm = int(plan.calls * plan.warm_share)
            await load.run(warm, plan.connections, plan.every, recorder.note)
            idle = await recorder.rest(upstream)
            say(f"at rest: {describe(idle)}")
            recorder.loaded.clear()
            await load.run(plan.calls - warm, plan.connections, plan.every, recorder.note)
            end = await recorder.rest(upstream)
            say(f"at rest: {describe(end)}")
        ledger_state = await asyncio.to_thread(harness.read_ledger_state, data)
    finally:
        await upstream.stop()
    return SoakResult(
        plan,
        load.tally,
        idle,
        recorder.loaded,
        end,
        ledger_state,
        server.alarms,
        upstream.calls,
        control.late_seconds,
    )
