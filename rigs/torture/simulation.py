"""K6: ledger, budgets, batches of the writer and outbox under a scheduler that draws every step.

The real services run on a real SQLite in memory. One seed decides who goes on next, how much is
committed together, when the clock moves or is set, when the disk refuses, and when the process or
the power dies: so a seed that fails does so again, bit for bit.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from headgate.billing.model.budgets import format_thresholds
from headgate.billing.model.ledger import make_unknown_receipt
from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.ledger import Ledger, fund
from headgate.billing.store.budgets import BUDGETS
from headgate.kit import outbox
from headgate.kit.db import sqlite
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.schema import METADATA
from headgate.kit.db.sqlite import SqliteWriterConnection
from headgate.kit.db.writer import BatchQueue, Writer, commit_batch
from headgate.relay.ports import Budget, Hold, HoldRefusedError, Receipt
from rigs.torture.budgets import judge_budgets
from rigs.torture.harness import Result
from rigs.torture.oracle import Answer, Finding, judge, judge_ledger

ORGANIZATION = "org_1"
FUNDED_NANO = 3_000
HOLD_NANO_MAX = 900
PROJECT_BUDGET = Budget("project", "prj_1", 1_500)
"""Of half of the calls; the other half are of another project."""
ORGANIZATION_BUDGET = Budget("organization", ORGANIZATION, 2_500)
LEASE_SECONDS = 900.0
CALLS_MAX = 14
REST_STEPS_MAX = 2_000
CHUNK = 250


class SimulatedCrash(BaseException):
    """End the simulated process here; not an `Exception`, so that nothing catches it."""


class Promise:
    """Be a future without a loop: whoever awaits it is stepped again once it is done."""

    def __init__(self) -> None:
        self._value: Any = None
        self._error: Exception | None = None
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any) -> None:
        self._done, self._value = True, value

    def set_exception(self, error: Exception) -> None:
        self._done, self._error = True, error

    def __await__(self) -> Generator[Promise, None, Any]:
        while not self._done:
            yield self
        if self._error is not None:
            raise self._error
        return self._value


class Clock:
    """Hold virtual time; `set_by` is the change that somebody made to the wall clock."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self.set_by = 0.0

    def now(self) -> float:
        """Return seconds since 1970 by the wall clock."""
        return self.seconds + self.set_by

    def monotonic(self) -> float:
        """Return the seconds that really passed."""
        return self.seconds


class Disk(SqliteWriterConnection):
    """Simulate a connection whose commits can fail, or be the last thing that happens."""

    def __init__(self, connection: sa.Connection, draw: random.Random) -> None:
        super().__init__(connection, Path(":memory:"), always_flush=False)
        self.draw = draw
        self.refuses = False
        self._durable = False
        self._flushed: Any = sqlite.DRIVER.connect(":memory:", isolation_level=None)

    @property
    def driver(self) -> Any:
        return self.connection.connection.driver_connection

    def begin(self, *, durable: bool) -> None:
        self._durable = durable
        super().begin(durable=durable)

    def commit(self) -> None:
        """Commit; a power loss takes everything since the last flushed commit."""
        if self.refuses:
            raise sqlite.DRIVER.OperationalError("database or disk is full")
        if self.draw.random() < 0.01:
            raise SimulatedCrash
        super().commit()
        if self._durable:
            self.flush()

    def flush(self) -> None:
        """Make what is committed survive a power loss."""
        self.driver.backup(self._flushed)

    def lose_power(self) -> None:
        """Drop what was not flushed."""
        self._flushed.backup(self.driver)

    def fill(self, template: Any) -> None:
        """Start again with the content of another database."""
        template.backup(self.driver)
        self.flush()


