"""Put content aside for an hour, and read it again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from headgate.assets.model.errors import ObjectStorageError
from headgate.assets.model.handle import (
    NAME_CHARACTERS_MAX,
    TYPE_CHARACTERS_MAX,
    HandleContent,
    HandleInfo,
    HandleLimitError,
    HandleNotFoundError,
    StoredHandle,
)
from headgate.assets.model.owner import Owner
from headgate.assets.service.objects import ObjectStorage
from headgate.assets.store import handles as store
from headgate.kit import crypto
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.db.async_database import AsyncDatabase
from headgate.vault.service import Sealer

SECONDS = 3_600.0
CONTENT_BYTES_MAX = 32 * 1024 * 1024
"""The largest content of one handle."""

log = structlog.get_logger(__name__)


class Handles:
    """Keep content of one project, sealed under the key of its organization, until it expires.

    A handle is not a password: whoever reads must belong to the project as well.
    """

    def __init__(
        self,
        storage: ObjectStorage,
        database: AsyncDatabase,
        sealer: Callable[[], Sealer],
        clock: Clock,
        *,
        bytes_max: int,
    ) -> None:
        """`bytes_max` is for all handles of one project together."""
        self._storage = storage
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self._bytes_max = bytes_max

    async def put(self, caller: Owner, content: bytes, media_type: str, name: str) -> HandleInfo:
        """Keep content for the caller's project. Raise `HandleLimitError`, `ObjectStorageError` and
        `StorageUnavailableError`."""
        if len(content) > CONTENT_BYTES_MAX:
            raise HandleLimitError(
                f"The content has {len(content)} bytes; a handle keeps {CONTENT_BYTES_MAX} at most."
            )

        def store_handle(connection: sa.Connection) -> tuple[StoredHandle, SecretKey]:
            now = self._clock.now()
            used = store.sum_bytes(connection, caller.project_id, now)
            if used + len(content) > self._bytes_max:
                raise HandleLimitError(
                    f"The handles of this project keep {used} bytes of {self._bytes_max} allowed. "
                    "Each ends an hour after it was made."
                )
            organization_id = caller.organization_id
            key_id, key = self._sealer().current_key(connection, organization_id)
            handle_id = f"hdl_{secrets.token_hex(16)}"
            handle = StoredHandle(
                id=handle_id,
                organization_id=organization_id,
                project_id=caller.project_id,
                name=name[:NAME_CHARACTERS_MAX],
                media_type=media_type[:TYPE_CHARACTERS_MAX],
                bytes=len(content),
                object_key=f"handles/{organization_id}/{handle_id}",
                key_id=key_id,
                created_at=now,
                expires_at=now + SECONDS,
            )
            store.insert(connection, handle)
            return handle, key

        handle, key = await self._database.write(store_handle)
        bound_to = bind_handle(handle)
        sealed = await asyncio.to_thread(crypto.seal_envelope, key, content, bound_to=bound_to)
        try:
            await self._storage.put(handle.object_key, sealed)
        except ObjectStorageError:
            # A store that is down for a while must not use up the limit for an hour.
            await self._database.write(
                lambda connection: store.expire(connection, handle.id, self._clock.now())
            )
            raise
        return handle.info

    async def read(
        self, caller: Owner, handle_id: str, offset: int = 0, limit: int | None = None
    ) -> HandleContent:
        """Return `limit` bytes of the content from `offset` on, or all of it. Raise
        `HandleNotFoundError` and `ObjectStorageError`."""

        def find(connection: sa.Connection) -> tuple[StoredHandle, SecretKey | None]:
            handle = store.find(connection, caller.project_id, handle_id)
            if handle is None or handle.expires_at <= self._clock.now():
                raise _missing(handle_id)
            return handle, self._sealer().organization_keys(connection).get(handle.key_id)

        handle, key = await self._database.read(find)
        sealed = await self._storage.read(handle.object_key)
        if key is None or sealed is None:
            raise _missing(handle_id)
        bound_to = bind_handle(handle)
        try:
            content = await asyncio.to_thread(crypto.open_envelope, key, sealed, bound_to=bound_to)
        except BrokenSealError:
            log.error("assets.handle_unreadable", handle=handle.id)
            raise _missing(handle_id) from None
        end = len(content) if limit is None else offset + limit
        return HandleContent(info=handle.info, offset=offset, content=content[offset:end])

    async def get(self, caller: Owner, handle_id: str) -> tuple[HandleInfo, bytes]:
        """Return the content whole. Raise as `read`."""
        found = await self.read(caller, handle_id)
        return found.info, found.content


def bind_handle(handle: StoredHandle) -> bytes:
    """Return what the seal of the content is bound to."""
    return crypto.encode_fields(
        "headgate.handle.1",
        handle.organization_id,
        handle.project_id,
        handle.id,
        handle.key_id,
        handle.media_type,
    )


def _missing(handle_id: str) -> HandleNotFoundError:
    return HandleNotFoundError(
        f"There is no handle {handle_id[:64]!r} in this project, or it has expired. Run the tool "
        "again that gave it.",
        param="handle",
    )
