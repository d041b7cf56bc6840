"""Seals and opens the secrets of credentials under the key of their organization."""

from __future__ import annotations

import contextlib

import sqlalchemy as sa

from headgate.kit import crypto
from headgate.kit.clock import Clock
from headgate.kit.crypto import SealBroken, SecretKey
from headgate.kit.http.message import Origin
from headgate.vault import store
from headgate.vault.model import CredentialRecord, parse_base_url
from headgate.vault.service.master_key import MasterKey

FIELD = "secret"


class Sealer:
    """Three keys deep: the master key wraps an organization's, that one the secret's own.

    What a secret is bound to is authenticated: organization, record, field, key and the origin
    that it may be sent to. Moved to another row or address, it does not open.
    """

    def __init__(self, master_key: MasterKey, clock: Clock) -> None:
        self._master_key = master_key
        self._clock = clock

    def organization_keys(self, connection: sa.Connection) -> dict[str, SecretKey]:
        """Every organization key by its id, but for those that this master key does not open."""
        keys: dict[str, SecretKey] = {}
        for key_id, organization_id, wrapped in store.select_organization_keys(connection):
            with contextlib.suppress(SealBroken):
                keys[key_id] = self._unwrap(key_id, organization_id, wrapped)
        return keys

    def current_key(
        self, connection: sa.Connection, organization_id: str | None
    ) -> tuple[str, SecretKey]:
        """The newest key of an organization (None: the platform) and its id; made if there is none.

        Raises `SealBroken`.
        """
        newest: tuple[str, SecretKey] | None = None
        for key_id, owner, wrapped in store.select_organization_keys(connection):
            if owner == organization_id:
                newest = key_id, self._unwrap(key_id, owner, wrapped)
        return newest or self._make_key(connection, organization_id)

    def _unwrap(self, key_id: str, organization_id: str | None, wrapped: bytes) -> SecretKey:
        binding = _key_binding(key_id, organization_id)
        return SecretKey(self._master_key.unwrap(wrapped, bound_to=binding))

    def _make_key(
        self, connection: sa.Connection, organization_id: str | None
    ) -> tuple[str, SecretKey]:
        key = SecretKey.generate()
        key_id = f"okey_{key.id.hex()}"
        wrapped = self._master_key.wrap(
            key.material, bound_to=_key_binding(key_id, organization_id)
        )
        store.insert_organization_key(
            connection,
            {
                "id": key_id,
                "organization_id": organization_id,
                "master_key_id": self._master_key.id,
                "wrapped": wrapped,
                "created_at": self._clock.now(),
            },
        )
        return key_id, key


def seal_secret(key: SecretKey, secret: str, record: CredentialRecord) -> bytes:
    """The secret, sealed for this record."""
    return crypto.seal_envelope(key, secret.encode(), bound_to=bind_credential(record))


def open_secret(key: SecretKey, sealed: bytes, record: CredentialRecord) -> str:
    """The secret of this record. Raises `SealBroken`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_credential(record)).decode()


def bind_credential(record: CredentialRecord) -> bytes:
    """What the secret of a credential is bound to."""
    origin: Origin = parse_base_url(record.base_url)[0]
    return crypto.encode_fields(
        "headgate.credential.1",
        record.organization_id or "",
        record.id,
        FIELD,
        record.key_id,
        str(origin),
    )


def _key_binding(key_id: str, organization_id: str | None) -> bytes:
    return crypto.encode_fields("headgate.organization_key.1", organization_id or "", key_id)
