"""Delete expired assets and handles, and the objects that nothing names any more."""

from __future__ import annotations

import contextlib
import functools

import sqlalchemy as sa
import structlog

from headgate.assets.model.errors import AssetNotFoundError, ObjectStorageError
from headgate.assets.service import AssetService, ObjectStorage
from headgate.assets.store import assets, handles, removals
from headgate.audit.model import SYSTEM
from headgate.kit.clock import Clock
from headgate.kit.db.async_database import AsyncDatabase

INTERVAL_SECONDS = 60.0
STEP_ROWS = 100

log = structlog.get_logger(__name__)


class AssetCleaner:
    """Delete in small steps. Several processes may do so at once."""

    def __init__(
        self, service: AssetService, storage: ObjectStorage, database: AsyncDatabase, clock: Clock
    ) -> None:
        self._service = service
        self._storage = storage
        self._database = database
        self._clock = clock

    async def run(self) -> int:
        """Delete what is due; return the number of objects. Raise `StorageUnavailableError`."""
        has_more = True
        while has_more:
            has_more = await self._database.write(self._expire)
        total = 0
        while keys := await self._database.read(self._select_due):
            try:
                await self._storage.delete(keys)
            except ObjectStorageError:
                # Logged where it failed; the next run tries again.
                break
            total += len(keys)
            forget = functools.partial(removals.delete, object_keys=keys)
            await self._database.write(forget)
        if total:
            log.info("assets.objects_deleted", objects=total)
        return total

    def _expire(self, connection: sa.Connection) -> bool:
        """Return whether there may be more."""
        now = self._clock.now()
        expired = assets.select_expired(connection, now, limit=STEP_ROWS)
        for asset in expired:
            # Another process may have removed it in the meantime.
            with contextlib.suppress(AssetNotFoundError):
                self._service.remove(connection, asset, by=SYSTEM)
        keys = handles.delete_expired(connection, now, limit=STEP_ROWS)
        removals.insert(connection, keys, due_at=now)
        return STEP_ROWS in (len(expired), len(keys))

    def _select_due(self, connection: sa.Connection) -> list[str]:
        return removals.select_due(connection, self._clock.now(), limit=STEP_ROWS)
