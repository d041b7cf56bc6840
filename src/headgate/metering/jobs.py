"""Background jobs of metering: measure latencies, roll receipts up, and delete old ones.

Pruning deletes receipts only. The entries and holds of the ledger stay, and with them every amount
and the guarantee that no request is billed twice. The database file does not shrink; new receipts
take the freed pages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.kit.db.writer import Writer
from headgate.kit.ids import first_id
from headgate.metering import store
from headgate.metering.model import MICROSECONDS, Latency, LatencySample, summarize
from headgate.metering.service import roll_up
from headgate.metering.store import usage as usage_store

DAY_SECONDS = 86_400
INTERVAL_SECONDS = 60.0
SLICE_SECONDS = 0.02
"""The duration of a slice: receipts of calls wait for it on the writer's thread."""
STEP_ROWS = 100
"""Rows deleted between two readings of the clock."""
REST_RATIO = 3
"""The pause after a slice, in multiples of its duration."""
REST_SECONDS_MIN = 0.005

MEASURING_SECONDS = 60.0
"""The interval between two runs of `Latencies.reload`."""
MEASURED_ROWS_MAX = 2_000
"""Receipts read in one run: a few milliseconds of work."""
MEASURED_SECONDS = 86_400.0
OVERLAP_SECONDS = 900.0
"""A call gets its id at its start and its receipt at its end, so each run starts this long before
the previous one."""
SAMPLES_MAX = 100
"""Samples kept for each model and credential, the newest ones."""
MODELS_MAX = 1_000
"""Pairs of model and credential that are kept, the most recently called ones."""

_Place = tuple[str, str]
"""Credential id, and model as the client named it."""

ROLL_UP_SECONDS = 5.0
"""The interval between two runs of `RollUps.run`. Later receipts are summed for each query."""
ROLL_UP_LOCK = "usage"
"""Of several processes, one at a time adds to the roll-ups."""

log = structlog.get_logger(__name__)


class Latencies:
    """Measure how long callers wait for each model of each credential, over the last day at most.

    Busy models are measured by a sample. Credentials are never mixed: they may lead to different
    providers and belong to different organizations.
    """

    def __init__(
        self,
        *,
        rows_max: int = MEASURED_ROWS_MAX,
        samples_max: int = SAMPLES_MAX,
        models_max: int = MODELS_MAX,
    ) -> None:
        self._rows_max = rows_max
        self._samples_max = samples_max
        self._models_max = models_max
        self._samples: dict[_Place, dict[str, int]] = {}
        self._found: Mapping[_Place, Latency] = {}
        self._looked_at: float | None = None

    def find(self, credential_id: str, model_id: str) -> Latency | None:
        """Return the latency of a model by a credential; None if it was never measured."""
        return self._found.get((credential_id, model_id))

    def reload(self, connection: sa.Connection, now: float) -> None:
        """Read the newest receipts. `now` is in unix seconds. Not safe for concurrent calls."""
        oldest = now - MEASURED_SECONDS
        since = oldest
        if self._looked_at is not None:
            since = max(oldest, self._looked_at - OVERLAP_SECONDS)
        self._add(store.select_latency_samples(connection, since, rows_max=self._rows_max))
        self._looked_at = now
        self._forget(first_id("req", oldest))
        self._found = {
            place: summarize(samples.values()) for place, samples in self._samples.items()
        }

    def _add(self, samples: Sequence[LatencySample]) -> None:
        for wait in samples:
            known = self._samples.setdefault((wait.credential_id, wait.model_id), {})
            known[wait.request_id] = wait.microseconds

    def _forget(self, first: str) -> None:
        """Drop samples that are older than the request id `first`, and those above the limits."""
        kept: dict[_Place, dict[str, int]] = {}
        for place, samples in self._samples.items():
            newest = sorted((each for each in samples if each >= first), reverse=True)
            if newest:
                kept[place] = {each: samples[each] for each in newest[: self._samples_max]}
        places = sorted(kept, key=lambda place: next(iter(kept[place])), reverse=True)
        self._samples = {place: kept[place] for place in places[: self._models_max]}


class Progress(msgspec.Struct):
    rows: int = 0
    slices: int = 0
    longest_seconds: float = 0.0
    """The duration of the longest slice, without its commit."""


