"""K5: the disk refuses a flush (EIO at the nth fdatasync or fsync of a thread, by strace)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable

from rigs.torture.harness import Result, TortureHarness, running_harness
from rigs.torture.oracle import Finding, check_after_crash

ENDED_SECONDS = 30.0
SYSCALLS = "fdatasync,fsync"


async def fail_flushes(
    *, numbers: Iterable[int], seed: int, report: Callable[[str], None], clients: int = 16
) -> Result:
    """Run K5: after a failed flush nothing is acknowledged, and the process ends by itself.

    `n` counts the flushes that failed.
    """
    findings, failed = list[Finding](), 0
    if shutil.which("strace") is None:
        return Result("K5", "a flush fails", 0, findings, "strace is not installed: not run")
    with running_harness() as harness:
        load = harness.make_clients(count=clients, seed=seed)
        load.start()
        for number in numbers:
            findings += await asyncio.to_thread(_fail, harness, number)
            findings += await asyncio.to_thread(check_after_crash, harness.database)
            await asyncio.to_thread(harness.restart)
            await asyncio.sleep(0.3)
            failed += 1
            report(f"K5 flush {number}: {len(load.answers)} whole, {len(findings)} findings")
        await load.stop()
        findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
    figures = f"{len(load.answers)} whole answers; statuses {dict(sorted(load.statuses.items()))}"
    return Result("K5", "EIO at the nth fsync", failed, findings, figures)


def _fail(harness: TortureHarness, number: int) -> list[Finding]:
    """Make strace fail the running gateway's flushes; it must end by itself, with an error."""
    process = harness.gateway.process
    # strace counts for each thread: the writer's thread is the one that flushes.
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={SYSCALLS}"),
            *("-e", f"inject={SYSCALLS}:error=EIO:when={number}", "-p", str(process.pid)),
        ]
    )
    try:
        status = process.wait(ENDED_SECONDS)
    except subprocess.TimeoutExpired:
        harness.gateway.kill()
        return [Finding("DB", f"flush {number} failed, and the process went on")]
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.wait()
    return [] if status == 1 else [Finding("DB", f"flush {number}: ended with {status}")]
