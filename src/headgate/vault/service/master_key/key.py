"""The master key, and the check value by which the right one is recognized."""

from __future__ import annotations

from typing import Protocol

import msgspec
import sqlalchemy as sa

from headgate.kit import crypto
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.vault.model.keys import (
    MasterKeyRecord,
    MasterKeyState,
)
from headgate.vault.store import keys as key_store

LOCAL = "local"
_CHECK_PLAINTEXT = b"headgate master key"
_CHECK_BOUND_TO = crypto.encode_fields("headgate.master_key_check.1")


class Provenance(msgspec.Struct, frozen=True):
    """Describe where a master key comes from; `wrapped` is its material as a key service sealed
    it."""

    provider: str = LOCAL
    key_name: str | None = None
    wrapped: bytes | None = None


class MasterKey(Protocol):
    id: str
    provenance: Provenance

    def wrap(self, material: bytes, *, bound_to: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, *, bound_to: bytes) -> bytes:
        """Open key material. Raise `BrokenSealError`."""
        ...

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 bytes that only who has this key can derive, the same for each purpose."""
        ...


class LocalMasterKey:
    """Hold a master key in memory, whatever its source."""

    def __init__(self, material: bytes, provenance: Provenance | None = None) -> None:
        self._key = SecretKey(material)
        self.id = self._key.id.hex()
        self.provenance = provenance or Provenance()

    def wrap(self, material: bytes, *, bound_to: bytes) -> bytes:
        return crypto.seal(self._key, material, bound_to=bound_to)

    def unwrap(self, wrapped: bytes, *, bound_to: bytes) -> bytes:
        return crypto.open_box(self._key, wrapped, bound_to=bound_to)

    def derive(self, purpose: bytes) -> bytes:
        return crypto.derive_bytes(self._key, purpose)


def store_master_key(
    connection: sa.Connection,
    key: MasterKey,
    *,
    now: float,
    state: MasterKeyState = MasterKeyState.ACTIVE,
) -> None:
    """Store a check value that only this key opens; do nothing if it is stored already."""
    if key.id in key_store.select_master_keys(connection):
        return
    record = MasterKeyRecord(
        id=key.id,
        check_value=key.wrap(_CHECK_PLAINTEXT, bound_to=_CHECK_BOUND_TO),
        created_at=now,
        provider=key.provenance.provider,
        key_name=key.provenance.key_name,
        wrapped=key.provenance.wrapped,
        state=state,
        seals=1,
    )
    key_store.insert_master_key(connection, record)


def matches(key: MasterKey, record: MasterKeyRecord | None) -> bool:
    if record is None:
        return False
    try:
        return key.unwrap(record.check_value, bound_to=_CHECK_BOUND_TO) == _CHECK_PLAINTEXT
    except BrokenSealError:
        return False


def list_known(connection: sa.Connection) -> dict[str, MasterKeyRecord]:
    """Return the master keys of this database; empty if it was never set up."""
    return key_store.select_master_keys(connection) if key_store.has_tables(connection) else {}
