"""Keep objects in a local folder or in a bucket, by obstore. Imported when the first is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from headgate.assets.model.errors import ObjectStorageError
from headgate.assets.model.storage import StorageConfig
from headgate.kit.disk import flush, flush_entries

CHUNK_BYTES = 64 * 1024
TIMEOUT = "20s"
RETRIES_MAX = 3
REASON_CHARACTERS_MAX = 300
FAILURES = (BaseError, OSError, ValueError)
"""What the library raises, and the disk below it."""

log = structlog.get_logger(__name__)


class ObjectStore:
    """Keep objects by their keys. Methods raise `ObjectStorageError`."""

    def __init__(self, config: StorageConfig) -> None:
        self._folder = folder = config.folder
        self._store: LocalStore | S3Store
        try:
            self._store = open_bucket(config) if folder is None else open_folder(folder)
        except FAILURES as error:
            raise _fail("open", config.url, error) from None

    async def put(self, key: str, content: bytes) -> None:
        """Write an object whole. It is on the disk, or in the bucket, on return."""
        try:
            await obstore.put_async(self._store, key, content, use_multipart=False)
            if self._folder is not None:
                await asyncio.to_thread(flush_object, self._folder / key, self._folder)
        except FAILURES as error:
            raise _fail("put", key, error) from None

    async def open(
        self, key: str, part: tuple[int, int] | None = None
    ) -> AsyncIterator[bytes] | None:
        """Return the pieces of an object, or of its bytes from the first to before the second
        number; None if it is missing."""
        options: Any = {} if part is None else {"range": part}
        try:
            found = await obstore.get_async(self._store, key, options=options)
        except FileNotFoundError:
            return None
        except FAILURES as error:
            raise _fail("get", key, error) from None
        return _stream(found, key)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. One that is missing is no error."""
        for key in keys:
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                continue
            except FAILURES as error:
                raise _fail("delete", key, error) from None


def open_folder(folder: Path) -> LocalStore:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(folder, automatic_cleanup=True)


def open_bucket(config: StorageConfig) -> S3Store:
    """Open a bucket. What the configuration leaves out comes from where the machine has it, such as
    its role."""
    given = {
        "access_key_id": config.access_key_id,
        "secret_access_key": config.secret_access_key,
        "session_token": config.session_token,
        "region": config.region,
        "endpoint": config.endpoint,
    }
    options: Any = {
        "config": {name: value for name, value in given.items() if value},
        "client_options": {
            "timeout": TIMEOUT,
            "allow_http": (config.endpoint or "").startswith("http://"),
        },
        "retry_config": {"max_retries": RETRIES_MAX},
    }
    return S3Store.from_url(config.url, **options)


def flush_object(path: Path, folder: Path) -> None:
    """Write a file below a folder to the disk."""
    flush(path)
    flush_entries([path], folder)


async def _stream(found: obstore.GetResult, key: str) -> AsyncIterator[bytes]:
    try:
        async for piece in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)
    except FAILURES as error:
        raise _fail("get", key, error) from None


def _fail(what: str, key: str, error: Exception) -> ObjectStorageError:
    # The first line only: the others describe structures of the library.
    reason = str(error).partition("\n")[0][:REASON_CHARACTERS_MAX]
    log.error("assets.storage_failed", operation=what, key=key, reason=reason)
    return ObjectStorageError(
        "The store of files does not answer, or refuses. Try again later.",
        retry_after_seconds=5.0,
    )
