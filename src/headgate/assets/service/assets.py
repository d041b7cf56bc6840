"""Store, find and remove assets."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import AccountService
from headgate.assets.model.asset import Asset, AssetFilter, AssetUpload, AssetUsage
from headgate.assets.model.errors import AssetExistsError, AssetNotFoundError, AssetQuotaError
from headgate.assets.store import assets as store
from headgate.assets.store import removals
from headgate.audit.model import SYSTEM, Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock

ABANDONED_SECONDS = 3_600.0
"""After this time, an object that became no asset is deleted."""
REMOVAL_SECONDS = 3_600.0
"""How long the object of a removed asset stays: a backup that is being made may need it."""
WAITING_MAX = 1_000
"""How many objects of one organization may wait to be deleted: they count in no quota."""


class StoredUpload(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an upload whose object is written, and that is no asset yet.

    `is_named` is whether the caller chose the slug.
    """

    owner_organization_id: str
    owner_project_id: str
    slug: str
    is_named: bool
    upload: AssetUpload
    media_type: str
    bytes: int
    sha256: str
    object_key: str


class AssetService:
    """Manage the assets of projects. The caller commits."""

    def __init__(
        self,
        accounts: AccountService,
        clock: Clock,
        audit: AuditLog,
        maxima: AssetUsage,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._audit = audit
        self.maxima = maxima
        """The most that one organization may have."""

    def announce(self, connection: sa.Connection, stored: StoredUpload) -> bool:
        """Note an object that is about to be written, so that it is deleted if it becomes no asset.
        Return whether it has to be written at all. Raise as `store`."""
        before = self._check_room(connection, stored)
        if before is not None and is_same(before, stored):
            return False
        folder = name_folder(stored.owner_organization_id)
        if removals.count(connection, folder) >= WAITING_MAX:
            raise AssetQuotaError(
                f"{WAITING_MAX} files of this organization were replaced, removed or not finished "
                "within an hour, and are still kept. Wait until they are deleted."
            )
        due_at = self._clock.now() + ABANDONED_SECONDS
        removals.insert(connection, [stored.object_key], due_at=due_at)
        return True

    def store(self, connection: sa.Connection, stored: StoredUpload, *, by: Actor) -> Asset:
        """Make a written object an asset. Raise `AssetExistsError`,
        `AssetQuotaError` and `AccountNotFoundError`."""
        store.lock(connection)
        before = self._check_room(connection, stored)
        if before is not None and is_same(before, stored):
            return self._renew(connection, before, stored, by)
        if not removals.delete(connection, [stored.object_key]):
            raise AssetQuotaError("The upload took too long; its file was removed. Send it again.")
        asset = self._build(stored, before, by)
        if before is None:
            store.insert(connection, asset)
        else:
            store.replace(connection, asset)
            self._remove_object(connection, before)
        action = "asset.created" if before is None else "asset.replaced"
        self._record(connection, by, action, asset)
        return asset

    def find(self, connection: sa.Connection, filters: AssetFilter, asset_id: str) -> Asset:
        """Return an asset of an organization, by its id. Raise `AssetNotFoundError`."""
        asset = self.find_current(connection, asset_id)
        if (
            asset is None
            or asset.organization_id != filters.organization_id
            or (filters.among and asset.project_id not in filters.among)
        ):
            raise missing()
        return asset

    def find_named(self, connection: sa.Connection, project_id: str, slug: str) -> Asset | None:
        """Return the asset of a project that has this slug."""
        return store.find_slug(connection, project_id, slug)

    def list_page(
        self, connection: sa.Connection, filters: AssetFilter, *, limit: int, offset: int
    ) -> tuple[list[Asset], int]:
        """Return a page of assets, the newest first, and their total."""
        now = self._clock.now()
        page = store.select_page(connection, filters, now=now, limit=limit, offset=offset)
        return page, store.count(connection, filters, now=now)

    def measure(
        self, connection: sa.Connection, organization_id: str, among: Sequence[str] = ()
    ) -> AssetUsage:
        """Count the assets of an organization, or of some projects of it."""
        return store.sum_usage(connection, organization_id, among)

    def remove(self, connection: sa.Connection, asset: Asset, *, by: Actor) -> None:
        """Remove an asset. Nobody gets it any more; its object is deleted an hour later."""
        if not store.delete(connection, asset.id):
            raise missing()
        self._remove_object(connection, asset)
        event = AuditEvent("asset.removed", asset.organization_id, asset.id, {"slug": asset.slug})
        self._audit.record(connection, by, event)

    def find_current(self, connection: sa.Connection, asset_id: str) -> Asset | None:
        """Return an asset of anybody that has not expired."""
        asset = store.find(connection, asset_id)
        return None if asset is None or self._is_expired(asset) else asset

    def _check_room(self, connection: sa.Connection, stored: StoredUpload) -> Asset | None:
        """Return the asset that would be replaced, or is the same already. Raise as `store`."""
        organization_id = stored.owner_organization_id
        self._accounts.get_project(connection, organization_id, stored.owner_project_id)
        before = store.find_slug(connection, stored.owner_project_id, stored.slug)
        if before is not None and self._is_expired(before):
            self.remove(connection, before, by=SYSTEM)
            before = None
        if before is not None and not stored.upload.overwrite and not is_same(before, stored):
            raise AssetExistsError(
                f"This project has an asset {stored.slug!r} already. Choose another slug, or set "
                "overwrite to replace its content.",
                param="slug",
            )
        usage = store.sum_usage(connection, organization_id)
        size = usage.bytes + stored.bytes - (before.bytes if before else 0)
        if size > self.maxima.bytes:
            raise AssetQuotaError(
                f"The assets of this organization have {usage.bytes} bytes of "
                f"{self.maxima.bytes} allowed, and this file has {stored.bytes}."
            )
        if before is None and usage.count >= self.maxima.count:
            raise AssetQuotaError(
                f"This organization has {usage.count} assets, which is as many as it may have."
            )
        return before

    def _renew(
        self, connection: sa.Connection, asset: Asset, stored: StoredUpload, by: Actor
    ) -> Asset:
        """Let an asset that was sent again stay as long as either upload wants it to."""
        seconds = stored.upload.expires_in_seconds
        expires_at = None
        if seconds is not None and asset.expires_at is not None:
            expires_at = max(asset.expires_at, self._clock.now() + seconds)
        alt = asset.alt if stored.upload.alt is None else stored.upload.alt
        renewed = msgspec.structs.replace(asset, alt=alt, expires_at=expires_at)
        if renewed != asset:
            store.replace(connection, renewed)
            self._record(connection, by, "asset.replaced", renewed)
        return renewed

    def _build(self, stored: StoredUpload, before: Asset | None, by: Actor) -> Asset:
        now = self._clock.now()
        upload = stored.upload
        seconds = upload.expires_in_seconds
        alt = upload.alt
        if before is not None and alt is None:
            alt = before.alt
        return Asset(
            id=before.id if before else f"ast_{secrets.token_hex(16)}",
            organization_id=stored.owner_organization_id,
            project_id=stored.owner_project_id,
            slug=stored.slug,
            alt=alt,
            media_type=stored.media_type,
            bytes=stored.bytes,
            sha256=stored.sha256,
            object_key=stored.object_key,
            version=before.version + 1 if before else 1,
            created_by=before.created_by if before else by.id,
            created_at=before.created_at if before else now,
            updated_at=now,
            expires_at=None if seconds is None else now + seconds,
        )

    def _is_expired(self, asset: Asset) -> bool:
        return asset.expires_at is not None and asset.expires_at <= self._clock.now()

    def _record(self, connection: sa.Connection, by: Actor, action: str, asset: Asset) -> None:
        changes = {"slug": asset.slug, "media_type": asset.media_type, "bytes": asset.bytes}
        event = AuditEvent(action, asset.organization_id, asset.id, changes)
        self._audit.record(connection, by, event)

    def _remove_object(self, connection: sa.Connection, asset: Asset) -> None:
        due_at = self._clock.now() + REMOVAL_SECONDS
        removals.insert(connection, [asset.object_key], due_at=due_at)


def name_folder(organization_id: str) -> str:
    return f"assets/{organization_id}/"


def is_same(asset: Asset, stored: StoredUpload) -> bool:
    """Return whether an upload without a slug of its own is what the asset holds already: sent
    again, it is no conflict."""
    return not stored.is_named and asset.sha256 == stored.sha256 and not stored.upload.overwrite


def missing() -> AssetNotFoundError:
    return AssetNotFoundError("There is no such asset.")
