"""Runs rotations of organization keys inside of a server, in a thread, by its one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog

from headgate.accounts.model import AccountNotFoundError
from headgate.audit.model import Actor
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.main.application import Application
from headgate.vault.jobs import Rotator
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    Rotation,
)
from headgate.vault.model.sealed_row import UnreadableRow
from headgate.vault.service import VaultStatus

log = structlog.get_logger(__name__)


class KeyDesk:
    """See `api.services.KeyDesk`. A rotation that was cut off goes on when begun again."""

    def __init__(self, application: Application, writer: Writer) -> None:
        self._application = application
        self._writer = writer
        self._running: set[asyncio.Task[None]] = set()

    def describe(self, connection: sa.Connection) -> VaultStatus:
        """See `api.services.KeyDesk.describe`."""
        return self._application.rotations.describe(connection, rotations_max=100)

    def list_unreadable_rows(self) -> list[UnreadableRow]:
        """See `api.services.KeyDesk.list_unreadable_rows`."""
        return list(self._application.vault.unreadable_rows)

    def begin(self, connection: sa.Connection, scope: str, *, by: Actor) -> Rotation:
        """See `api.services.KeyDesk.begin`."""
        known = [each.id for each in self._application.accounts.list_organizations(connection)]
        if scope not in (EVERY_KEY, PLATFORM_KEY, *known):
            raise AccountNotFoundError("There is no such organization.", param="scope")
        return self._application.rotations.begin_keys(connection, scope, by=by)

    def carry_on(self, rotation: Rotation, *, by: Actor) -> None:
        """See `api.services.KeyDesk.carry_on`."""
        if not self._running:
            task = asyncio.create_task(self._run(rotation, by))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, rotation: Rotation, by: Actor) -> None:
        loop = asyncio.get_running_loop()

        async def write(work: Callable[[sa.Connection], Any]) -> Any:
            return await self._writer.call(work)

        def commit(work: Callable[[sa.Connection], Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(write(work), loop).result()

        rotator = Rotator(
            self._application.rotations,
            reading=self._application.database.reading,
            commit=commit,
        )
        try:
            failed = await asyncio.to_thread(rotator.rotate_keys, rotation.scope, by=by)
        except HeadgateError as error:
            log.warning("vault.rotation_broken_off", rotation=rotation.id, error=error.message)
            return
        log.info("vault.rotation_ended", rotation=rotation.id, failed=failed)
