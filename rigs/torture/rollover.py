"""S9: months that end while calls run, in one process with SQLite and in two with PostgreSQL.

Each process has a ledger and a clock of its own, which the rig moves over the end of a month: of
the second one a moment later, as two processes look at the database's clock at different times.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec

from headgate.billing.model.budgets import end_of_month, name_month
from headgate.billing.model.refusals import BudgetExceededError
from headgate.billing.service.ledger import find_inconsistencies
from headgate.kit.db.engine import Database
from headgate.relay.ports import Budget
from rigs.torture.budgets import judge_budgets
from rigs.torture.harness import Result
from rigs.torture.oracle import Finding, Read, judge_ledger, opened
from rigs.torture.servers import SERVERS
from tests.fakes.ledger import (
    NOVEMBER,
    ORG,
    LedgerHarness,
    SetClock,
    make_hold,
    make_receipt,
    running_ledger,
)
from tests.fakes.postgres import running_postgres

FUNDED_NANO = 10**9
APART_SECONDS_MAX = 0.02
"""How much later the second process notices the end of a month."""
MONTH_SECONDS_MAX = 60.0


class Size(msgspec.Struct, frozen=True):
    """Set how many months end, how many calls a month covers, and how many workers call."""

    rollovers: int = 100
    calls: int = 60
    workers: int = 24


FULL = Size()
QUICK = Size(rollovers=8)


class Months:
    """Let workers call until a month is used up or half of it, and then let the month end."""

    def __init__(self, processes: list[LedgerHarness], size: Size, seed: int) -> None:
        self._processes = processes
        self._size = size
        self._draw = random.Random(seed)
        self._numbers = itertools.count()
        self.month = name_month(NOVEMBER)
        self.granted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.exhausted: list[str] = []
        self.attempts = 0
        self._is_over = False
        self._progress = asyncio.Event()
        limits = {"key": "key_1", "project": "prj_1", "organization": ORG}
        # Each has room for the same calls: the first of them refuses.
        self.budgets = [Budget(scope, name, size.calls) for scope, name in limits.items()]

    async def run(self) -> None:
        workers = [
            asyncio.create_task(self._work(self._processes[number % len(self._processes)]))
            for number in range(self._size.workers)
        ]
        try:
            for number in range(self._size.rollovers):
                async with asyncio.timeout(MONTH_SECONDS_MAX):
                    await self._use_up(is_all=number % 2 == 0)
                await self._end_month()
        finally:
            self._is_over = True
            await asyncio.gather(*workers)

    async def _use_up(self, *, is_all: bool) -> None:
        """Wait until a month refuses calls, or has let half of them through."""
        month = self.month
        while not (self.refused[month] if is_all else self.granted[month] >= self._size.calls // 2):
            self._progress.clear()
            await self._progress.wait()
        if is_all:
            self.exhausted.append(month)

    async def _end_month(self) -> None:
        end = end_of_month(self.month)
        self.month = name_month(end)
        self._draw.shuffle(self._processes)
        for process in self._processes:
            process.clock.time = end + self._draw.random()
            await asyncio.sleep(self._draw.uniform(0, APART_SECONDS_MAX))

    async def _work(self, process: LedgerHarness) -> None:
        while not self._is_over:
            self.attempts += 1
            hold = make_hold(f"req_{next(self._numbers):06}", 1, *self.budgets)
            try:
                hold = await process.ledger.hold(hold)
            except BudgetExceededError as error:
                self.refused[name_month((error.denial.resets_at or 0) - 1)] += 1
                self._progress.set()
                await asyncio.sleep(0.001)
                continue
            self.granted[hold.month] += 1
            self._progress.set()
            # Some calls run over the end of their month.
            await asyncio.sleep(self._draw.choice((0.0, 0.0, APART_SECONDS_MAX)))
            receipt = make_receipt(hold, 1, created_at=process.clock.now())
            await process.ledger.record(receipt, hold)


async def roll_over(kind: str, *, size: Size, seed: int, report: Callable[[str], None]) -> Result:
    """Run S9 on one of `PLACES`. `n` counts the months that ended."""
    async with running_processes(kind) as (place, processes):
        months = Months(processes, size, seed)
        for budget in months.budgets[1:]:
            processes[0].set_budget(budget)
        for process in processes:
            with process.database.reading() as connection:
                process.budgets.load(connection)
        await months.run()
        findings = judge_months(months, size)
        with opened(place) as read:
            findings += [*judge_ledger(read), *judge_budgets(read)]
            findings += judge_thresholds(read, months.exhausted)
        with processes[0].database.reading() as connection:
            findings += [Finding("L5", text) for text in find_inconsistencies(connection)]
    report(f"S9 {kind}: {size.rollovers} months, {len(findings)} findings")
    figures = (
        f"{SERVERS[kind]} x {kind}, {size.workers} workers; {months.attempts:,} attempts, "
        f"{months.granted.total():,} calls"
    )
    return Result("S9", "months that end under load", size.rollovers, findings, figures)


@contextlib.asynccontextmanager
async def running_processes(
    kind: str,
) -> AsyncGenerator[tuple[Path | str, list[LedgerHarness]]]:
    """Run the ledgers of a new database."""
    async with contextlib.AsyncExitStack() as stack:
        place: Path | str
        if kind == "postgresql":
            place = stack.enter_context(running_postgres()).create_database()
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-"))
            place = Path(folder) / "headgate.db"
        first = await stack.enter_async_context(running_ledger(place, funded_nano=FUNDED_NANO))
        processes = [first]
        for _ in range(SERVERS[kind] - 1):
            database = Database(place)
            stack.callback(database.close)
            process = LedgerHarness(database, SetClock())
            stack.push_async_callback(process.writer.stop)
            processes.append(process)
        yield place, processes


def judge_months(months: Months, size: Size) -> list[Finding]:
    """Return the months that let other than their calls through: all of them where it was used up,
    else at most all."""
    found: list[Finding] = []
    for month, granted in months.granted.items():
        is_all = month in months.exhausted
        if granted > size.calls or (is_all and granted < size.calls):
            found.append(Finding("L9", f"{month}: {granted} calls of {size.calls}"))
    return found


def judge_thresholds(read: Read, exhausted: list[str]) -> list[Finding]:
    """Return the thresholds that were not announced once in each month that was used up, or more
    than once in any."""
    topic = "usage.threshold_reached"
    rows = read(f"SELECT payload FROM outbox WHERE topic = '{topic}'")
    events = [msgspec.json.decode(bytes(payload)) for (payload,) in rows]
    seen = Counter((each["month"], each["scope"], each["threshold"]) for each in events)
    found = [Finding("L8", f"{each} was announced {n} times") for each, n in seen.items() if n > 1]
    for month in exhausted:
        # A key's budget is known by its holds alone here.
        for scope in ("project", "organization"):
            found += [
                Finding("L8", f"{scope} in {month}: {percent} % was not announced")
                for percent in (50, 80, 100)
                if not seen[month, scope, percent]
            ]
    return found
