"""What metering does by the clock: receipts that are old enough go, a slice at a time.

A receipt is detail; the ledger's entries keep every amount, and with the holds the guarantee that
no request is billed twice. Neither is touched here. The file does not shrink: what is freed is
taken by the next receipts, so a database that deletes each day what a day brought stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from headgate.kit.db.writer import Writer
from headgate.metering import service

INTERVAL_SECONDS = 60.0
SLICE_SECONDS = 0.02
"""After this a slice ends: calls that are to be stored wait for it."""
STEP_ROWS = 100
"""What is deleted between two looks at the clock."""
REST_RATIO = 3
"""How much longer than a slice the writer is left to the calls."""
REST_SECONDS_MIN = 0.005


class Progress(msgspec.Struct):
    """What a run has done so far."""

    rows: int = 0
    slices: int = 0
    longest_seconds: float = 0.0
    """Of the slices, without their commit."""


class Pruner:
    """Deletes receipts in slices of the writer, each as long as its time allows."""

    def __init__(
        self,
        writer: Writer,
        *,
        slice_seconds: float = SLICE_SECONDS,
        read_seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        # What is not flushed at a loss of power is deleted by the next run.
        self._lane = writer.lane(self._delete, durable=False)
        self._slice_seconds = slice_seconds
        self._read_seconds = read_seconds
        self._took_seconds = 0.0

    async def run(
        self, before: float, on_slice: Callable[[Progress], None] = lambda _: None
    ) -> Progress:
        """Delete what is older than `before` (unix seconds). Raises StorageUnavailable."""
        progress = Progress()
        while rows := await self._lane.put(before):
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
        while rows := service.delete_before(connection, before, STEP_ROWS):
            total += rows
            if rows < STEP_ROWS or self._read_seconds() - begin >= self._slice_seconds:
                break
        return total
