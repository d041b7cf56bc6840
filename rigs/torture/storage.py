"""D2, D3, D8: a locked database, a reader that never ends, and backups, all under load.

They are about SQLite, where another program may hold the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from pathlib import Path

import msgspec

from headgate.data_directory import backup
from headgate.main.master_keys import build_source
from headgate.settings import Settings
from rigs.torture.clients import Clients
from rigs.torture.harness import Result, TortureHarness, running_harness
from rigs.torture.oracle import Finding, Read, judge_ledger, opened

CLIENTS = 16
RECOVERED_SECONDS = 10.0
HEALTH_SECONDS_MAX = 1.0
"""The longest wait for an answer about the health, which reads no database."""
PROBE_SECONDS = 0.1
LOG_BYTES_MAX = 1 << 30
LOG_BYTES_AFTER_MAX = 128 << 20


class Size(msgspec.Struct, frozen=True):
    """Set how long the database is locked, how long the reader reads, and how many backups."""

    locked_seconds: float = 30.0
    reading_seconds: float = 600.0
    backups: int = 20


FULL = Size()
QUICK = Size(locked_seconds=6.0, reading_seconds=6.0, backups=2)
Report = Callable[[str], None]


async def lock_database(*, size: Size, seed: int, report: Report) -> Result:
    """Run D2: while the database is locked, no answer is completed and everything else goes on.

    `n` counts the calls that were refused.
    """
    findings, slowest = list[Finding](), 0.0
    with running_harness() as harness:
        async with running_clients(harness, seed) as load:
            await asyncio.sleep(1.0)
            with locked(harness.database):
                # What was being committed is answered still.
                await asyncio.sleep(PROBE_SECONDS)
                whole = len(load.answers)
                slowest = await asyncio.to_thread(probe, harness, size.locked_seconds)
                if answered := len(load.answers) - whole:
                    findings.append(Finding("L1", f"{answered} answers while it is locked"))
            recovered = await wait_for_answers(load, len(load.answers))
        refused = load.statuses.get(503, 0)
        if recovered > RECOVERED_SECONDS:
            findings.append(Finding("L1", f"no answer until {recovered:.1f} s after the lock"))
        if slowest > HEALTH_SECONDS_MAX:
            findings.append(Finding("DB", f"health took {slowest:.2f} s"))
        if not refused:
            findings.append(Finding("DB", "no call was refused"))
        findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
    report(f"D2: {refused} refused, {len(findings)} findings")
    figures = (
        f"locked for {size.locked_seconds:.0f} s; health within {slowest:.3f} s; answers again "
        f"after {recovered:.2f} s"
    )
    return Result("D2", "a locked database", refused, findings, figures)


async def keep_reading(*, size: Size, seed: int, report: Report) -> Result:
    """Run D3: a reader that never ends keeps the log from being reused. `n` counts the answers."""
    findings = list[Finding]()
    with running_harness() as harness:
        log = harness.database.with_name(f"{harness.database.name}-wal")
        async with running_clients(harness, seed) as load:
            await asyncio.sleep(0.5)
            with reading(harness.database):
                await asyncio.sleep(size.reading_seconds)
                longest = log.stat().st_size
            answers = len(load.answers)
            await asyncio.sleep(1.0)
            if len(load.answers) == answers:
                findings.append(Finding("L1", "no answer after the reader"))
        if longest > LOG_BYTES_MAX:
            findings.append(Finding("DB", f"the log grew to {longest} bytes"))
        findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
        if log.exists() and log.stat().st_size > LOG_BYTES_AFTER_MAX:
            findings.append(Finding("DB", f"the log has {log.stat().st_size} bytes at the end"))
        findings += find_damage(harness.database)
    report(f"D3: {len(load.answers)} answers, log {longest >> 20} MiB, {len(findings)} findings")
    figures = f"reader of {size.reading_seconds:.0f} s; log of {longest / (1 << 20):.1f} MiB"
    return Result("D3", "a reader that never ends", len(load.answers), findings, figures)


async def back_up(*, size: Size, seed: int, report: Report) -> Result:
    """Run D8: back up again and again under load, restore each backup, and judge it.

    `n` counts the backups. Every answer that was whole before a backup is in it.
    """
    findings = list[Finding]()
    receipts = 0
    with running_harness() as harness, tempfile.TemporaryDirectory(prefix="backups-") as folder:
        async with running_clients(harness, seed) as load:
            for number in range(size.backups):
                await asyncio.sleep(0.5)
                whole = {each.request_id for each in load.answers}
                place = Path(folder) / str(number)
                found, receipts = await asyncio.to_thread(restore_one, harness, place, whole)
                findings += found
                report(f"D8 {number + 1}/{size.backups}: {receipts} receipts, {len(findings)}")
        findings += await asyncio.to_thread(harness.stop_and_judge, load.answers)
    figures = f"{len(load.answers):,} answers; {receipts:,} receipts in the last backup"
    return Result("D8", "backups under load", size.backups, findings, figures)


def restore_one(harness: TortureHarness, place: Path, whole: set[str]) -> tuple[list[Finding], int]:
    """Back up, restore, and return what is wrong with it, and the number of its receipts."""
    place.mkdir()
    folder, key_file = place / "backup", place / "master.key"
    done = harness.gateway.run("backup", str(folder), "--key-file", str(key_file))
    if done.returncode:
        return [Finding("DB", f"a backup failed: {done.stderr}")], 0
    fresh = Settings(data=place / "restored")
    # It opens a secret with the master key, so a wrong one fails here.
    backup.restore(fresh, build_source(fresh), folder, replace=False, key_file=key_file)
    file = fresh.data / "headgate.db"
    with opened(file) as read:
        found, receipts = judge_backup(read, whole)
    return [*found, *find_damage(file)], receipts


def judge_backup(read: Read, whole: set[str]) -> tuple[list[Finding], int]:
    """Return the answers that a backup lost, and what its ledger says."""
    receipts = {name for (name,) in read("SELECT request_id FROM receipts")}
    lost = [Finding("L1", f"{name} is not in the backup") for name in sorted(whole - receipts)]
    return [*lost, *judge_ledger(read)], len(receipts)


def find_damage(file: Path) -> list[Finding]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
    return [Finding("DB", text) for (text,) in rows if text != "ok"]


@contextlib.asynccontextmanager
async def running_clients(harness: TortureHarness, seed: int) -> AsyncGenerator[Clients]:
    """Call without end in a block, and let the last calls end."""
    load = harness.make_clients(count=CLIENTS, seed=seed)
    load.start()
    try:
        yield load
    finally:
        await load.stop()
        await asyncio.sleep(0.5)


async def wait_for_answers(load: Clients, known: int) -> float:
    """Return the seconds until there are more answers, or more than it may take."""
    started = time.monotonic()
    deadline = started + RECOVERED_SECONDS
    while len(load.answers) <= known and time.monotonic() <= deadline:  # noqa: ASYNC110 - counts grow
        await asyncio.sleep(0.02)
    return time.monotonic() - started


@contextlib.contextmanager
def locked(file: Path) -> Generator[None]:
    """Hold the lock of an SQLite file, as another program may."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def reading(file: Path) -> Generator[None]:
    """Read one state of an SQLite file for the whole block."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM receipts").fetchone()
        yield


def probe(harness: TortureHarness, seconds: float) -> float:
    """Ask for the health again and again; return the longest wait for it in seconds."""
    slowest, deadline = 0.0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.monotonic()
        with urllib.request.urlopen(f"{harness.gateway.url}/health/live", timeout=10) as answer:
            answer.read()
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(PROBE_SECONDS)
    return slowest
