"""T1 to T3: servers whose wall clocks are set while a wallet is spent, or are wrong all the time.

Nothing may depend on them: a wallet for 1,000 calls lets 1,000 through, no lease ends before its
time, no id comes twice, and no duration is negative.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from rigs.torture import spending
from rigs.torture.attempts import AttemptLog
from rigs.torture.harness import Result
from rigs.torture.oracle import Finding, Read
from rigs.torture.servers import SERVERS, Servers, running_servers

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DURATION_SECONDS_MAX = 60
LIMITS: tuple[str, ...] = ("wallet", "project")


class Size(msgspec.Struct, frozen=True):
    """Set how much is done: what is spent, and the pause between two settings of a clock."""

    spent: spending.Size
    pause_seconds: float


FULL = Size(spending.Size(repetitions=5), 2.0)
QUICK = Size(spending.Size(calls=60, attempts=240, workers=16, repetitions=2), 1.1)


class Clocks(msgspec.Struct, frozen=True):
    """Describe what happens to the clocks: `offsets` at the start, one for each server, and
    `settings` of the first server while it runs, one after the other. All in seconds."""

    what: str
    offsets: Sequence[int] = (0, 0)
    settings: Sequence[int] = ()


CASES: Mapping[str, Clocks] = {
    "T1": Clocks("a clock that is set", settings=(3_600, -3_600, 40 * 86_400, -600)),
    "T2": Clocks("a clock that steps back", settings=tuple(range(-5, -61, -5))),
    "T3": Clocks("clocks that differ", offsets=(300, -300)),
}
"""T1 by an hour, 40 days and ten minutes; T2 by five seconds again and again; T3 by ten minutes
(five each way)."""


async def spend_by_wrong_clocks(
    name: str, kind: str, *, size: Size, report: Callable[[str], None]
) -> Result:
    """Run one of `CASES`. `n` counts the attempts."""
    case = CASES[name]
    if LIBRARY is None or shutil.which("faketime") is None:
        return Result(name, case.what, 0, [], "faketime is not installed: not run")
    findings, log = list[Finding](), AttemptLog()
    with tempfile.TemporaryDirectory(prefix="clocks-") as folder:
        files = [Path(folder) / str(number) for number in range(SERVERS[kind])]
        for file, offset in zip(files, case.offsets, strict=False):
            set_clock(file, offset)
        with running_servers(kind, variables=[fake(file) for file in files]) as servers:
            priced = await spending.calibrate(servers)
            async with setting(files[0], case.settings, size.pause_seconds):
                for number in range(size.spent.repetitions):
                    rooms = dict.fromkeys(LIMITS, size.spent.calls * priced.cost_nano)
                    key = await spending.set_limits(servers, rooms)
                    done = await spending.spend(servers, key, priced, size.spent, LIMITS)
                    where = f"repetition {number}"
                    left = servers.read_balance()
                    findings += spending.judge_exact(done, size.spent, left, where)
                    findings += spending.judge_refusals(done, LIMITS)
                    log.answers += done.answers
                    report(f"{name} {kind} {number + 1}: {len(done.answers)} calls")
            findings += await asyncio.to_thread(judge, servers, log)
            findings += await asyncio.to_thread(servers.stop_in_order)
    attempts = size.spent.attempts * size.spent.repetitions
    figures = f"{SERVERS[kind]} x {kind}, {size.spent.workers} workers, {len(log.answers):,} calls"
    return Result(name, case.what, attempts, findings, figures)


def judge(servers: Servers, log: AttemptLog) -> list[Finding]:
    """Judge the database as always, and what a clock could have done to it."""
    with servers.reading() as read:
        return [*servers.judge(log.answers), *judge_times(read)]


def judge_times(read: Read) -> list[Finding]:
    """Return the calls whose lease ended too early, and durations that cannot be."""
    unknown = read("SELECT request_id FROM receipts WHERE outcome = 'unknown'")
    found = [Finding("L6", f"{name} was given up while it ran") for (name,) in unknown]
    longest = DURATION_SECONDS_MAX * 1_000_000
    columns = ("total_microseconds", "upstream_microseconds", "overhead_microseconds")
    for column in columns:
        rows = read(
            f"SELECT request_id, {column} FROM receipts WHERE {column} < -1 OR {column} > {longest}"
        )
        found += [Finding("T1", f"{name}: {column} is {value}") for name, value in rows]
    return found


def fake(file: Path) -> dict[str, str]:
    """Return the variables of a process whose wall clock is off by what a file says."""
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        # Otherwise every look at the clock reads the file.
        "FAKETIME_CACHE_DURATION": "1",
        # A machine whose clock is set keeps its monotonic one.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(file: Path, seconds: int) -> None:
    # In one step: a reader never sees half of it.
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{seconds:+}\n")
    fresh.replace(file)


@contextlib.asynccontextmanager
async def setting(file: Path, settings: Sequence[int], pause: float) -> AsyncGenerator[None]:
    """Set a clock again and again in a block, and right after it."""

    async def change() -> None:
        while settings:
            for seconds in settings:
                set_clock(file, seconds)
                await asyncio.sleep(pause)

    task = asyncio.create_task(change())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        set_clock(file, 0)
