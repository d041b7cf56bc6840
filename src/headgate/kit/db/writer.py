"""Run the one writer: a thread that commits what many callers want in shared transactions.

A commit costs a disk flush, so everything that waits is committed together; a caller hears back
only when its own work is on disk. One thread also means that SQLite's write lock is never fought
over inside this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
import structlog

from headgate.kit.db.dialect import WriterConnection
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.health import RETRY_AFTER_SECONDS, DatabaseHealth
from headgate.kit.db.schema import bump_revision
from headgate.kit.failpoint import failpoint

Item = TypeVar("Item")
Result = TypeVar("Result")
BatchHandler = Callable[[sa.Connection, Sequence[Item]], Sequence[Result | Exception]]
"""Handle a batch and return one result, or the error to raise, for each item, in order. An
exception rolls the whole transaction back; then each item is done by itself, so that a bad one
cannot fail the others. So a handler may run twice, and must have no effect outside the database."""

Entry = tuple["BatchQueue[Any, Any]", Any, "asyncio.Future[Any]"]
Outcome = tuple["list[asyncio.Future[Any]]", list[Any]]
Entries = list[Entry]

Rescue = Callable[[sa.Connection], None]

GATHER_SECONDS = 0.008
"""How long items are gathered at most: during a commit, and after it until the event loop has done
what its end allowed. One commit costs about the same for one and forty."""
IDLE_SECONDS = 0.000_05
"""A turn of the event loop that is shorter did nothing else: then waiting gathers no more."""

CHECKPOINT_WEIGHT = 4_000
"""A checkpoint runs after about so many pages: a commit counts for `COMMIT_WEIGHT`, an item for
one."""
COMMIT_WEIGHT = 8

REPEATS_MAX = 5
"""Retries of a transaction that conflicted with another one or lost its connection."""

PROBE_TOPIC = "storage"
"""A revision that no snapshot depends on."""

log = structlog.get_logger(__name__)


class BatchQueue(Generic[Item, Result]):
    """Queue items of one kind of work; the writer handles them in batches.

    Commits of a `durable` queue survive a power loss, those of others the death of the process.
    Where several processes write, items with the same `lock_name` commit one after the other.
    """

    def __init__(
        self,
        writer: Writer,
        handler: BatchHandler[Item, Result],
        *,
        durable: bool,
        lock_name: Callable[[Item], str] | None = None,
    ) -> None:
        self._writer = writer
        self.handler = handler
        self.durable = durable
        self.lock_name = lock_name

    def put(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item from the event loop; the future resolves once it is committed.

        Cancelling the future does not take the item back. Raise `StorageUnavailableError` when the
        writer is stopped or too far behind.
        """
        return self._writer.enqueue(self, item)


