"""Adds, changes and removes credentials. The caller commits; each change bumps the revision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import check_name
from headgate.audit.model import SYSTEM, Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import (
    DEADLINES,
    CredentialChange,
    CredentialNotFoundError,
    CredentialRecord,
    CredentialRequest,
)
from headgate.credentials.model.integration import Integration
from headgate.credentials.service.resolution import make_credential
from headgate.credentials.service.testing import CredentialTestResult
from headgate.credentials.service.validation import (
    CredentialValidator,
    check_capacity,
    check_deadline,
    check_provider_organization,
)
from headgate.credentials.store import credentials as credential_store
from headgate.credentials.store import listing
from headgate.credentials.store.listing import CredentialFilter
from headgate.kit.clock import Clock
from headgate.kit.crypto import BrokenSealError
from headgate.kit.http.guard import EgressRules
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import Credential
from headgate.vault.service import note_change
from headgate.vault.service.sealing import Sealer, open_secret, seal_secret
from headgate.vault.service.secrets import SecretService

FIELDS_OF_SECRET = ("base_url", "hint", "key_id", "seal_number", "source")
"""The fields that a new secret replaces."""
ENVIRONMENT_NAME = "environment"


class CredentialService:
    def __init__(
        self,
        sealer: Sealer,
        integrations: Mapping[str, Integration],
        *,
        egress_rules: EgressRules,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
    ) -> None:
        self._sealer = sealer
        self._integrations = integrations
        self._clock = clock
        self._ids = ids
        self._audit = audit
        secrets = SecretService(sealer, clock=clock, ids=ids, audit=audit)
        self._validator = CredentialValidator(
            secrets, integrations, egress_rules=egress_rules, clock=clock
        )

    def list(self, connection: sa.Connection) -> list[CredentialRecord]:
        """Return all credentials that were not removed, oldest first."""
        return [record for record, _ in credential_store.select_credentials(connection)]

    def find(self, connection: sa.Connection, credential: str) -> CredentialRecord:
        """Find a credential by its id, or by a name that only one has. Raise
        `CredentialNotFoundError`."""
        records = self.list(connection)
        found = [record for record in records if record.id == credential]
        found = found or [record for record in records if record.name == credential]
        if len(found) == 1:
            return found[0]
        many = f"{len(found)} credentials are named {credential!r}; give the id instead."
        raise CredentialNotFoundError(
            many if found else f"There is no credential {credential!r}.", param="credential"
        )

    def get(
        self,
        connection: sa.Connection,
        organization_id: str,
        credential_id: str,
        *,
        removed: bool = False,
    ) -> CredentialRecord:
        """Return a credential of this organization; with `removed`, also one that was removed.
        Raise `CredentialNotFoundError`, also for another organization's credential."""
        found = listing.find_credential(connection, organization_id, credential_id, removed=removed)
        if found is None:
            raise CredentialNotFoundError(f"There is no credential {credential_id!r}.")
        return found[0]

    def list_page(
        self, connection: sa.Connection, filters: CredentialFilter, *, limit: int, offset: int
    ) -> tuple[list[CredentialRecord], Mapping[tuple[str, str], int]]:
        """Return a page of credentials, newest first, and the total by integration and auth
        type."""
        records = listing.select_page(connection, filters, limit=limit, offset=offset)
        return records, listing.count_kinds(connection, filters)

    def add(
        self, connection: sa.Connection, request: CredentialRequest, *, by: Actor
    ) -> CredentialRecord:
        """Seal and store a new credential. Raise `InvalidCredentialError` and
        `InvalidNameError`."""
        note_change(connection)  # first: concurrent writers wait here, and then read this change
        record, sealed = self._seal(connection, request, self._ids.make("cred"), by=by)
        if record.is_default:
            credential_store.clear_default(
                connection, record.organization_id, integration=record.integration
            )
        credential_store.insert_credential(connection, record, sealed=sealed)
        fields = {
            "integration": record.integration,
            "name": record.name,
            "auth_type": record.auth_type,
            "base_url": record.base_url,
            "is_default": record.is_default,
        }
        self._record(connection, by, "credential.created", record, fields)
        return record

    def update(
        self,
        connection: sa.Connection,
        record: CredentialRecord,
        change: CredentialChange,
        *,
        by: Actor,
    ) -> CredentialRecord:
        """Change the given fields. None of them is bound into the seal, so the secret stays. Raise
        `InvalidCredentialError` and `InvalidNameError`."""
        values = {
            name: value
            for name in change.__struct_fields__
            if (value := getattr(change, name)) is not msgspec.UNSET
        }
        if "name" in values:
            values["name"] = check_name(values["name"])
        if "provider_organization" in values:
            check_provider_organization(values["provider_organization"])
        if "capacity" in values:
            check_capacity(values["capacity"])
        for name in DEADLINES:
            check_deadline(name, values.get(name))
        return self._store(connection, record, values, by=by)

    def replace_secret(
        self,
        connection: sa.Connection,
        record: CredentialRecord,
        request: CredentialRequest,
        *,
        by: Actor,
    ) -> CredentialRecord:
        """Replace the secret and its address; ignore the other fields of the request.

        At a new address the credential loses its `source`: it is no longer the operator's, so only
        addresses that everybody may reach are allowed. Raise `InvalidCredentialError`.
        """
        note_change(connection)
        is_moved = self._find_address(record, request) != record.base_url
        replacement = msgspec.structs.replace(
            request,
            organization_id=record.organization_id,
            integration=record.integration,
            auth_type=record.auth_type,
            secret_header=record.secret_header,
            name=record.name,
            source=request.source if is_moved else record.source,
            expires_at=None,
        )
        fresh, sealed = self._seal(
            connection, replacement, record.id, seals=record.seal_number, by=by
        )
        values = {name: getattr(fresh, name) for name in FIELDS_OF_SECRET}
        changed = msgspec.structs.replace(
            record, **values, updated_at=fresh.updated_at, version=record.version + 1
        )
        stored = {**values, "updated_at": changed.updated_at, "version": changed.version}
        credential_store.update_credential(connection, record.id, {**stored, "sealed": sealed})
        changes = {"base_url": changed.base_url}
        self._record(connection, by, "credential.replaced", record, changes)
        return changed

    def make_default(
        self, connection: sa.Connection, record: CredentialRecord, *, by: Actor
    ) -> CredentialRecord:
        """Make this credential the one for calls that name none, in place of the previous
        default."""
        note_change(connection)
        credential_store.clear_default(
            connection, record.organization_id, integration=record.integration
        )
        now, version = self._clock.now(), record.version + (2 if record.is_default else 1)
        values = {"is_default": True, "updated_at": now, "version": version}
        credential_store.update_credential(connection, record.id, values)
        self._record(connection, by, "credential.made_default", record)
        return msgspec.structs.replace(record, **values)

    def remove(self, connection: sa.Connection, record: CredentialRecord, *, by: Actor) -> None:
        """Delete the secret for good. The record stays, because receipts name it."""
        note_change(connection)
        now = self._clock.now()
        values = {"deleted_at": now, "updated_at": now, "sealed": None, "is_default": False}
        credential_store.update_credential(connection, record.id, values)
        self._record(connection, by, "credential.removed", record)

    def record_test(
        self,
        connection: sa.Connection,
        record: CredentialRecord,
        result: CredentialTestResult,
        *,
        by: Actor,
    ) -> None:
        fields = {"is_valid": result.is_valid, "status": result.status}
        self._record(connection, by, "credential.tested", record, fields)

    def prepare(
        self, connection: sa.Connection, request: CredentialRequest, *, by: Actor
    ) -> Credential:
        """Build the credential that a request describes, for a test, without storing it. Raise as
        `add`."""
        record, secret = self._validator.validate(connection, request, "", by=by)
        integration = self._integrations[record.integration]
        return make_credential(
            record, integration, self._validator.resolve(connection, request, secret)
        )

    def open(self, connection: sa.Connection, record: CredentialRecord) -> str:
        """Return the secret, or the reference in its place. Send it to the provider only. Raise
        `BrokenSealError`."""
        key = self._sealer.organization_keys(connection).get(record.key_id)
        if key is None:
            raise BrokenSealError
        sealed = {known.id: box for known, box in credential_store.select_credentials(connection)}
        return open_secret(key, sealed[record.id], record)

    def upsert_environment(
        self, connection: sa.Connection, request: CredentialRequest
    ) -> CredentialRecord:
        """Store the credential of the environment with the secret and address of this start. Write
        only if one of them changed. It becomes the default if there is no other default."""
        own = [
            record
            for record in self.list(connection)
            if record.organization_id == request.organization_id
            and record.integration == request.integration
        ]
        before = next((record for record in own if record.source == ENVIRONMENT_NAME), None)
        others = any(record.is_default for record in own if record is not before)
        request = msgspec.structs.replace(
            request, name=ENVIRONMENT_NAME, is_default=not others, source=ENVIRONMENT_NAME
        )
        if before is None:
            return self.add(connection, request, by=SYSTEM)
        if self._is_same(connection, before, request):
            return before
        record = self.replace_secret(connection, before, request, by=SYSTEM)
        if others or before.is_default:
            return record
        values = {"is_default": True}
        credential_store.update_credential(connection, record.id, values)
        return msgspec.structs.replace(record, **values)

    def _store(
        self,
        connection: sa.Connection,
        record: CredentialRecord,
        values: Mapping[str, Any],
        *,
        by: Actor,
    ) -> CredentialRecord:
        changed = {name: each for name, each in values.items() if getattr(record, name) != each}
        if not changed:
            return record
        note_change(connection)
        stored = {**changed, "updated_at": self._clock.now(), "version": record.version + 1}
        credential_store.update_credential(connection, record.id, stored)
        self._record(connection, by, "credential.updated", record, changed)
        return msgspec.structs.replace(record, **stored)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        record: CredentialRecord,
        changes: dict[str, Any] | None = None,
    ) -> None:
        event = AuditEvent(action, record.organization_id, record.id, changes or {})
        self._audit.record(connection, by, event)

    def _seal(
        self,
        connection: sa.Connection,
        request: CredentialRequest,
        credential_id: str,
        *,
        seals: int = 0,
        by: Actor,
    ) -> tuple[CredentialRecord, bytes]:
        """Validate and seal a credential that was sealed `seals` times before."""
        record, secret = self._validator.validate(connection, request, credential_id, by=by)
        key_id, key = self._sealer.current_key(connection, request.organization_id)
        record = msgspec.structs.replace(record, key_id=key_id, seal_number=seals + 1)
        return record, seal_secret(key, secret, record)

    def _find_address(self, record: CredentialRecord, request: CredentialRequest) -> str:
        return (request.base_url or self._integrations[record.integration].base_url).rstrip("/")

    def _is_same(
        self, connection: sa.Connection, before: CredentialRecord, request: CredentialRequest
    ) -> bool:
        if before.base_url != self._find_address(before, request):
            return False
        try:
            return self.open(connection, before) == request.secret
        except BrokenSealError:
            return False