class Pruner:
    """Delete receipts in slices on the writer's thread, each of limited duration."""

    def __init__(
        self,
        writer: Writer,
        *,
        slice_seconds: float = SLICE_SECONDS,
        read_seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        # Not flushed: what a power failure brings back, the next run deletes again.
        self._queue = writer.create_queue(self._delete, durable=False)
        self._slice_seconds = slice_seconds
        self._read_seconds = read_seconds
        self._took_seconds = 0.0

    async def run(
        self, before: float, on_slice: Callable[[Progress], None] = lambda _: None
    ) -> Progress:
        """Delete receipts older than `before` (unix seconds). Raise `StorageUnavailableError`."""
        progress = Progress()
        while rows := await self._queue.put(before):
            took_seconds = self._took_seconds
            progress.rows += rows
            progress.slices += 1
            progress.longest_seconds = max(progress.longest_seconds, took_seconds)
            on_slice(progress)
            await asyncio.sleep(max(REST_SECONDS_MIN, took_seconds * REST_RATIO))
        return progress

    def _delete(self, connection: sa.Connection, times: Sequence[float]) -> Sequence[int]:
        begin = self._read_seconds()
        counts = [self._delete_for_a_while(connection, before, begin) for before in times]
        self._took_seconds = self._read_seconds() - begin
        return counts

    def _delete_for_a_while(self, connection: sa.Connection, before: float, begin: float) -> int:
        total = 0
        while rows := store.delete_before(connection, before, STEP_ROWS):
            total += rows
            if rows < STEP_ROWS or self._read_seconds() - begin >= self._slice_seconds:
                break
        return total


class RollUps:
    """Roll receipts up in slices on the writer's thread, each of limited duration."""

    def __init__(self, writer: Writer, *, slice_seconds: float = roll_up.SLICE_SECONDS) -> None:
        # Not flushed: what a power failure takes back, the next run does again.
        self._queue = writer.create_queue(
            self._run_step, durable=False, lock_name=lambda _: ROLL_UP_LOCK
        )
        self._slice_seconds = slice_seconds
        self._took_seconds = 0.0

    async def run(self, on_slice: Callable[[int], None] = lambda _: None) -> int:
        """Roll up every receipt, and rebuild days whose zone has changed. Return the number of
        receipts. Raise `StorageUnavailableError`."""
        total = 0
        while (rows := await self._queue.put(self._roll_up)) > 0:
            total += rows
            on_slice(total)
            await self._rest()
        while await self._queue.put(self._rebuild):
            await self._rest()
        return total

    async def delete_before(self, before: float) -> None:
        """Delete roll-ups older than `before` (unix seconds)."""
        at = int(before * MICROSECONDS)
        while await self._queue.put(
            lambda connection: usage_store.delete_before(connection, at, STEP_ROWS)
        ):
            await self._rest()

    async def _rest(self) -> None:
        await asyncio.sleep(max(REST_SECONDS_MIN, self._took_seconds * REST_RATIO))

    def _roll_up(self, connection: sa.Connection) -> int:
        return roll_up.roll_up_some(connection, slice_seconds=self._slice_seconds)

    def _rebuild(self, connection: sa.Connection) -> int:
        return int(roll_up.rebuild_some(connection))

    def _run_step(
        self, connection: sa.Connection, steps: Sequence[Callable[[sa.Connection], int]]
    ) -> Sequence[int]:
        begin = time.perf_counter()
        results = [step(connection) for step in steps]
        self._took_seconds = time.perf_counter() - begin
        return results


async def delete_old_roll_ups(roll_ups: RollUps, *, days: int, now: float) -> None:
    """Delete roll-ups older than `days` (0 keeps them for ever)."""
    if days:
        await roll_ups.delete_before(now - days * DAY_SECONDS)


async def delete_old_receipts(pruner: Pruner, *, days: int, now: float) -> None:
    """Delete receipts older than `days` (0 keeps them for ever). Run every `INTERVAL_SECONDS`.
    Raise `StorageUnavailableError`."""
    if not days:
        return
    progress = await pruner.run(now - days * DAY_SECONDS)
    if progress.rows:
        log.info(
            "retention.done",
            receipts=progress.rows,
            slices=progress.slices,
            longest_ms=round(progress.longest_seconds * 1000, 1),
        )
