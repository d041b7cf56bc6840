"""The one writer: a thread that commits what many callers want in small shared transactions.

A commit costs a disk flush, so everything that waits is committed together; a caller hears back
only when its own work is on disk. One thread also means that SQLite's write lock is never fought
over inside this process.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
import structlog

from headgate.kit.db.engine import Database, StorageUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Handler = Callable[[sa.Connection, Sequence[Item]], Sequence[Result | Exception]]
"""Does the work of a batch; one result, or the error to raise, for each item, in order.

An exception undoes the whole transaction, which is then done item by item, so that one bad item
cannot take the others with it: a handler may run twice, and has no effect outside the database.
"""

Entry = tuple["Lane[Any, Any]", Any, "asyncio.Future[Any]"]

log = structlog.get_logger(__name__)


class Lane(Generic[Item, Result]):
    """A kind of work: items of one lane are handled together.

    `durable` ones survive a power loss once committed, the others the death of the process.
    """

    def __init__(self, writer: Writer, handler: Handler[Item, Result], *, durable: bool) -> None:
        self._writer = writer
        self.handler = handler
        self.durable = durable

    def put(self, item: Item) -> asyncio.Future[Result]:
        """Queue an item from the event loop; the future resolves once it is committed."""
        return self._writer.enqueue(self, item)


class Writer:
    """The writer thread. `start` it on the loop whose futures it resolves; `stop` drains it."""

    def __init__(self, database: Database, *, batch_max: int = 512) -> None:
        self._database = database
        self._batch_max = batch_max
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="headgate-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: Lane[Callable[[sa.Connection], Any], Any] = Lane(
            self, _run_calls, durable=True
        )

    def start(self) -> None:
        """Begin to commit, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Commit what is queued, then end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def lane(self, handler: Handler[Item, Result], *, durable: bool) -> Lane[Item, Result]:
        """A new lane whose batches `handler` does."""
        return Lane(self, handler, durable=durable)

    def call(self, work: Callable[[sa.Connection], Result]) -> asyncio.Future[Result]:
        """Run one function in a transaction; for everything that is not on the hot path."""
        return cast("asyncio.Future[Result]", self.enqueue(self._calls, work))

    def enqueue(self, lane: Lane[Any, Any], item: Any) -> asyncio.Future[Any]:
        """See `Lane.put`."""
        assert self._loop is not None, "the writer is not started"
        future = self._loop.create_future()
        self._queue.put((lane, item, future))
        return future

    def _run(self) -> None:
        with self._database.engine.connect() as connection:
            connection = connection.execution_options(own_transaction=True)
            entry = self._queue.get()
            while entry is not None:
                batch = [entry]
                entry = None
                while len(batch) < self._batch_max and not self._queue.empty():
                    entry = self._queue.get_nowait()
                    if entry is None:
                        self._queue.put(None)
                        break
                    batch.append(entry)
                self._resolve(batch, self._commit(connection, batch))
                entry = self._queue.get()

    def _commit(self, connection: sa.Connection, batch: list[Entry]) -> list[Any]:
        """The results of a batch in its order, all committed, or errors with nothing kept."""
        try:
            return self._commit_together(connection, batch)
        # Whatever an item raised, the others are done; whoever raised it hears of it.
        except Exception as error:  # noqa: BLE001
            if isinstance(error, StorageUnavailable):
                return [error] * len(batch)
        return [self._commit_alone(connection, entry) for entry in batch]

    def _commit_together(self, connection: sa.Connection, batch: list[Entry]) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        groups: dict[Lane[Any, Any], list[int]] = {}
        for index, (lane, _, _) in enumerate(batch):
            groups.setdefault(lane, []).append(index)
        with self._database.own_transaction(
            connection, durable=any(lane.durable for lane in groups)
        ):
            for lane, indexes in groups.items():
                done = lane.handler(connection, [batch[index][1] for index in indexes])
                for index, result in zip(indexes, done, strict=True):
                    results[index] = result
        return results

    def _commit_alone(self, connection: sa.Connection, entry: Entry) -> Any:
        try:
            return self._commit_together(connection, [entry])[0]
        # It is handed to the one caller that waits for it.
        except Exception as error:  # noqa: BLE001
            return error

    def _resolve(self, batch: list[Entry], results: list[Any]) -> None:
        assert self._loop is not None
        futures = [future for _, _, future in batch]
        try:
            self._loop.call_soon_threadsafe(_settle_futures, futures, results)
        except RuntimeError:
            # The loop is closed: nobody waits any more, and the work is committed.
            log.warning("storage.loop_closed", items=len(batch))


def _settle_futures(futures: list[asyncio.Future[Any]], results: list[Any]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


def _run_calls(
    connection: sa.Connection, works: Sequence[Callable[[sa.Connection], Any]]
) -> Sequence[Any]:
    return [work(connection) for work in works]
