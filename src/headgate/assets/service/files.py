"""Read the files of uploads and write their objects; find the files that anybody may have."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator

from headgate.assets.model.asset import (
    ALT_CHARACTERS_MAX,
    EXPIRY_SECONDS_MAX,
    ID,
    Asset,
    AssetUpload,
    check_slug,
)
from headgate.assets.model.errors import InvalidAssetError, TooManyUploadsError
from headgate.assets.model.media_type import MediaType, choose_type, find_by_name, normalize
from headgate.assets.model.owner import Owner
from headgate.assets.service.assets import AssetService, StoredUpload, missing, name_folder
from headgate.assets.service.objects import ObjectStorage
from headgate.assets.service.sources import SourceFile, SourceReader, check_size
from headgate.audit.model import Actor
from headgate.kit.db.async_database import AsyncDatabase

STEM_CHARACTERS_MAX = 100
DIGEST_CHARACTERS = 12
UPLOADS_MAX = 16
"""Uploads at a time; each holds its file in memory."""
ORGANIZATION_UPLOADS_MAX = 4
"""Of one organization: a slow source takes a minute, and others must not wait for it."""


class AssetFiles:
    """Move the files of assets. `base_url` is where this server is reached, for addresses that are
    given to a caller who has none."""

    def __init__(
        self,
        assets: AssetService,
        storage: ObjectStorage,
        database: AsyncDatabase,
        sources: SourceReader,
        *,
        base_url: str,
    ) -> None:
        self.base_url = base_url
        self._assets = assets
        self._storage = storage
        self._database = database
        self._sources = sources
        self._uploads: Counter[str] = Counter()

    async def upload(self, owner: Owner, upload: AssetUpload, *, by: Actor) -> Asset:
        """Store an asset.

        Raise what is in `assets.model.errors`, `HandleNotFoundError`, `UnsafeOutboundUrlError` and
        `AccountNotFoundError`.
        """
        stored = await self.receive(owner, upload)
        store = functools.partial(self._assets.store, stored=stored, by=by)
        return await self._database.write(store)

    async def receive(self, owner: Owner, upload: AssetUpload) -> StoredUpload:
        """Read and check the file of an upload, and write its object. It is deleted in an hour
        unless `AssetService.store` makes it an asset. Raise as `upload`."""
        check_fields(upload)
        async with self._taking_part(owner.organization_id):
            file = await self._sources.read(owner, upload)
            media_type = check_file(upload, file)
            size = len(file.content)
            digest = hashlib.sha256(file.content).hexdigest()
            slug = upload.slug or name_file(file, media_type, digest)
            stored = StoredUpload(
                owner_organization_id=owner.organization_id,
                owner_project_id=owner.project_id,
                slug=slug,
                is_named=upload.slug is not None,
                upload=upload,
                media_type=media_type.name,
                bytes=size,
                sha256=digest,
                object_key=f"{name_folder(owner.organization_id)}{secrets.token_hex(16)}",
            )

            announce = functools.partial(self._assets.announce, stored=stored)
            if await self._database.write(announce):
                await self._storage.put(stored.object_key, file.content)
        return stored

    async def find_public(self, asset_id: str, slug: str) -> Asset:
        """Return an asset for anybody who knows its address. Raise `AssetNotFoundError`."""
        if not ID.fullmatch(asset_id):
            raise missing()
        asset = await self._database.read(
            lambda connection: self._assets.find_current(connection, asset_id)
        )
        if asset is None or asset.slug != slug:
            raise missing()
        return asset

    async def open(self, asset: Asset, part: tuple[int, int] | None = None) -> AsyncIterator[bytes]:
        """Return the pieces of the content, or of its bytes from the first to before the second
        number. Raise `AssetNotFoundError` and `ObjectStorageError`."""
        pieces = await self._storage.open(asset.object_key, part)
        if pieces is None:
            raise missing()
        return pieces

    @contextlib.asynccontextmanager
    async def _taking_part(self, organization_id: str) -> AsyncGenerator[None]:
        uploads = self._uploads
        if uploads.total() >= UPLOADS_MAX or uploads[organization_id] >= ORGANIZATION_UPLOADS_MAX:
            raise TooManyUploadsError(
                f"{uploads.total()} uploads are being handled, {uploads[organization_id]} of them "
                "of this organization. Try again in a second.",
                retry_after_seconds=1.0,
            )
        uploads[organization_id] += 1
        try:
            yield
        finally:
            uploads[organization_id] -= 1
            if not uploads[organization_id]:
                del uploads[organization_id]


def check_fields(upload: AssetUpload) -> None:
    """Raise `InvalidAssetError` for what can be told without reading the file."""
    upload.find_source()
    if upload.slug is not None:
        check_slug(upload.slug)
    if upload.alt is not None and len(upload.alt) > ALT_CHARACTERS_MAX:
        raise InvalidAssetError(f"`alt` has at most {ALT_CHARACTERS_MAX} characters.", param="alt")
    seconds = upload.expires_in_seconds
    if seconds is not None and not 1 <= seconds <= EXPIRY_SECONDS_MAX:
        raise InvalidAssetError(
            f"An asset expires in 1 to {EXPIRY_SECONDS_MAX} seconds.", param="expires_in_seconds"
        )


def check_file(upload: AssetUpload, file: SourceFile) -> MediaType:
    """Return the type of a file. Raise `InvalidAssetError`, `MediaTypeError` and
    `AssetTooLargeError`."""
    if not file.content:
        raise InvalidAssetError("The file is empty.", param=upload.find_source())
    claims = (
        (normalize(upload.media_type or ""), "media_type"),
        (find_by_name(upload.slug or ""), "The extension of the slug"),
        (normalize(file.claimed), "The source"),
    )
    media_type = choose_type(file.content, claims)
    check_size(len(file.content), media_type.bytes_max, f"A file of type {media_type.name}")
    return media_type


def name_file(file: SourceFile, media_type: MediaType, digest: str) -> str:
    """Return the slug of a file whose caller chose none. The same file gets the same slug, and
    another file another one."""
    stem, _, extension = file.name.rpartition(".")
    if not stem or find_by_name(file.name) != media_type.name:
        stem, extension = "file", media_type.extensions[0]
    return f"{stem[:STEM_CHARACTERS_MAX]}-{digest[:DIGEST_CHARACTERS]}.{extension}"
