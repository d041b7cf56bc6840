"""The store of contents, opened when it is first used."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from headgate.assets.model.storage import StorageConfig
from headgate.kit.lazy import LazyLoader

IMPLEMENTATION = "headgate.assets.service.object_store"
"""Imported only when used: a start should not wait for its library."""


class Objects(Protocol):
    """Keep objects by their keys; `object_store.ObjectStore` implements it."""

    async def put(self, key: str, content: bytes) -> None: ...

    async def open(
        self, key: str, part: tuple[int, int] | None = None
    ) -> AsyncIterator[bytes] | None: ...

    async def delete(self, keys: Iterable[str]) -> None: ...


class ObjectStorage:
    """Keep objects by their keys. Methods raise `ObjectStorageError`."""

    def __init__(self, config: StorageConfig) -> None:
        self.config = config
        self._objects = LazyLoader(self._open)

    async def put(self, key: str, content: bytes) -> None:
        """Write an object whole. It is on the disk, or in the bucket, on return."""
        await (await self._objects.get()).put(key, content)

    async def open(
        self, key: str, part: tuple[int, int] | None = None
    ) -> AsyncIterator[bytes] | None:
        """Return the pieces of an object, or of its bytes from the first to before the second
        number; None if it is missing."""
        return await (await self._objects.get()).open(key, part)

    async def read(self, key: str) -> bytes | None:
        """Return an object whole; None if it is missing."""
        pieces = await self.open(key)
        return None if pieces is None else b"".join([piece async for piece in pieces])

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. One that is missing is no error."""
        await (await self._objects.get()).delete(keys)

    def _open(self) -> Objects:
        return importlib.import_module(IMPLEMENTATION).ObjectStore(self.config)
