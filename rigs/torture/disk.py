"""D1: a full disk: how calls are refused, what still works, and how the gateway recovers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path

from rigs.torture.harness import Result, TortureHarness
from rigs.torture.oracle import Finding
from rigs.torture.provider import RecordingProvider

DISK_MEBIBYTES = 64
FULL_SECONDS = 5.0
RECOVERED_SECONDS = 5.0
REFUSED_SECONDS = 1.0


async def fill(*, seed: int, report: Callable[[str], None]) -> Result:
    """Run D1 on a small tmpfs, which only root can mount; `n` counts calls refused while full."""
    if os.geteuid() != 0:
        return Result("D1", "disk full", 0, [], "needs root to mount a tmpfs: not run")
    with _small_disk() as folder, RecordingProvider() as provider:
        harness = TortureHarness(folder / "data", provider)
        try:
            await asyncio.to_thread(harness.prepare)
            return await _fill(harness, folder / "ballast", seed, report)
        finally:
            harness.stop()


@contextlib.contextmanager
def _small_disk() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        size = f"size={DISK_MEBIBYTES}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def _fill(
    harness: TortureHarness, ballast: Path, seed: int, report: Callable[[str], None]
) -> Result:
    load = harness.make_clients(count=16, seed=seed)
    load.start()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(_fill_up, ballast)
    await _wait_until(lambda: bool(load.statuses.get(503)), 30.0)
    # Calls under way may still find room in the part of the log that is allocated.
    await asyncio.sleep(0.5)
    whole, refused = len(load.answers), load.statuses.get(503, 0)
    findings, slowest = await asyncio.to_thread(_look_at_full, harness)
    refused = load.statuses.get(503, 0) - refused
    if answered := len(load.answers) - whole:
        findings.append(Finding("L1", f"{answered} answers while the disk is full"))
    report(f"D1 full: {refused} refused, slowest {slowest:.2f} s, {len(findings)} findings")
    before = len(load.answers)
    await asyncio.to_thread(ballast.unlink)
    recovered = await _wait_until(lambda: len(load.answers) > before, 4 * RECOVERED_SECONDS)
    if recovered > RECOVERED_SECONDS:
        findings.append(Finding("L1", f"no answer until {recovered:.1f} s after there was room"))
    await asyncio.sleep(1.0)
    await load.stop()
    findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
    figures = f"refused in <= {slowest:.2f} s; answers again after {recovered:.2f} s"
    return Result("D1", f"disk of {DISK_MEBIBYTES} MiB full", refused, findings, figures)


async def _wait_until(is_so: Callable[[], bool], seconds: float) -> float:
    """Return the seconds that it took, or more than were given."""
    started = time.monotonic()
    while not is_so() and time.monotonic() - started <= seconds:  # noqa: ASYNC110 - counts grow
        await asyncio.sleep(0.02)
    return time.monotonic() - started


def _fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _look_at_full(harness: TortureHarness) -> tuple[list[Finding], float]:
    """Check health and reads while the disk is full, and the slowest refusal."""
    findings, slowest = list[Finding](), 0.0
    deadline = time.monotonic() + FULL_SECONDS
    while time.monotonic() < deadline:
        for path, wanted in (("/health/live", 200), ("/health/ready", 503), ("/metrics", 200)):
            status, _ = _ask(f"{harness.gateway.url}{path}", "")
            if status != wanted:
                findings.append(Finding("DB", f"{path} answers {status}"))
        status, seconds = _ask(f"{harness.gateway.url}/v1/models", harness.gateway.key)
        slowest = max(slowest, seconds)
        if status != 503:
            findings.append(Finding("L1", f"a call is answered with {status} while full"))
    if slowest > REFUSED_SECONDS:
        findings.append(Finding("L1", f"a refusal took {slowest:.2f} s"))
    return findings, slowest


def _ask(url: str, key: str) -> tuple[int, float]:
    started = time.monotonic()
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            status = answer.status
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
    return status, time.monotonic() - started
