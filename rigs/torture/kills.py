"""K1: kill -9 at any moment. K2: kill -9 at the moments that matter most."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rigs.torture.harness import Result, TortureHarness, running_harness
from rigs.torture.oracle import Finding, check_after_crash, judge_file
from rigs.torture.provider import RecordingProvider
from tests.fakes.gateway import Gateway, start_gateway

Report = Callable[[str], None]

CALL_POINTS = (
    "after_hold",
    "before_dispatch",
    "first_byte",
    "before_settle",
    "mid_settlement",
    "outbox_insert",
    "before_commit",
    "after_commit",
    "before_last_frame",
    "after_last_frame",
)
"""Reached by every call (the settlement of managed ones for two of them)."""
START_POINTS = (
    "first_start_tables",
    "first_start_master_key",
    "first_start_keys",
    "migration",
)
RUNNING_POINTS = (*CALL_POINTS, "hold_reaper", "stopping")
REACHED_SECONDS = 30.0
"""A failpoint that is not reached under load by then is a finding."""
NTH_MAX = 40


async def kill_at_random(
    *,
    kills: int,
    clients: int,
    seed: int,
    report: Report,
    wait_seconds: tuple[float, float] = (0.1, 3.0),
) -> Result:
    """Run K1. `n` counts the calls that were in flight when the gateway died."""
    draw, findings = random.Random(seed), list[Finding]()
    in_flight, ready = 0, list[float]()
    with running_harness() as harness:
        load = harness.make_clients(count=clients, seed=seed)
        load.start()
        for number in range(1, kills + 1):
            await asyncio.sleep(draw.uniform(*wait_seconds))
            in_flight += load.in_flight
            harness.gateway.kill()
            findings += await asyncio.to_thread(check_after_crash, harness.database)
            ready.append(await asyncio.to_thread(harness.restart))
            if number % 10 == 0 or number == kills:
                report(
                    f"K1 {number}/{kills} kills, {in_flight} in flight, {len(load.answers)} whole, "
                    f"{len(findings)} findings, last ready in {ready[-1]:.1f} s"
                )
        await asyncio.sleep(0.3)
        await load.stop()
        findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
    ready.sort()
    figures = (
        f"{kills} kills, {in_flight} in flight, {len(load.answers)} whole answers of {load.begun} "
        f"calls; ready p50 {ready[len(ready) // 2]:.2f} s, p100 {ready[-1]:.2f} s"
    )
    return Result("K1", "kill -9 at random under load", in_flight, findings, figures)


async def kill_at_points(
    *,
    times: int,
    clients: int,
    seed: int,
    report: Report,
    points: Sequence[str] = RUNNING_POINTS + START_POINTS,
) -> Result:
    """Run K2. `n` counts the kills."""
    draw, findings, kills = random.Random(seed), list[Finding](), 0
    for point in [each for each in points if each in RUNNING_POINTS]:
        with running_harness(grace_seconds=0.5) as harness:
            load = harness.make_clients(count=clients, seed=draw.getrandbits(32))
            load.start()
            for _ in range(times):
                await asyncio.sleep(draw.uniform(0.05, 0.3))
                harness.gateway.kill()
                findings += await _meet(harness, point, draw.randint(1, NTH_MAX))
                findings += await asyncio.to_thread(check_after_crash, harness.database)
                await asyncio.to_thread(harness.restart)
                kills += 1
            await load.stop()
            here = await asyncio.to_thread(harness.stop_and_judge, load.answers)
        findings += here
        report(f"K2 {point}: {times} kills, {len(load.answers)} whole, {len(findings)} findings")
    for point in [each for each in points if each in START_POINTS]:
        for _ in range(times):
            findings += await asyncio.to_thread(start_over, point)
            kills += 1
        report(f"K2 {point}: {times} kills, {len(findings)} findings")
    figures = f"{len(points)} points x {times}"
    return Result("K2", "kill -9 at each failpoint", kills, findings, figures)


async def _meet(harness: TortureHarness, point: str, nth: int) -> list[Finding]:
    """Start the gateway, which dies at the point."""
    if point in ("hold_reaper", "stopping"):
        nth = 1
    try:
        await asyncio.to_thread(harness.restart, failpoint=f"{point}=kill@{nth}")
    except AssertionError:
        # It died before it was ready: at the point, if a start reaches it.
        return (
            []
            if point in ("hold_reaper", "before_commit", "after_commit", *CALL_POINTS)
            else [Finding("DB", f"no start with {point}")]
        )
    if point == "hold_reaper":
        # There was no open hold when it was killed.
        harness.gateway.kill()
        return []
    if point == "stopping":
        await asyncio.sleep(0.2)
        harness.gateway.process.terminate()
    return await _await_death(harness.gateway, point)


async def _await_death(gateway: Gateway, point: str) -> list[Finding]:
    try:
        status = await asyncio.to_thread(gateway.process.wait, REACHED_SECONDS)
    except subprocess.TimeoutExpired:
        gateway.kill()
        return [Finding("DB", f"{point} was not reached in {REACHED_SECONDS} s")]
    return [] if status == -9 else [Finding("DB", f"{point} ended with {status}")]


def start_over(point: str) -> list[Finding]:
    """Die within the very first start; the next one must succeed."""
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, RecordingProvider() as provider:
        data = Path(folder) / "data"
        given: dict[str, Any] = {"test_mode": "true", "failpoint": f"{point}=kill"}
        if point == "migration":
            _upgrade(data, given)
        else:
            try:
                start_gateway(data, **given).kill()
            except AssertionError as error:
                if "-9" not in str(error):
                    return [Finding("DB", f"{point}: {error}")]
            else:
                return [Finding("DB", f"{point} is not reached by a first start")]
        harness = TortureHarness(data, provider)
        try:
            harness.prepare()
            harness.gateway.stop()
            return check_after_crash(harness.database) + judge_file(harness.database, [], {})
        finally:
            harness.stop()


def _upgrade(data: Path, given: dict[str, str]) -> None:
    data.mkdir()
    environment = {name: value for name, value in os.environ.items() if "HEADGATE" not in name}
    environment |= {f"HEADGATE_{name.upper()}": value for name, value in given.items()}
    command = [sys.executable, "-m", "headgate.kit.db.upgrade", str(data / "headgate.db")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
