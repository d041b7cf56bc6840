"""Seals secrets under the key of their organization, and opens them."""

from __future__ import annotations

import contextlib

import msgspec
import sqlalchemy as sa
import structlog

from headgate.kit import crypto
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError, SecretKey
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Origin
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.keys import (
    MasterKeyReplacedError,
    MasterKeyState,
    OrganizationKeyRecord,
)
from headgate.vault.model.sealed_row import (
    McpSecretRow,
    PayloadRow,
    SealedCredential,
    SigningSecretRow,
    WebhookSecretRow,
)
from headgate.vault.service.master_key import MasterKey, MasterKeySource
from headgate.vault.store import keys as key_store

FIELD = "secret"
SEALS_ALARM = 2**31
SEALS_MAX = 2**32 - 2**20
"""A key must seal less than 2^32 times (NIST SP 800-38D 8.3: random nonces of 96 bits), so a new
key is created before that."""

log = structlog.get_logger(__name__)


class _Opened(msgspec.Struct, frozen=True):
    organization_id: str | None
    wrapped: bytes
    key: SecretKey

    def __repr__(self) -> str:
        return "_Opened()"


class Sealer:
    """Seal in three layers: the master key wraps organization keys, which wrap a key per secret.

    A seal authenticates organization, record, field, key, number of the seal, and the origin that
    the secret may be sent to. Moved to another row or address, or restored from an older copy of
    its row, it does not open.

    Opened organization keys stay in memory when another process replaces the master key; the new
    master key is loaded from `source` if it is found there.
    """

    def __init__(
        self, master_key: MasterKey, clock: Clock, source: MasterKeySource | None = None
    ) -> None:
        self.master_key = master_key
        self._clock = clock
        self._source = source
        self._opened: dict[str, _Opened] = {}
        self._listed: frozenset[str] = frozenset()
        self.is_outdated = False
        """Whether the database is under a master key that this process does not have."""

    def organization_keys(self, connection: sa.Connection) -> dict[str, SecretKey]:
        """Return all organization keys by id, except those that the master key does not open."""
        self.refresh_master_key(connection)
        keys: dict[str, SecretKey] = {}
        records = list(key_store.select_organization_keys(connection))
        for record in records:
            with contextlib.suppress(BrokenSealError):
                keys[record.id] = self.open_key(record)
        listed = frozenset(record.id for record in records)
        for key_id in self._listed - listed:
            self._opened.pop(key_id, None)
        self._listed = listed
        return keys

    def current_key(
        self, connection: sa.Connection, organization_id: str | None, *, seals: int = 1
    ) -> tuple[str, SecretKey]:
        """Return id and key that an organization (None: the platform) seals under now.

        Create a key if there is none or the newest has sealed too often. Count `seals` more seals.
        Raise `BrokenSealError` and `MasterKeyReplacedError`.
        """
        newest: OrganizationKeyRecord | None = None
        for record in key_store.select_sealing_keys(connection, organization_id):
            newest = record
        if newest is None or newest.seals + seals > SEALS_MAX:
            key_id, key = self._make_key(connection, organization_id)
        else:
            key_id, key = newest.id, self.open_key(newest)
            if newest.seals + seals >= SEALS_ALARM:
                log.warning("vault.key_worn", key=key_id, seals=newest.seals + seals)
        key_store.count_organization_seals(connection, key_id, seals=seals)
        return key_id, key

    def open_key(self, record: OrganizationKeyRecord) -> SecretKey:
        """Unwrap an organization key. Raise `BrokenSealError`.

        An opened key is taken from memory if its wrapped form is unchanged, or is under a master
        key that this process does not have.
        """
        known = self._opened.get(record.id)
        if known is not None and known.organization_id == record.organization_id:
            is_foreign = record.master_key_id != self.master_key.id
            if is_foreign or known.wrapped == record.wrapped:
                return known.key
        key = SecretKey(self.master_key.unwrap(record.wrapped, bound_to=bind_key(record)))
        self._opened[record.id] = _Opened(record.organization_id, record.wrapped, key)
        return key

    def refresh_master_key(self, connection: sa.Connection) -> None:
        active = key_store.select_active_master_keys(connection)
        if self.master_key.id in active or not active:
            self.is_outdated = False
            return
        reason = "there is none"
        try:
            found = self._source.find(connection) if self._source is not None else None
        except HeadgateError as error:
            found, reason = None, error.message
        if found is None:
            self.is_outdated = True
            log.warning("vault.master_key_replaced", key=self.master_key.id, reason=reason)
            return
        log.info("vault.master_key_reloaded", key=found.id)
        self.master_key = found
        self.is_outdated = False

    def _make_key(
        self, connection: sa.Connection, organization_id: str | None
    ) -> tuple[str, SecretKey]:
        if key_store.lock_master_key(connection, self.master_key.id) is not MasterKeyState.ACTIVE:
            raise MasterKeyReplacedError(
                "Another process replaced the master key, so this one creates no keys. Restart it "
                "with the new one."
            )
        key = SecretKey.generate()
        record = OrganizationKeyRecord(
            id=f"okey_{key.id.hex()}",
            organization_id=organization_id,
            master_key_id=self.master_key.id,
            wrapped=b"",
            created_at=self._clock.now(),
        )
        wrapped = self.master_key.wrap(key.material, bound_to=bind_key(record))
        values = key_store.flatten(msgspec.structs.replace(record, wrapped=wrapped))
        key_store.insert_organization_key(connection, values)
        key_store.count_master_seals(connection, self.master_key.id, seals=1)
        return record.id, key


