"""The retention of millions of receipts, in a server that goes on answering calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import sqlalchemy as sa

from headgate.data_directory.directory_lock import DATABASE_FILE
from headgate.kit.db.engine import Database
from headgate.kit.ids import first_id
from headgate.metering import store as metering
from headgate.metering.store import RECEIPTS
from rigs.soak import harness, samples
from rigs.soak.load import Load
from rigs.soak.run import find_port
from rigs.soak.samples import Finding
from rigs.soak.upstream import Upstream

AGE_SECONDS = 400 * 86_400
RETENTION_DAYS = "30"
KEYS = 20
WARM_CALLS = 300
STEP_SECONDS = 1.0
FILL_ROWS = 250_000
GROWTH_MIB_MAX = 50.0
SLICE_MS_MAX = 50.0
REPORTED = "retention.done"


@dataclass(frozen=True)
class RetentionPlan:
    """Set how many aged receipts there are, and how many clients call meanwhile."""

    rows: int = 5_000_000
    connections: int = 8


@dataclass
class RetentionResult:
    """Hold what the job did to memory and to the calls; times in milliseconds where it says so."""

    rows: int
    left: int = 0
    seconds: float = 0.0
    calls: int = 0
    wrong: int = 0
    resident: float = 0.0
    longest_ms: float = 0.0
    during_ms: float = 0.0
    after_ms: float = 0.0
    lag_seconds: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def judge(self) -> list[Finding]:
        growth = max((y for _, y in self.curve), default=0.0) - self.resident
        shown = f"{self.during_ms:.0f} ms, {self.after_ms:.0f} ms after it"
        return [
            Finding(
                "memory of the job",
                f"{growth:+.1f} MiB",
                f"<= +{GROWTH_MIB_MAX:g} MiB",
                growth <= GROWTH_MIB_MAX,
            ),
            Finding(
                "longest slice",
                f"{self.longest_ms:.1f} ms",
                f"<= {SLICE_MS_MAX:g} ms",
                self.longest_ms <= SLICE_MS_MAX,
            ),
            Finding("p99 of the calls meanwhile", shown, "(no bar)", passes=True),
            Finding(
                "event loop lag, p99",
                f"<= {self.lag_seconds * 1000:g} ms",
                f"<= {samples.LAG_SECONDS_MAX * 1000:g} ms",
                self.lag_seconds <= samples.LAG_SECONDS_MAX,
            ),
            Finding("aged receipts left", f"{self.left:,} of {self.rows:,}", "0", self.left == 0),
            Finding("wrong answers", f"{self.wrong:,} in {self.calls:,}", "0", self.wrong == 0),
        ]


def fill(path: Path, rows: int) -> None:
    """Insert many old receipts: copies of the one that is there, a few milliseconds apart."""
    database = Database(path)
    start = time.time() - AGE_SECONDS
    step = min(0.005, AGE_SECONDS / 2 / rows)
    names = [column.name for column in RECEIPTS.columns]
    copied = ", ".join(
        {"request_id": ":id || printf('%020x', n)", "created_at": ":at"}.get(name, name)
        for name in names
    )
    # The id of a chunk is that of its first receipt; the counter that follows keeps their order.
    statement = sa.text(
        f"WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers "
        f"WHERE n + 1 < :end) INSERT INTO receipts ({', '.join(names)}) "
        f"SELECT {copied} FROM numbers, (SELECT * FROM receipts LIMIT 1)"
    )
    try:
        for first in range(0, rows, FILL_ROWS):
            at = start + first * step
            values = {"id": first_id("req", at), "at": int(at * 1e6), "first": first}
            with database.transaction() as connection:
                connection.execute(statement, {**values, "end": min(rows, first + FILL_ROWS)})
    finally:
        database.close()


async def run(plan: RetentionPlan, folder: Path, say: Callable[[str], None]) -> RetentionResult:
    """Fill a database, start a server that has to delete it, and call it all the while."""
    upstream = Upstream()
    await upstream.start()
    data = folder / "data"
    result = RetentionResult(plan.rows)
    try:
        url = f"http://127.0.0.1:{upstream.port}/v1"
        tokens = await asyncio.to_thread(harness.prepare, data, url, KEYS)
        port = find_port()
        async with harness.running_server(data, port):
            await Load(port, tokens, seed=1).run(1, 1, 1, lambda: None)
        say(f"filling in {plan.rows:,} receipts")
        await asyncio.to_thread(fill, data / DATABASE_FILE, plan.rows)
        say("deleting them")
        async with harness.running_server(data, port, retention_days=RETENTION_DAYS) as server:
            await _watch(plan, server, Load(port, tokens, seed=2), result, say)
    finally:
        await upstream.stop()
    database = Database(data / DATABASE_FILE)
    try:
        with database.reading() as connection:
            result.left = metering.count_before(connection, time.time() - AGE_SECONDS / 4)
    finally:
        database.close()
    return result


async def _watch(
    plan: RetentionPlan,
    server: harness.Server,
    load: Load,
    result: RetentionResult,
    say: Callable[[str], None],
) -> None:
    async def look() -> samples.Sample:
        exposition = await asyncio.to_thread(server.read, "/metrics")
        return samples.take(server.process.pid, exposition, load.tally.done)

    first = await look()
    result.resident = first.resident
    load.tally.seconds = []
    calling = asyncio.create_task(_call_without_end(load, plan.connections))
    begin = time.monotonic()
    while (longest_ms := read_report(server)) is None:
        await asyncio.sleep(STEP_SECONDS)
        sample = await look()
        result.curve.append((sample.at - begin, sample.resident))
        if len(result.curve) % 10 == 0:
            say(f"{sample.resident:.1f} MiB, {load.tally.done:,} calls")
    result.longest_ms, result.seconds = longest_ms, time.monotonic() - begin
    result.lag_seconds = samples.lag_quantile(first, await look(), samples.LAG_SHARE)
    result.during_ms = samples.quantile(load.tally.seconds, samples.LAG_SHARE) * 1000
    result.calls, load.tally.seconds = load.tally.done, []
    await asyncio.sleep(10 * STEP_SECONDS)
    result.after_ms = samples.quantile(load.tally.seconds, samples.LAG_SHARE) * 1000
    result.wrong = load.tally.wrong
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)


async def _call_without_end(load: Load, connections: int) -> None:
    while True:
        await load.run(WARM_CALLS * connections, connections, WARM_CALLS, lambda: None)


def read_report(server: harness.Server) -> float | None:
    """Return the job's longest slice in milliseconds from the log, once it has ended."""
    for line in server.log.read_bytes().splitlines():
        if REPORTED.encode() in line:
            return float(msgspec.json.decode(line)["longest_ms"])
    return None