class Writer:
    """Run the writer thread: `start` it on the loop whose futures it resolves, `stop` drains it.

    Items put during one turn of the loop are handed over together, so that a burst costs one
    wake-up and one commit. `waiting_max` bounds what is queued and not yet committed.
    """

    def __init__(
        self, database: Database, *, batch_max: int = 512, waiting_max: int = 20_000
    ) -> None:
        self._database = database
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._waiting = 0
        self._gathered: Entries = []
        self._gather_until = 0.0
        self._gather_timer: asyncio.TimerHandle | None = None
        self._turned_at = 0.0
        self._queue: queue.SimpleQueue[Entries | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._written = 0
        self.health = DatabaseHealth()
        self._on_lost: Callable[[], None] | None = None
        self._writer_connection: WriterConnection | None = None
        self._rescue: Rescue | None = None
        self._calls: BatchQueue[Callable[[sa.Connection], Any], Any] = BatchQueue(
            self, _run_calls, durable=True
        )

    def start(
        self, on_lost: Callable[[], None] | None = None, *, rescue: Rescue | None = None
    ) -> None:
        """Begin to commit for the running event loop. Raise `StorageUnavailableError`.

        `on_lost` is called on the loop, once, when no more will be committed: a flush failed, or a
        file of the database was deleted or replaced. In the latter case the thread calls `rescue`
        at its end, with the last connection that reaches what was committed.
        """
        assert self._thread is None, "the writer is started already"
        self._on_lost = on_lost
        self._rescue = rescue
        writer_connection = self._writer_connection = self._database.open_writer_connection()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(writer_connection,), name="headgate-writer", daemon=True
        )
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    async def stop(self) -> None:
        """Commit what is queued, then end the thread; nothing can be put afterwards."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(thread.join)

    def create_queue(
        self,
        handler: BatchHandler[Item, Result],
        *,
        durable: bool,
        lock_name: Callable[[Item], str] | None = None,
    ) -> BatchQueue[Item, Result]:
        return BatchQueue(self, handler, durable=durable, lock_name=lock_name)

    def is_alone(self, connection: sa.Connection) -> bool:
        """Return whether no other process writes to this database."""
        return self._database.dialect.is_only_writer(connection)

    def call(self, work: Callable[[sa.Connection], Result]) -> asyncio.Future[Result]:
        """Run one function in a transaction, for everything that is not on the hot path."""
        return cast("asyncio.Future[Result]", self.enqueue(self._calls, work))

    def probe_commit(self) -> asyncio.Future[None]:
        """Commit the least that reaches the disk, so that the health shows whether commits work."""
        return self.call(lambda connection: bump_revision(connection, PROBE_TOPIC))

    async def examine_files(self) -> None:
        """Stop committing when a file of the database is not in its place. A commit notices that by
        itself, but there may be none for long."""
        replaced = (
            self._writer_connection.examine_files() if self._writer_connection is not None else None
        )
        if replaced is not None and not self.health.lost:
            log.error("storage.displaced", error=replaced, items=0)
            self.health.displace(replaced)
            with contextlib.suppress(StorageUnavailableError):
                await self.probe_commit()

    def enqueue(self, batch_queue: BatchQueue[Any, Any], item: Any) -> asyncio.Future[Any]:
        if self._thread is None or self._loop is None:
            raise StorageUnavailableError("The writer is not running; nothing was kept.")
        if self._waiting >= self._waiting_max:
            raise StorageUnavailableError("The database is too far behind; nothing was kept.")
        future = self._loop.create_future()
        if not self._gathered:
            if self._waiting:
                self._gather_until = time.monotonic() + GATHER_SECONDS
                self._gather_timer = self._loop.call_later(GATHER_SECONDS, self._hand_over)
            else:
                self._loop.call_soon(self._hand_over)
        self._waiting += 1
        self._gathered.append((batch_queue, item, future))
        return future

    def _gather_more(self) -> None:
        """Gather until the event loop has nothing else to do, or the time is over."""
        assert self._loop is not None
        now, turned_at = time.monotonic(), self._turned_at
        if now - turned_at < IDLE_SECONDS or now >= self._gather_until:
            self._hand_over()
        elif self._gathered:
            self._turned_at = now
            self._loop.call_soon(self._gather_more)

    def _hand_over(self) -> None:
        self._gather_timer = None
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _run(self, writer_connection: WriterConnection) -> None:
        try:
            self._commit_all(writer_connection)
        # Nobody else would ever commit: the process must not go on without this thread.
        except Exception as error:
            log.exception("storage.writer_died")
            self.health.fail(error, lost=True)
            self._thread = None
            self._refuse_all(self._take_waiting([]))
        finally:
            if self.health.displaced and self._rescue is not None:
                self._rescue(writer_connection.connection)
            writer_connection.close()

    def _commit_all(self, writer_connection: WriterConnection) -> None:
        while (entries := self._gather()) is not None:
            for start in range(0, len(entries), self._batch_max):
                batch = entries[start : start + self._batch_max]
                outcome = commit_batch(writer_connection, batch, self.health)
                failpoint("after_commit")
                if self.health.reason:
                    # Who waits already has waited for the same time-out; who hears of this failure
                    # and then comes again has not.
                    waiting = self._take_waiting(entries[start + self._batch_max :])
                    self._resolve(*outcome)
                    self._refuse_all(waiting)
                    break
                self._resolve(*outcome)
                self._written += COMMIT_WEIGHT + len(batch)
            if self._written >= CHECKPOINT_WEIGHT or self.health.overgrown:
                self._checkpoint(writer_connection)

    def _gather(self) -> Entries | None:
        """Wait for work and take what came with it; return None at the end."""
        entries = self._queue.get()
        while entries is not None and len(entries) < self._batch_max and not self._queue.empty():
            following = self._queue.get_nowait()
            if following is None:
                self._queue.put(None)
                break
            entries += following
        return entries

    def _take_waiting(self, rest: Entries) -> Entries:
        """Return all that is queued, after what is left of a batch."""
        while not self._queue.empty():
            following = self._queue.get_nowait()
            if following is None:
                self._queue.put(None)
                break
            rest += following
        return rest

    def _refuse_all(self, waiting: Entries) -> None:
        if waiting:
            self._resolve([future for _, _, future in waiting], [_refuse() for _ in waiting])
        if self.health.lost and self._on_lost is not None and self._loop is not None:
            on_lost, self._on_lost = self._on_lost, None
            self._loop.call_soon_threadsafe(on_lost)

    def _checkpoint(self, writer_connection: WriterConnection) -> None:
        self._written = 0
        try:
            writer_connection.checkpoint()
        except Exception as error:
            if not writer_connection.is_unavailable(error):
                raise
            self.health.fail(error, lost=writer_connection.is_lost(error))
            log.error("storage.checkpoint_failed", error=str(error), lost=self.health.lost)
            self._refuse_all(self._take_waiting([]))

    def _resolve(self, futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, futures, results)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and the work is committed.
            log.warning("storage.loop_closed", items=len(futures))

    def _settle(self, futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
        self._waiting -= len(futures)
        for future, result in zip(futures, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        if self._gather_timer is not None and self._gathered:
            self._gather_timer.cancel()
            self._gather_timer = None
            self._turned_at = time.monotonic()
            asyncio.get_running_loop().call_soon(self._gather_more)


def commit_batch(
    writer_connection: WriterConnection, batch: Entries, health: DatabaseHealth, *, repeats: int = 0
) -> Outcome:
    """Commit a batch; return its futures with their results, or errors if nothing was stored."""
    if health.lost:
        return [future for _, _, future in batch], [_refuse() for _ in batch]
    try:
        outcome = _commit_together(writer_connection, batch)
    # Whatever an item raised, the others are done; whoever raised it hears of it.
    except Exception as error:  # noqa: BLE001
        if repeats < REPEATS_MAX and writer_connection.prepare_retry(error):
            log.warning("storage.repeated", error=str(error), items=len(batch))
            return commit_batch(writer_connection, batch, health, repeats=repeats + 1)
        if writer_connection.is_unavailable(error):
            health.fail(error, lost=writer_connection.is_lost(error))
            log.error("storage.refused", error=str(error), items=len(batch), lost=health.lost)
            return _refuse_displaced(writer_connection.find_replaced(), batch, health)
        if len(batch) == 1:
            return [batch[0][2]], [error]
    else:
        replaced = writer_connection.find_replaced()
        if replaced is not None:
            return _refuse_displaced(replaced, batch, health)
        health.recover()
        return outcome
    futures: list[asyncio.Future[Any]] = []
    results: list[Any] = []
    for entry in batch:
        # Once the storage is gone, the rest need not wait for its time-out one by one.
        outcome = [entry[2]], [_refuse()]
        if not (results and isinstance(results[-1], StorageUnavailableError)):
            outcome = commit_batch(writer_connection, [entry], health)
        futures += outcome[0]
        results += outcome[1]
    return futures, results


def _refuse_displaced(replaced: str | None, batch: Entries, health: DatabaseHealth) -> Outcome:
    """Fail a batch that is not stored, or only in a file that nobody will find again."""
    if replaced is not None:
        health.displace(replaced)
        log.error("storage.displaced", error=replaced, items=len(batch))
    return [future for _, _, future in batch], [_refuse() for _ in batch]


def _commit_together(writer_connection: WriterConnection, batch: Entries) -> Outcome:
    groups: dict[BatchQueue[Any, Any], tuple[list[Any], list[asyncio.Future[Any]]]] = {}
    for batch_queue, item, future in batch:
        group = groups.get(batch_queue)
        if group is None:
            groups[batch_queue] = [item], [future]
        else:
            group[0].append(item)
            group[1].append(future)
    futures: list[asyncio.Future[Any]] = []
    results: list[Any] = []
    writer_connection.begin(durable=any(batch_queue.durable for batch_queue in groups))
    try:
        if writer_connection.needs_locks:
            writer_connection.acquire_locks(
                {
                    batch_queue.lock_name(item)
                    for batch_queue, item, _ in batch
                    if batch_queue.lock_name
                }
            )
        for batch_queue, (items, waiting) in groups.items():
            results += batch_queue.handler(writer_connection.connection, items)
            futures += waiting
            assert len(results) == len(futures), "a handler owes one result for each item"
        failpoint("before_commit")
        writer_connection.commit()
    except BaseException:
        writer_connection.roll_back()
        raise
    return futures, results


def _refuse() -> StorageUnavailableError:
    """Create one error per caller: a shared one would collect the tracebacks of all of them."""
    return StorageUnavailableError(
        "The database could not store this; nothing was kept. Try again.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
        should_retry=True,
    )


def _run_calls(
    connection: sa.Connection, works: Sequence[Callable[[sa.Connection], Any]]
) -> Sequence[Any]:
    return [work(connection) for work in works]