class SteppedWriter(Writer):
    """Run the writer without its thread: `step` commits what one turn of it would."""

    def __init__(self, database: Database, disk: Disk) -> None:
        super().__init__(database)
        self.disk = disk
        self.queue: list[Any] = []

    def enqueue(self, batch_queue: BatchQueue[Any, Any], item: Any) -> Any:
        promise = Promise()
        self.queue.append((batch_queue, item, promise))
        return promise

    def step(self, count: int) -> None:
        """Commit the next few together, and perhaps die before anybody hears of it."""
        batch, self.queue = self.queue[:count], self.queue[count:]
        futures, results = commit_batch(self.disk, batch, self.health)
        if self.disk.draw.random() < 0.01:
            raise SimulatedCrash
        for future, result in zip(futures, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


class World:
    """Simulate one seed: everything that can happen, and what must hold."""

    def __init__(self, seed: int, database: Database, disk: Disk) -> None:
        self.draw = disk.draw = random.Random(seed)
        self.database = database
        self.disk = disk
        self.clock = Clock()
        self.trace = hashlib.sha256()
        self.answers: list[tuple[Answer, bool]] = []
        self.charges: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.calls = 0
        self.crashes = 0
        self.tasks: list[Coroutine[Promise, None, None]] = []
        self.boot()

    def boot(self) -> None:
        """Start a process: it knows what the database knows, and cleans up first."""
        self.disk.refuses = False
        self.writer = SteppedWriter(self.database, self.disk)
        # Months follow the clock as it was at the start, as receipts do here.
        self.set_by = self.clock.set_by
        budgets = BudgetIndex()
        budgets.load(self.disk.connection)
        self.ledger = Ledger(
            self.writer,
            self.clock,
            read_wanted=outbox.want_everything,
            lease_seconds=LEASE_SECONDS,
            budgets=budgets,
        )
        self.tasks = [self.clean_up()]
        while self.tasks:
            try:
                self.go_on()
                self.commit()
            except SimulatedCrash:
                self.crash()

    async def clean_up(self) -> None:
        await self.ledger.resolve_abandoned()

    def crash(self) -> None:
        """Kill the process, sometimes with a power loss, and start another one."""
        self.crashes += 1
        for task in self.tasks:
            task.close()
        self.disk.roll_back()
        power = self.draw.random() < 0.3
        self.note(f"crash {power}")
        if power:
            self.disk.lose_power()
            kept = {row[0] for row in self.read("SELECT request_id FROM receipts")}
            # An own key's receipt is not flushed at once (decision 0003): no money depends on it.
            self.answers = [
                (answer, managed)
                for answer, managed in self.answers
                if managed or answer.request_id in kept
            ]
        self.boot()

    def read(self, query: str) -> list[tuple[Any, ...]]:
        return self.disk.driver.execute(query).fetchall()

    def note(self, text: str) -> None:
        """Record what happened, to compare two runs."""
        self.trace.update(text.encode())

    # What can happen next.

    def go_on(self) -> None:
        """Run one of the tasks to its next await."""
        if not self.tasks:
            return
        number = self.draw.randrange(len(self.tasks))
        task = self.tasks[number]
        self.note(f"task {number}")
        try:
            task.send(None)
        except StopIteration:
            del self.tasks[number]
        except StorageUnavailableError:
            del self.tasks[number]
            self.note("refused")

    def commit(self) -> None:
        """Let the writer commit some of what waits."""
        if self.writer.queue:
            count = self.draw.randint(1, len(self.writer.queue))
            self.note(f"commit {count}")
            self.writer.step(count)
            self.findings += judge_ledger(self.read)

    def begin_call(self) -> None:
        if self.calls < CALLS_MAX:
            self.calls += 1
            self.tasks.append(self.call(f"req_{self.calls:04}"))

    def do_chores(self) -> None:
        """Run one of the periodic jobs."""
        work = self.draw.choice((self.reap, self.recover, self.top_up, self.recount))
        self.tasks.append(work())

    def move_clock(self) -> None:
        """Let time pass, or set the wall clock, which must not matter."""
        self.clock.seconds += self.draw.random()
        if self.draw.random() < 0.3:
            self.clock.set_by += self.draw.choice((-3_600.0, 3_600.0, 40 * 86_400.0, -600.0))

    def switch_disk(self) -> None:
        """Let the disk refuse writes, or accept them again."""
        self.disk.refuses = not self.disk.refuses and self.draw.random() < 0.4

    def die(self) -> None:
        """Crash at any await."""
        if self.draw.random() < 0.4:
            raise SimulatedCrash

    async def reap(self) -> None:
        await self.ledger.resolve_expired()

    async def recount(self) -> None:
        await self.ledger.recount()

    async def recover(self) -> None:
        await self.ledger.recover()

    async def top_up(self) -> None:
        """Fund the wallet; some grants are sent twice."""
        await self.ledger.fund(ORGANIZATION, 100, reference=f"grant {self.draw.randint(1, 4)}")

    async def call(self, request_id: str) -> None:
        """Run the stages of one call, as `relay.pipeline` does."""
        managed = self.draw.random() < 0.7
        self.ledger.check()
        hold = self.make_hold(request_id, managed=managed)
        # A call that began before its budget was known to the process holds nothing.
        holds = managed or self.draw.random() < 0.7
        if holds:
            holding = self.ledger.hold(hold)
            if self.draw.random() < 0.1:
                # A stop interrupts it here: what is queued is settled later, at no cost.
                await self.settle(self.make_receipt(hold, 0, outcome="cancelled"), hold)
                return
            try:
                hold = await holding
            except HoldRefusedError:
                await self.settle(self.make_receipt(hold, 0, outcome="refused"), None)
                return
        await self.pause()
        cost = self.draw.randint(0, hold.amount_nano)
        self.charges[f"answer {request_id}"] = cost
        await self.pause()
        outcome = self.draw.choice(("completed", "completed", "completed", "cancelled"))
        receipt = self.make_receipt(hold, cost, outcome=outcome)
        if not await self.settle(receipt, hold if holds else None):
            return
        await self.pause()
        if outcome == "completed":
            self.note(f"whole {request_id}")
            self.answers.append((Answer(request_id, f"answer {request_id}"), managed or holds))

    def make_hold(self, request_id: str, *, managed: bool) -> Hold:
        """Draw a hold: of the project with a budget, or of another one."""
        in_project = self.draw.random() < 0.5
        budgets = (PROJECT_BUDGET, ORGANIZATION_BUDGET) if in_project else (ORGANIZATION_BUDGET,)
        return Hold(
            request_id,
            ORGANIZATION,
            self.draw.randint(0, HOLD_NANO_MAX),
            project_id=PROJECT_BUDGET.scope_id if in_project else "prj_2",
            managed=managed,
            budgets=budgets,
        )

    def make_receipt(self, hold: Hold, cost_nano: int, *, outcome: str) -> Receipt:
        """Return the receipt of a call whose answer has the id `answer <request id>`."""
        return msgspec.structs.replace(
            make_unknown_receipt(hold, created_at=self.clock.seconds + self.set_by),
            outcome=outcome,
            managed=hold.managed and outcome != "refused",
            cost_nano=cost_nano,
            estimated=False,
            answer_id=f"answer {hold.request_id}",
        )

    async def settle(self, receipt: Receipt, hold: Hold | None) -> bool:
        """Return whether the call is recorded; sometimes it is settled twice."""
        again = self.draw.random() < 0.2
        queued = [self.ledger.record(receipt, hold) for _ in range(1 + again)]
        try:
            for each in queued:
                await each
        except StorageUnavailableError:
            broken = msgspec.structs.replace(receipt, outcome="broken")
            self.ledger.defer(broken if receipt.outcome == "completed" else receipt, hold)
            return False
        return True

    async def pause(self) -> None:
        """Let other tasks go first."""
        await _Once()

    def come_to_rest(self) -> None:
        """Mend the disk, and let what began end."""
        self.disk.refuses = False
        self.tasks.append(self.recover())
        for _ in range(REST_STEPS_MAX):
            if not self.tasks:
                return
            try:
                self.go_on()
                self.commit()
            except SimulatedCrash:
                self.crash()

    def run(self) -> None:
        """Draw steps, crash once more, let everything come to rest, and judge."""
        actions = (
            *[self.go_on] * 12,
            *[self.commit] * 8,
            *[self.begin_call] * 6,
            self.do_chores,
            self.move_clock,
            self.switch_disk,
            self.die,
        )
        for _ in range(self.draw.randint(60, 300)):
            try:
                self.draw.choice(actions)()
            except SimulatedCrash:
                self.crash()
        self.come_to_rest()
        self.crash()
        answers = [answer for answer, _ in self.answers]
        self.findings += judge(self.read, answers, self.charges)
        # A call that held nothing may end above a budget, and was not refused.
        self.findings += judge_budgets(self.read, may_exceed=True)
        for row in self.read("SELECT * FROM receipts ORDER BY request_id"):
            self.note(str(row))


class _Once:
    """Yield once when awaited."""

    def __await__(self) -> Generator[Any, None, None]:
        yield self


def make_row(budget: Budget) -> dict[str, object]:
    """Return the row of a budget of the organization."""
    return {
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "organization_id": ORGANIZATION,
        "limit_nano": budget.limit_nano,
        "managed_only": int(budget.managed_only),
        "thresholds": format_thresholds(budget.thresholds),
        "version": 1,
        "created_at": 1.0,
        "updated_at": 1.0,
    }


class Simulator:
    """Run seeds, one after the other, on one database in memory."""

    def __init__(self) -> None:
        self._logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self._database = Database(Path(":memory:"))
        self._template: Any = sqlite.DRIVER.connect(":memory:", isolation_level=None)
        with self._database.engine.begin() as connection:
            METADATA.create_all(connection)
            fund(connection, ORGANIZATION, amount_nano=FUNDED_NANO, reference="start", now=1.0)
            for budget in (PROJECT_BUDGET, ORGANIZATION_BUDGET):
                connection.execute(sa.insert(BUDGETS).values(make_row(budget)))
        with self._database.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.backup(self._template)
        connection = self._database.engine.connect().execution_options(own_transaction=True)
        self._disk = Disk(connection, random.Random(0))

    def run(self, seed: int) -> World:
        self._disk.refuses = False
        self._disk.fill(self._template)
        world = World(seed, self._database, self._disk)
        world.run()
        return world

    def close(self) -> None:
        self._disk.close()
        self._template.close()
        self._database.close()
        structlog.configure(**self._logging)


class Tally(msgspec.Struct):
    """Hold the counts of several seeds."""

    seeds: int = 0
    calls: int = 0
    crashes: int = 0
    whole: int = 0
    findings: list[Finding] = msgspec.field(default_factory=list[Finding])


def simulate(first: int, seeds: int) -> Tally:
    """Run seeds in a row, in this process."""
    simulator, tally = Simulator(), Tally()
    try:
        for seed in range(first, first + seeds):
            world = simulator.run(seed)
            tally.seeds += 1
            tally.calls += world.calls
            tally.crashes += world.crashes
            tally.whole += len(world.answers)
            tally.findings += [
                Finding(finding.verdict, f"seed {seed}: {finding.text}")
                for finding in world.findings
            ]
    finally:
        simulator.close()
    return tally


def simulate_many(
    *, first: int, seeds: int, seconds: float, report: Callable[[str], None]
) -> Result:
    """Run K6 on every core, until all seeds or the time are used up. `n` counts the seeds."""
    started, total = time.monotonic(), Tally()
    stretches = iter(range(first, first + seeds, CHUNK))
    last = first + seeds
    with concurrent.futures.ProcessPoolExecutor() as pool:
        running = {
            pool.submit(simulate, start, min(CHUNK, last - start))
            for start, _ in zip(stretches, range(os.cpu_count() or 1), strict=False)
        }
        while running:
            done, running = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for each in done:
                add(total, each.result())
                start = next(stretches, None)
                if start is not None and time.monotonic() - started < seconds:
                    running.add(pool.submit(simulate, start, min(CHUNK, last - start)))
            report(f"K6 {total.seeds}/{seeds} seeds, {len(total.findings)} findings")
    figures = (
        f"seeds from {first}; {total.calls:,} calls, {total.crashes:,} crashes, {total.whole:,} "
        f"whole answers; {time.monotonic() - started:.0f} s"
    )
    return Result(
        "K6", "ledger, budgets and outbox simulated", total.seeds, total.findings, figures
    )


def add(total: Tally, part: Tally) -> None:
    """Add the counts of one part to the whole."""
    total.seeds += part.seeds
    total.calls += part.calls
    total.crashes += part.crashes
    total.whole += part.whole
    total.findings += part.findings
