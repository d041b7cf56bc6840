"""Replaces the master key and organization keys page by page, while calls go on.

Master key: each organization key is wrapped under the new master key and stored beside its present
form. When all are there, one short transaction activates the new key. Until that commit the old
master key opens everything, afterwards the new one does.

Organization keys: the old keys are retired, so that new seals use a new key. Then each secret is
sealed again, if its seal is still the one that was read. A key that no row names is deleted. Both
rotations resume from the state in the database, wherever they were interrupted. The caller commits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.errors import HeadgateError
from headgate.kit.failpoint import failpoint
from headgate.kit.ids import IdGenerator
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    MasterKeyRecord,
    MasterKeyState,
    OrganizationKeyRecord,
    Rotation,
    RotationConflictError,
    RotationKind,
    RotationState,
)
from headgate.vault.service.master_key import MasterKey, store_master_key
from headgate.vault.service.sealed_tables import BINDINGS, Row, reseal
from headgate.vault.service.sealing import SEALS_ALARM, Sealer, bind_key
from headgate.vault.store import keys as key_store
from headgate.vault.store import revision, sealed_rows
from headgate.vault.store import rotations as rotation_store

PAGE_ROWS = 50


class StagedPage(msgspec.Struct, frozen=True):
    """Hold a page of organization keys under the next master key; `last_id` is where to
    continue."""

    pairs: Sequence[tuple[OrganizationKeyRecord, bytes]]
    last_id: str | None


class ResealedPage(msgspec.Struct, frozen=True):
    """Hold a page of rows sealed again under `key_id`; `failed` of them do not open."""

    table: str
    key_id: str
    changes: Sequence[tuple[Row, dict[str, object]]]
    failed: int
    last_id: str | None


class KeyStatus(msgspec.Struct, frozen=True):
    """Describe an organization key: rows that name it, seals it made, and whether it is retired."""

    id: str
    organization_id: str | None
    master_key_id: str
    rows: int
    seals: int
    is_worn: bool
    is_retired: bool
    opens: bool


class VaultStatus(msgspec.Struct, frozen=True):
    master_keys: Sequence[MasterKeyRecord]
    keys: Sequence[KeyStatus]
    rotations: Sequence[Rotation]


class Rotations:
    def __init__(self, sealer: Sealer, clock: Clock, ids: IdGenerator, audit: AuditLog) -> None:
        self._sealer = sealer
        self._clock = clock
        self._ids = ids
        self._audit = audit

    def describe(self, connection: sa.Connection, *, rotations_max: int = 10) -> VaultStatus:
        """Return all keys and the newest rotations."""
        rows = sealed_rows.count_rows_by_key(connection)
        opened = self._sealer.organization_keys(connection)
        found = [
            KeyStatus(
                id=record.id,
                organization_id=record.organization_id,
                master_key_id=record.master_key_id,
                rows=rows.get(record.id, 0),
                seals=record.seals,
                is_worn=record.seals >= SEALS_ALARM,
                is_retired=record.retired_at is not None,
                opens=record.id in opened,
            )
            for record in key_store.select_organization_keys(connection)
        ]
        masters = list(key_store.select_master_keys(connection).values())
        return VaultStatus(
            masters, found, rotation_store.select_rotations(connection, limit=rotations_max)
        )

    @staticmethod
    def is_active(connection: sa.Connection, target: MasterKey) -> bool:
        return target.id in key_store.select_active_master_keys(connection)

    def begin_master(
        self, connection: sa.Connection, target: MasterKey, *, by: Actor
    ) -> Rotation | None:
        """Begin or resume the rotation to this key; None if it is active already. Raise
        `RotationConflictError`."""
        running = rotation_store.find_running_rotation(connection, RotationKind.MASTER)
        if running is not None:
            if running.scope == target.id:
                return running
            raise RotationConflictError(
                f"A rotation to the master key {running.scope} has begun, and this is {target.id}. "
                "Continue it with the command that began it, or cancel it with --abandon."
            )
        known = key_store.select_master_keys(connection).get(target.id)
        if known is not None and known.state is MasterKeyState.ACTIVE:
            return None
        if known is not None:
            raise RotationConflictError(
                f"The master key {target.id} was used before; give a new one."
            )
        now = self._clock.now()
        store_master_key(connection, target, now=now, state=MasterKeyState.PENDING)
        total = sum(1 for _ in key_store.select_organization_keys(connection))
        return self._begin(connection, RotationKind.MASTER, target.id, total, by)

    def stage(self, connection: sa.Connection, target: MasterKey, *, after: str) -> StagedPage:
        """Wrap the next page of organization keys under the target. Only read the database."""
        found = rotation_store.select_unstaged_keys(connection, after=after, limit=PAGE_ROWS)
        pairs: list[tuple[OrganizationKeyRecord, bytes]] = []
        for record in found:
            with contextlib.suppress(BrokenSealError):
                pairs.append((record, self._wrap(record, target)))
        return StagedPage(pairs, found[-1].id if found else None)

    def store_staged(
        self, connection: sa.Connection, rotation: Rotation, staged: StagedPage
    ) -> Rotation:
        done = sum(
            rotation_store.stage_organization_key(connection, record, wrapped)
            for record, wrapped in staged.pairs
        )
        key_store.count_master_seals(connection, rotation.scope, seals=done)
        return self._advance(connection, rotation, done)

    def activate_master(
        self, connection: sa.Connection, rotation: Rotation, target: MasterKey, *, by: Actor
    ) -> int:
        """Activate the new master key; return how many organization keys do not open. Raise
        `RotationConflictError` if another process ended the rotation."""
        now = self._clock.now()
        self._advance(connection, rotation, 0)
        for key_id in sorted(key_store.select_active_master_keys(connection)):
            # From here on no process can create a key under it: creating one locks this row first.
            key_store.set_master_key_state(
                connection, key_id, MasterKeyState.RETIRED, retired_at=now
            )
        failed, after = 0, ""
        while rest := rotation_store.select_unstaged_keys(connection, after=after, limit=PAGE_ROWS):
            after = rest[-1].id
            for record in rest:
                try:
                    wrapped = self._wrap(record, target)
                except BrokenSealError:
                    failed += 1
                    continue
                rotation_store.stage_organization_key(connection, record, wrapped)
        rotation_store.activate_staged_keys(connection, target.id)
        key_store.set_master_key_state(connection, target.id, MasterKeyState.ACTIVE)
        self._end(connection, rotation, failed, by)
        revision.note_change(connection)
        failpoint("rotation_switch")
        return failed

    def abandon_master(self, connection: sa.Connection, *, by: Actor) -> Rotation:
        """Cancel the running rotation of the master key. Raise `RotationConflictError`."""
        running = rotation_store.find_running_rotation(connection, RotationKind.MASTER)
        if running is None:
            raise RotationConflictError("No rotation of the master key is running.")
        rotation_store.drop_staged_keys(connection)
        key_store.delete_master_key(connection, running.scope)
        now = self._clock.now()
        rotation_store.end_rotation(
            connection, running.id, RotationState.ABANDONED, failed=0, now=now
        )
        event = AuditEvent("vault.rotation_abandoned", None, running.id, {"to": running.scope})
        self._audit.record(connection, by, event)
        return running

    def begin_keys(self, connection: sa.Connection, scope: str, *, by: Actor) -> Rotation:
        """Begin a rotation of the keys of `scope`, or return the one under way. Raise
        `RotationConflictError`."""
        running = rotation_store.find_running_rotation(connection, RotationKind.KEYS)
        if running is not None:
            if running.scope in (scope, EVERY_KEY):
                return running
            raise RotationConflictError(
                f"A rotation of the keys of {running.scope} has begun; end it first: "
                f"headgate vault rotate-keys --organization {running.scope}"
            )
        rotation_store.retire_organization_keys(connection, scope, now=self._clock.now())
        rows = sealed_rows.count_rows_by_key(connection)
        retired = key_store.select_retired_keys(connection)
        total = sum(rows.get(record.id, 0) for record in retired)
        return self._begin(connection, RotationKind.KEYS, scope, total, by)

    def list_retired(self, connection: sa.Connection) -> list[OrganizationKeyRecord]:
        return key_store.select_retired_keys(connection)

    def find_successor(
        self, connection: sa.Connection, retired: OrganizationKeyRecord
    ) -> tuple[str, SecretKey]:
        """Return the key that replaces a retired one; create it if there is none."""
        return self._sealer.current_key(connection, retired.organization_id, seals=0)

    def reseal(
        self,
        connection: sa.Connection,
        table: str,
        retired: OrganizationKeyRecord,
        successor: tuple[str, SecretKey],
        *,
        after: str,
    ) -> ResealedPage:
        """Seal the next page of a table again under the successor. Only read the database."""
        found = sealed_rows.select_sealed(
            connection, table, key_id=retired.id, after=after, limit=PAGE_ROWS
        )
        new_id, new = successor
        changes: list[tuple[Row, dict[str, object]]] = []
        failed = 0
        for row in found:
            try:
                old = self._sealer.open_key(retired)
                changes.append((row, reseal(table, row, old, new_id, new)))
            except (BrokenSealError, HeadgateError):
                failed += 1
        return ResealedPage(table, new_id, changes, failed, found[-1]["id"] if found else None)

    def store_resealed(
        self, connection: sa.Connection, rotation: Rotation, page: ResealedPage
    ) -> Rotation:
        """Store a resealed page, except for rows that were changed since they were read."""
        done = 0
        if key_store.count_organization_seals(connection, page.key_id, seals=len(page.changes)):
            done = sum(
                sealed_rows.replace_seal(connection, page.table, row, values)
                for row, values in page.changes
            )
        return self._advance(connection, rotation, done)

    def drop_key(
        self, connection: sa.Connection, rotation: Rotation, retired: OrganizationKeyRecord
    ) -> int:
        """Delete a retired key if no row names it; return how many rows do."""
        if keys_left := sealed_rows.count_rows_of_key(connection, retired.id):
            successor, _ = self.find_successor(connection, retired)
            forgotten = sum(
                sealed_rows.move_forgotten(connection, table, before=retired.id, after=successor)
                for table in BINDINGS
            )
            self._advance(connection, rotation, forgotten)
            keys_left -= forgotten
        if not keys_left:
            rotation_store.delete_organization_key(connection, retired.id)
        return keys_left

    def end_keys(
        self, connection: sa.Connection, rotation: Rotation, failed: int, *, by: Actor
    ) -> None:
        """End a rotation; `failed` rows do not open, and stay under their old key. Raise
        `RotationConflictError` if another process ended it."""
        self._advance(connection, rotation, 0)
        self._end(connection, rotation, failed, by)
        revision.note_change(connection)

    def _advance(self, connection: sa.Connection, rotation: Rotation, done: int) -> Rotation:
        failpoint("rotation_slice")
        advanced = rotation_store.advance_rotation(
            connection, rotation.id, done=done, now=self._clock.now()
        )
        if advanced is None:
            raise RotationConflictError(f"Another process has ended the rotation {rotation.id}.")
        return advanced

    def _wrap(self, record: OrganizationKeyRecord, target: MasterKey) -> bytes:
        key = self._sealer.open_key(record)
        return target.wrap(key.material, bound_to=bind_key(record))

    def _begin(
        self, connection: sa.Connection, kind: RotationKind, scope: str, total: int, by: Actor
    ) -> Rotation:
        now = self._clock.now()
        rotation = Rotation(
            id=self._ids.make("rot"),
            kind=kind,
            scope=scope,
            state=RotationState.RUNNING,
            done=0,
            total=total,
            failed=0,
            started_at=now,
            updated_at=now,
        )
        rotation_store.insert_rotation(connection, rotation)
        fields = {"kind": kind.value, "of": scope, "rows": total}
        self._record(connection, by, "vault.rotation_started", rotation, fields)
        return rotation

    def _end(self, connection: sa.Connection, rotation: Rotation, failed: int, by: Actor) -> None:
        now = self._clock.now()
        rotation_store.end_rotation(
            connection, rotation.id, RotationState.DONE, failed=failed, now=now
        )
        fields = {"kind": rotation.kind.value, "of": rotation.scope, "failed": failed}
        self._record(connection, by, "vault.rotation_ended", rotation, fields)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        rotation: Rotation,
        fields: dict[str, Any],
    ) -> None:
        is_own = rotation.kind is RotationKind.KEYS and rotation.scope not in (
            EVERY_KEY,
            PLATFORM_KEY,
        )
        owner = rotation.scope if is_own else None
        self._audit.record(connection, by, AuditEvent(action, owner, rotation.id, fields))
