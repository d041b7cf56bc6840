"""Use the database from the event loop: read in threads, write by the one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer

Result = TypeVar("Result")


class AsyncDatabase:
    """Read and write from the event loop. `reload` makes this process act by what was written."""

    def __init__(self, database: Database, writer: Writer, *, reload: Callable[[], None]) -> None:
        self._database = database
        self._writer = writer
        self._reload = reload

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        def run() -> Result:
            with self._database.reading() as connection:
                return work(connection)

        return await asyncio.to_thread(run)

    async def wait_for_earlier_writes(self) -> bool:
        """Do as `Database.wait_for_earlier_writes`."""
        return await asyncio.to_thread(self._database.wait_for_earlier_writes)

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Run one transaction of the writer, then reload; return when this process acts by it."""
        try:
            result = await self._writer.call(work)
        except exc.IntegrityError:
            # Another process made the same in the same instant: now it is there to be seen.
            result = await self._writer.call(work)
        await asyncio.to_thread(self._reload)
        return result