def seal_secret(key: SecretKey, secret: str, record: SealedCredential) -> bytes:
    return crypto.seal_envelope(key, secret.encode(), bound_to=bind_credential(record))


def open_secret(key: SecretKey, sealed: bytes, record: SealedCredential) -> str:
    """Open the secret of a credential. Raise `BrokenSealError`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_credential(record)).decode()


def bind_credential(record: SealedCredential) -> bytes:
    """Return what a credential's seal is bound to. The first release did not count seals."""
    origin: Origin = parse_base_url(record.base_url)[0]
    fields = (record.organization_id or "", record.id, FIELD, record.key_id, str(origin))
    if record.seal_number == 0:
        return crypto.encode_fields("headgate.credential.1", *fields)
    return crypto.encode_fields("headgate.credential.2", *fields, str(record.seal_number))


def seal_webhook_secret(key: SecretKey, secret: str, record: WebhookSecretRow) -> bytes:
    return crypto.seal_envelope(key, secret.encode(), bound_to=bind_webhook_secret(record))


def open_webhook_secret(key: SecretKey, sealed: bytes, record: WebhookSecretRow) -> str:
    """Open the secret of a webhook endpoint. Raise `BrokenSealError`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_webhook_secret(record)).decode()


def bind_webhook_secret(record: WebhookSecretRow) -> bytes:
    return crypto.encode_fields(
        "headgate.webhook_secret.1",
        record.organization_id,
        record.endpoint_id,
        record.id,
        FIELD,
        record.key_id,
        str(record.seal_number),
    )


def seal_signing_secret(key: SecretKey, secret: str, record: SigningSecretRow) -> bytes:
    return crypto.seal_envelope(key, secret.encode(), bound_to=bind_signing_secret(record))


def open_signing_secret(key: SecretKey, sealed: bytes, record: SigningSecretRow) -> str:
    """Open the signing secret of an API key. Raise `BrokenSealError`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_signing_secret(record)).decode()


def bind_signing_secret(record: SigningSecretRow) -> bytes:
    return crypto.encode_fields(
        "headgate.signing_secret.1",
        record.organization_id,
        record.api_key_id,
        record.id,
        FIELD,
        record.key_id,
        str(record.seal_number),
    )


def seal_mcp_secret(key: SecretKey, secret: bytes, record: McpSecretRow) -> bytes:
    return crypto.seal_envelope(key, secret, bound_to=bind_mcp_secret(record))


def open_mcp_secret(key: SecretKey, sealed: bytes, record: McpSecretRow) -> bytes:
    """Open the headers of an MCP server, or a person's token. Raise `BrokenSealError`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_mcp_secret(record))


def bind_mcp_secret(record: McpSecretRow) -> bytes:
    return crypto.encode_fields(
        "headgate.mcp_server_secret.1",
        record.organization_id,
        record.server_id,
        record.person_id,
        record.id,
        FIELD,
        record.key_id,
        str(record.seal_number),
        record.origin,
    )


def bind_payload(row: PayloadRow) -> bytes:
    return crypto.encode_fields(
        "headgate.request_payload.1",
        row.organization_id,
        row.id,
        "payload",
        row.key_id,
        str(row.seal_number),
    )


def bind_key(record: OrganizationKeyRecord) -> bytes:
    owner = record.organization_id or ""
    return crypto.encode_fields("headgate.organization_key.1", owner, record.id)


def explain_unreadable(error: Exception) -> str:
    """Explain to the operator why a row does not open."""
    if isinstance(error, BrokenSealError):
        return (
            "its seal is broken: it was changed, put back from an older copy, or moved here from "
            "another row or address"
        )
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing, or does not open under this master key"
    return f"its address cannot be read ({error})"
