"""Stored secrets: written, listed without their values, removed, and opened for credentials."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit import crypto
from headgate.kit.clock import Clock
from headgate.kit.crypto import SecretKey
from headgate.kit.http.message import Origin
from headgate.kit.ids import IdGenerator
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.secret import (
    BrokenReferenceError,
    InvalidSecretError,
    SecretNotFoundError,
    SecretRecord,
    SecretRequest,
    check_secret_name,
    check_secret_value,
    hint_secret,
)
from headgate.vault.service.sealing import FIELD, Sealer
from headgate.vault.store import revision
from headgate.vault.store import secrets as secret_store


class SecretService:
    """Manage stored secrets. The caller commits. Changes bump the revision of the credentials,
    because credentials may refer to a secret."""

    def __init__(self, sealer: Sealer, *, clock: Clock, ids: IdGenerator, audit: AuditLog) -> None:
        self._sealer = sealer
        self._clock = clock
        self._ids = ids
        self._audit = audit

    def put(self, connection: sa.Connection, request: SecretRequest, *, by: Actor) -> SecretRecord:
        """Store a secret, or replace the one of that name. Raise `InvalidSecretError`."""
        name = check_secret_name(request.name)
        value = check_secret_value(request.value)
        origin = _read_origin(request.base_url)
        now = self._clock.now()
        place = (request.organization_id, request.project_id)
        # First: concurrent writers wait here, and then read this change.
        revision.note_change(connection)
        before = secret_store.find_secret(connection, *place, name=name)
        record_id = self._ids.make("sec") if before is None else before[0].id
        changes = {
            "key_name": name,
            "project_id": request.project_id,
            "service_type": request.service_type,
            "origin": origin,
        }
        action = "secret.created" if before is None else "secret.replaced"
        self._audit.record(connection, by, AuditEvent(action, place[0], record_id, changes))
        key_id, key = self._sealer.current_key(connection, request.organization_id)
        record = SecretRecord(
            id=record_id,
            organization_id=request.organization_id,
            project_id=request.project_id,
            name=name,
            origin=origin,
            key_id=key_id,
            seal_number=1 if before is None else before[0].seal_number + 1,
            hint=hint_secret(value),
            service_type=request.service_type,
            description=request.description,
            created_by=by.id,
            created_at=now if before is None else before[0].created_at,
            updated_at=now,
        )
        sealed = seal_value(key, value, record)
        if before is None:
            secret_store.insert_secret(connection, record, sealed=sealed)
        else:
            secret_store.update_secret(connection, record, sealed=sealed)
        return record

    def list(
        self,
        connection: sa.Connection,
        organization_id: str,
        project_id: str | None,
        *,
        limit: int,
        offset: int,
    ) -> tuple[list[SecretRecord], int]:
        """Return a page of the secrets of a project, or of the organization, by name; and the
        total."""
        return secret_store.select_secrets(
            connection, organization_id, project_id, limit=limit, offset=offset
        )

    def remove(
        self,
        connection: sa.Connection,
        organization_id: str,
        project_id: str | None,
        *,
        name: str,
        by: Actor,
    ) -> SecretRecord:
        """Delete a secret for good. Credentials that refer to it become unusable. Raise
        `SecretNotFoundError`."""
        revision.note_change(connection)
        found = secret_store.find_secret(connection, organization_id, project_id, name=name)
        if found is None:
            raise SecretNotFoundError(f"There is no secret {name!r}.")
        record = found[0]
        event = AuditEvent("secret.removed", organization_id, record.id, {"key_name": name})
        self._audit.record(connection, by, event)
        secret_store.delete_secret(connection, record)
        return record

    def find_value(
        self,
        connection: sa.Connection,
        organization_id: str,
        *,
        name: str,
        integration_base_url: str,
        origin: Origin,
    ) -> str:
        """Return the value of an organization's secret, for that origin only. Raise
        `BrokenReferenceError` and `BrokenSealError`."""
        found = secret_store.find_secret(connection, organization_id, None, name=name)
        if found is None:
            raise BrokenReferenceError(explain_missing(name))
        record, sealed = found
        check_destination(record, integration_base_url, origin)
        keys = self._sealer.organization_keys(connection)
        if record.key_id not in keys:
            raise BrokenReferenceError(f"the secret {name!r} cannot be opened with this master key")
        return open_value(keys[record.key_id], sealed, record)


class ReferencedSecrets:
    """Find the stored secrets of organizations to which others refer. All are read with the first
    one that is asked for."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._stored: dict[tuple[str, str], tuple[SecretRecord, bytes]] | None = None

    @property
    def is_read(self) -> bool:
        """Return whether any secret was asked for."""
        return self._stored is not None

    def find(
        self, organization_id: str, name: str, *, integration_base_url: str, origin: Origin
    ) -> tuple[SecretRecord, bytes]:
        """Return a secret that may be sent to that origin, and its seal. Raise
        `BrokenReferenceError`."""
        if self._stored is None:
            stored = secret_store.select_organization_secrets(self._connection)
            self._stored = {(each[0].organization_id, each[0].name): each for each in stored}
        found = self._stored.get((organization_id, name))
        if found is None:
            raise BrokenReferenceError(explain_missing(name))
        check_destination(found[0], integration_base_url, origin)
        return found


def seal_value(key: SecretKey, value: str, record: SecretRecord) -> bytes:
    return crypto.seal_envelope(key, value.encode(), bound_to=bind_secret(record))


def open_value(key: SecretKey, sealed: bytes, record: SecretRecord) -> str:
    """Open the value of a stored secret. Raise `BrokenSealError`."""
    return crypto.open_envelope(key, sealed, bound_to=bind_secret(record)).decode()


def bind_secret(record: SecretRecord) -> bytes:
    """Return what the seal of a stored secret is bound to, among it the allowed origin."""
    return crypto.encode_fields(
        "headgate.secret.1",
        record.organization_id,
        record.project_id or "",
        record.id,
        FIELD,
        record.key_id,
        str(record.seal_number),
        record.name,
        record.origin,
    )


def check_destination(record: SecretRecord, integration_base_url: str, origin: Origin) -> None:
    """Raise `BrokenReferenceError` for a secret that must not be sent to that origin. It is empty
    for an integration without an address: a secret must name the one that it may be sent to."""
    allowed = record.origin or "no address"
    if not record.origin and integration_base_url:
        allowed = str(parse_base_url(integration_base_url)[0])
    if allowed != str(origin):
        raise BrokenReferenceError(
            f"the secret {record.name!r} may be sent to {allowed} only, not to {origin}; "
            "store it again with that base_url to allow it"
        )


def explain_missing(name: str) -> str:
    return f"it refers to the secret {name!r}, which does not exist"


def _read_origin(base_url: str | None) -> str:
    if base_url is None:
        return ""
    try:
        return str(parse_base_url(base_url.rstrip("/"))[0])
    except InvalidCredentialError as error:
        raise InvalidSecretError(error.message, param="base_url") from error
